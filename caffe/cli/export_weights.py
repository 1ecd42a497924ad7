"""`caffe export_weights -to ssd_pytorch -model deploy.prototxt -weights x.caffemodel -out x.safetensors`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import build_trained_net, only_look, set_up_log
from caffe.cli.weight_flags import add_conversion_flags, print_written, three_means
from caffe.errors import CaffeError

EPILOG = """
examples:
  caffe export_weights -to safetensors -weights mdssd300.caffemodel -out mdssd300.safetensors
  caffe export_weights -to torchvision_ssd300 -model models/SSD300/VOC/deploy.prototxt \\
      -weights SSD300_VOC.caffemodel -out ssd300.safetensors

A state dict is read there with model.load_state_dict(safetensors.torch.load_file("ssd300.safetensors")).
docs/weights.md says what is exact, and what differs.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("caffe export_weights", _command, argv)


def _command(argv: Sequence[str]) -> None:
    from caffe.interop.ssd_layouts import DETECTORS

    parser = FlagParser(
        prog="caffe export_weights",
        description="Writes a .caffemodel as the weights of another framework, a .safetensors file.",
        epilog=EPILOG,
    )
    parser.flag(
        "to", required=True, choices=("safetensors", *DETECTORS), metavar="NAME",
        help="safetensors (any weights, which import_weights reads back bit for bit), or an SSD's state dict: "
        + ", ".join(DETECTORS),
    )  # fmt: skip
    parser.flag("weights", aliases=WEIGHTS, required=True, help="the .caffemodel or .h5")
    parser.flag("out", required=True, help="the .safetensors file to write")
    add_conversion_flags(
        parser,
        model="the deploy prototxt of the SSD that the weights are of",
        scales="the default boxes of the other framework's model (default: by the number of classes)",
    )
    flags = parser.parse_args(argv)
    set_up_log(flags)
    mean = three_means(flags.mean_value)
    if flags.to == "safetensors":
        from caffe.interop.safetensors_file import to_safetensors

        notes = to_safetensors(flags.weights, flags.out)
    else:
        from safetensors.numpy import save_file

        from caffe.files import replacing
        from caffe.interop.detector import export_detector

        if not flags.model:
            raise CaffeError(
                f"-to {flags.to} needs the weights' net: -model models/SSD300/VOC/deploy.prototxt, or yours"
            )
        only_look(flags)
        net = build_trained_net(flags, 1)
        tensors, notes = export_detector(flags.to, net, mean, flags.scales or None)
        with replacing(flags.out) as temporary:
            save_file(tensors, temporary, {"format": "pt"})
    print_written(flags.out, notes)


if __name__ == "__main__":
    sys.exit(main())
