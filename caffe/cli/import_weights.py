"""`caffe import_weights -from torchvision_vgg16 -weights vgg16.pth -out x.caffemodel`: weights of other frameworks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import build_net, only_look, set_up_log
from caffe.cli.weight_flags import add_conversion_flags, print_written, three_means
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
    add_conversion_flags(
        parser,
        model="the deploy prototxt of the SSD that gets the weights",
        scales="the default boxes that the detector was trained with (default: by its number of classes)",
    )
    return parser


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
    print_written(flags.out, notes)


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
