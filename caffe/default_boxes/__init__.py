"""Measures how well a net's default boxes cover the objects of a data set, and proposes boxes that cover them better.

`layout.py` defines default boxes. `boxes_file.py` reads and writes them as a file. `net_layout.py` reads them from a
net. `objects.py` reads the objects of a data set. `reach.py` measures, `proposal.py` searches for better boxes with
`fit.py` and `candidates.py`, and `report.py` and `picture.py` present the results.
"""
