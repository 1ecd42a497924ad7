"""`caffe import_weights -from torchvision_vgg16 -weights vgg16.pth -out x.caffemodel`: weights of other frameworks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import accept_unused, add_allow_python, add_net_state, build_net, only_look, set_up_log
from caffe.errors import CaffeError

EPILOG = """
examples:
  caffe import_weights -from torchvision_vgg16 -weights vgg16-397923af.pth \\
      -out VGG_ILSVRC_16_layers_fc_reduced.caffemodel
  caffe import_weights -from ssd_pytorch -weights ssd300_mAP_77.43_v2.pth \\
      -model models/SSD300/VOC/deploy.prototxt -out SSD300_VOC.caffemodel
  caffe import_weights -from safetensors -weights net.safetensors -out net.caffemodel

The order, scale and mean of the other framework's images are built into the first convolution, so that the net takes
images as Caffe's do. Nothing in a file is executed. docs/weights.md says what is exact, and what differs.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("caffe import_weights", _command, argv)


def _parser() -> FlagParser:
    from caffe.interop.sources import TITLES

    width = max(map(len, TITLES))
    listed = "\n".join(f"  {name:<{width}}  {title}" for name, title in TITLES.items())
    parser = FlagParser(
        prog="caffe import_weights",
        description=f"Makes a .caffemodel from the weights of another framework.\n\n-from is one of\n{listed}",
        epilog=EPILOG,
    )
    parser.flag("from", dest="source", required=True, help="what the file is", choices=tuple(TITLES), metavar="NAME")
    parser.flag("weights", aliases=WEIGHTS, required=True, help="the file: .pth, .safetensors or Keras's .h5")
    parser.flag("out", required=True, help="the .caffemodel (or .caffemodel.h5) to write")
    parser.flag("model", default="", help="for detectors: the deploy prototxt of the SSD that gets the weights")
    parser.flag("mean_value", default="104,117,123", help="the mean of the net's images, blue, green, red")
    parser.flag(
        "scales", default="", choices=("voc", "coco"),
        help="the default boxes that the detector was trained with (default: by its number of classes)",
    )  # fmt: skip
    add_net_state(parser)
    add_allow_python(parser)
    accept_unused(parser)
    return parser


def three_means(text: str) -> list[float]:
    """The three numbers of -mean_value. Raises CaffeError for anything else."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise CaffeError(f"-mean_value '{text}': give three numbers from 0 to 255: blue,green,red, such as 104,117,123")
    return values


def _command(argv: Sequence[str]) -> None:
    flags = _parser().parse_args(argv)
    set_up_log(flags)
    mean = three_means(flags.mean_value)
    from caffe.interop.ssd_layouts import DETECTORS

    if flags.model and flags.source not in DETECTORS:
        raise CaffeError(f"-model is for detectors; -from {flags.source} needs none")
    if flags.source == "safetensors":
        from caffe.interop.safetensors_file import from_safetensors

        notes = from_safetensors(flags.weights, flags.out)
    elif flags.source in DETECTORS:
        notes = _import_detector(flags, mean, DETECTORS[flags.source])
    else:
        notes = _import_backbone(flags, mean)
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {flags.out}, {os.path.getsize(flags.out) / 1e6:.1f} MB")


def _import_detector(flags: Any, mean: Sequence[float], sizes: Any) -> list[str]:
    from caffe.engine.weights import save
    from caffe.interop.detector import import_detector
    from caffe.interop.sources import LAYOUTS

    if not flags.model:
        size = min(sizes)
        raise CaffeError(
            f"-from {flags.source} needs the net that gets the weights: -model models/SSD{size}/VOC/deploy.prototxt, or "
            "one made by prototxt_gen for your classes"
        )
    only_look(flags)
    net = build_net(flags, 1)
    notes = import_detector(flags.source, flags.weights, net, mean, flags.scales or None, LAYOUTS)
    save(net, flags.out)
    return notes


def _import_backbone(flags: Any, mean: Sequence[float]) -> list[str]:
    from caffe.interop.resnet101 import import_resnet101
    from caffe.interop.sources import LAYOUTS
    from caffe.interop.vgg16 import import_vgg16
    from caffe.proto import caffe_pb2
    from caffe.proto.weights import write_weights

    if flags.source == "torchvision_resnet101":
        layers, notes = import_resnet101(flags.weights, mean, LAYOUTS)
        name = "ResNet-101"
    else:
        layers, notes = import_vgg16(flags.source, flags.weights, mean, LAYOUTS)
        name = "VGG_ILSVRC_16_layers_fc_reduced"
    net = caffe_pb2.NetParameter(name=name)
    for layer in layers:
        net.layer.add(name=layer.name, type=layer.type)
    write_weights(flags.out, net, [layer.blobs for layer in layers])
    print(f"{len(layers)} layers: {layers[0].name} … {layers[-1].name}")
    return notes


if __name__ == "__main__":
    sys.exit(main())
