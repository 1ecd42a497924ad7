"""`draw_net net.prototxt picture.png`: draws a net's layers and blobs (the original's python/draw_net.py)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import draw
from caffe.cli.flags import FlagParser, run
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net

EPILOG = """
The file's extension gives the picture's type: .png, .svg, .pdf or another type of Graphviz's program dot, which must be
installed. A .dot file contains the graph's text and needs no program.

example:
  draw_net models/MDSSD300/VOC/train.prototxt mdssd300.svg --rankdir TB --phase TRAIN
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("draw_net", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="draw_net", description="Draws a net's layers and blobs as a graph.", epilog=EPILOG)
    parser.add_argument("input_net_proto_file", help="the net's prototxt")
    parser.add_argument("output_image_file", help="the picture to write")
    parser.flag("rankdir", default="LR", help="LR: left to right, TB: top to bottom, or RL, BT")
    parser.flag("phase", default="ALL", choices=("TRAIN", "TEST", "ALL"), help="draw the layers of one phase, or all")
    flags = parser.parse_args(argv)
    phase = None if flags.phase == "ALL" else caffe_pb2.Phase.Value(flags.phase)
    print(f"Drawing net to {flags.output_image_file}")
    draw.draw_net_to_file(read_net(flags.input_net_proto_file), flags.output_image_file, flags.rankdir, phase)


if __name__ == "__main__":
    sys.exit(main())
