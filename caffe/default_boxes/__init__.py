"""Default boxes and the objects of a data set: what boxes reach, and which would reach more.

`layout.py` is what default boxes are, `boxes_file.py` their file, `net_layout.py` reads them from a net, `objects.py`
the objects from a data set, `reach.py` measures, `proposal.py` searches, `report.py` and `picture.py` show.
"""
