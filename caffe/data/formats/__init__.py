"""Photographs and boxes in the layouts that people's folders have, read into one form.

One module per annotation format; `reading` chooses among them, `splitting` makes training and test sets, and
`voc_layout` writes what the other commands start from.
"""
