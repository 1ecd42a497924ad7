"""`caffe export_onnx -model deploy.prototxt -weights net.caffemodel -out net.onnx`: a net for other software."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from caffe.cli.flags import FlagParser, run
from caffe.cli.net_flags import (
    accept_unused,
    add_allow_python,
    add_net_state,
    build_net,
    load_weights,
    only_look,
    set_up_log,
)
from caffe.errors import CaffeError

EPILOG = """
The model takes any number of images of the prototxt's size and returns what the net returns, detections included:
decoding, non-maximum suppression and both limits (top_k, keep_top_k) are part of it. docs/onnx.md shows how to run it.

example:
  caffe export_onnx -model models/MDSSD300/VOC/deploy.prototxt -weights MDSSD300_VOC_iter_120000.caffemodel \\
      -out mdssd300.onnx
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("caffe export_onnx", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="caffe export_onnx", description="Writes a net as an ONNX model.", epilog=EPILOG)
    parser.flag("model", required=True, help="the deploy prototxt, whose first layer is of type Input")
    parser.flag("weights", required=True, help="its weights, .caffemodel or .h5; several separated by ','")
    parser.flag("out", required=True, help="the .onnx file to write")
    add_net_state(parser)
    add_allow_python(parser)
    accept_unused(parser)
    flags = parser.parse_args(argv)
    set_up_log(flags)
    try:
        from caffe.export.onnx_model import export_onnx
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "onnx":
            raise
        raise CaffeError("this command needs the package onnx (pip install onnx onnxruntime)") from None
    only_look(flags)
    net = build_net(flags, 1)
    load_weights(net, flags.weights)
    model = export_onnx(net, flags.out)
    shapes = ", ".join(
        f"{value.name} {' x '.join(d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)}"
        for value in (*model.graph.input, *model.graph.output)
    )
    print(f"wrote {flags.out}, {os.path.getsize(flags.out) / 1e6:.1f} MB: {shapes}")


if __name__ == "__main__":
    sys.exit(main())
