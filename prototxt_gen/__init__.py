"""The generators of MDSSD's and SSD's prototxts: `python prototxt_gen/mdssd300.py --help`.

`mdssd300.py`, `mdssd512.py`, `ssd300.py` and `ssd512.py` say what each network is; the other files are what they share.
"""
