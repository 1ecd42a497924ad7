"""The generators of MDSSD's and SSD's prototxts: `python prototxt_gen/mdssd300.py --help`.

`mdssd300.py`, `mdssd512.py`, `ssd300.py` and `ssd512.py` describe the networks; the other files are shared.
"""
