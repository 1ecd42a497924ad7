"""`caffe export_onnx -model deploy.prototxt -weights net.caffemodel -out net.onnx`: a net for other software."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caffe.cli.flags import FlagParser, boolean, number, run
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

if TYPE_CHECKING:
    from caffe.engine.net import Net

EPILOG = """
The model takes any number of images of the prototxt's size and returns what the net returns, detections included:
decoding, non-maximum suppression and both limits (top_k, keep_top_k) are part of it. docs/onnx.md shows how to run it.

example:
  caffe export_onnx -model models/MDSSD300/VOC/deploy.prototxt -weights MDSSD300_VOC_iter_120000.caffemodel \\
      -out mdssd300.onnx
  caffe export_onnx -model deploy.prototxt -weights x.caffemodel -out x_int8.onnx -int8 -calibrate trainval_lmdb
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("caffe export_onnx", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="caffe export_onnx", description="Writes a net as an ONNX model.", epilog=EPILOG)
    parser.flag("model", required=True, help="the deploy prototxt, whose first layer is of type Input")
    parser.flag("weights", required=True, help="its weights, .caffemodel or .h5; several separated by ','")
    parser.flag("out", required=True, help="the .onnx file to write")
    parser.flag(
        "half", default=False, type=boolean, help="store the weights as float16: half the size, computed in float32"
    )
    parser.flag("int8", default=False, type=boolean, help="compute convolutions in 8 bits, with ranges from -calibrate")
    parser.flag("calibrate", default="", help="with -int8: an LMDB of images like those that the model will see")
    parser.flag("images", default=100, type=number(int, 1), help="with -int8: how many of them to use")
    parser.flag("mean_value", default="104,117,123", help="with -int8: the mean of the net's images, blue, green, red")
    parser.flag(
        "keep_float", default="",
        help="with -int8: layers that stay in float32 besides the first convolution, separated by ','; 'heads': all that "
        "predict",
    )  # fmt: skip
    add_net_state(parser)
    add_allow_python(parser)
    accept_unused(parser)
    flags = parser.parse_args(argv)
    set_up_log(flags)
    _check(flags)
    import_onnx()
    from caffe.export.onnx_model import onnx_model, write

    only_look(flags)
    net = build_net(flags, 1)
    load_weights(net, flags.weights)
    model = onnx_model(net)
    if flags.int8:
        _write_int8(flags, net, model)
    else:
        if flags.half:
            from caffe.export.half import store_half

            store_half(model)
        write(model, flags.out)
    if "The batch is fixed" in model.doc_string:
        print(f"note: {model.doc_string.partition('The batch is fixed: ')[2].rstrip('.')}, so the batch is fixed")
    shapes = ", ".join(
        f"{value.name} {' x '.join(d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim)}"
        for value in (*model.graph.input, *model.graph.output)
    )
    print(f"wrote {flags.out}, {os.path.getsize(flags.out) / 1e6:.1f} MB: {shapes}")


def import_onnx() -> None:
    """Raises CaffeError, which says what to install, unless onnx and ONNX Runtime are there."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise CaffeError(f"this command needs the package {package} (pip install onnx onnxruntime)")


def _check(flags: argparse.Namespace) -> None:
    if flags.int8 and not flags.calibrate:
        raise CaffeError("-int8 needs images to measure ranges on: -calibrate trainval_lmdb")
    if flags.calibrate and not flags.int8:
        raise CaffeError("-calibrate is for -int8")
    if flags.int8 and flags.half:
        raise CaffeError("give -int8 or -half, not both")


def _write_int8(flags: argparse.Namespace, net: Net, model: Any) -> None:
    from caffe.export.lmdb_images import records
    from caffe.export.quantization import prediction_layers, quantize
    from caffe.image_detector import channel_means

    shape = tuple(net.blobs[net.inputs[0]].shape)
    if len(shape) != 4:
        raise CaffeError(
            f"-int8 needs images as input, N x C x H x W; '{net.inputs[0]}' is {' x '.join(map(str, shape))}"
        )
    more = [name for name in flags.keep_float.split(",") if name]
    if "heads" in more:
        more = [*(name for name in more if name != "heads"), *prediction_layers(net)]
    unknown = [name for name in more if name not in net.layer_names]
    if unknown:
        raise CaffeError(f"-keep_float {unknown[0]}: the net has no such layer")
    images = (
        record.data for record in records(flags.calibrate, shape[1:], channel_means(flags.mean_value), flags.images)
    )
    count = quantize(model, flags.out, images, more)
    print(f"{count} convolutions in INT8")


if __name__ == "__main__":
    sys.exit(main())
