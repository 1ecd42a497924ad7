"""Photographs and boxes in the layouts that people's folders have, read into one form.

One module per annotation format; `reading` chooses among them, `splitting` makes training and test sets, and
`voc_layout` writes what the other commands start from.
"""

#: the names of the formats; `reading.FORMATS` says what they are. Of two that annotate as many images, the first is used
FORMAT_NAMES = ("voc", "cvat", "coco", "labelme", "labelme_xml", "yolo", "csv")
