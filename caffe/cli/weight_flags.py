"""What `caffe import_weights` and `caffe export_weights` share: flags, the images' mean, what they print at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable

from caffe.cli.flags import FlagParser
from caffe.cli.net_flags import accept_unused, add_allow_python, add_net_state
from caffe.errors import CaffeError


def add_conversion_flags(parser: FlagParser, *, model: str, scales: str) -> None:
    """The flags from -model on; `model` and `scales` say whose net and whose default boxes are meant."""
    parser.flag("model", default="", help=f"for detectors: {model}")
    parser.flag("mean_value", default="104,117,123", help="the mean of the net's images, blue, green, red")
    parser.flag("scales", default="", choices=("voc", "coco"), help=scales)
    add_net_state(parser)
    add_allow_python(parser)
    accept_unused(parser)


def three_means(text: str) -> list[float]:
    """The three numbers of -mean_value. Raises CaffeError for anything else."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise CaffeError(f"-mean_value '{text}': give three numbers from 0 to 255: blue,green,red, such as 104,117,123")
    return values


def print_written(out: str, notes: Iterable[str]) -> None:
    """Prints what is to be known about a conversion, and the file that it wrote."""
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {out}, {os.path.getsize(out) / 1e6:.1f} MB")
