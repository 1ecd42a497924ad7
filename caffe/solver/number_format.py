"""Numbers as Caffe's log shows them, which log parsers expect."""

from __future__ import annotations


def ostream_number(value: float) -> str:
    """`value` as a C++ stream writes it: six significant digits, no trailing zeros (66.1113, 0.0004, 1e-05, nan)."""
    return f"{value:g}"


def loss_suffix(weight: float, value: float) -> str:
    """What follows an output that is a loss, ` (* 1 = 4.2 loss)`; nothing for any other output."""
    if not weight:
        return ""
    return f" (* {ostream_number(weight)} = {ostream_number(weight * value)} loss)"
