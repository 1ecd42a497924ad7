"""Controls of DSSD: its deconvolution modules with a sum for the product, or with a product that starts as the encoder.

A module multiplies the encoder's blob with one that comes from the deeper layers, both batch-normalized, so both have
a mean of 0. With random weights the deeper factor changes the encoder's sign and size at random.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caffe import log
from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net, to_text

#: the deviation of the deeper factor around 1, for each channel, at the start of `near_one`
_DEVIATION = 0.1


def use_sums(net: caffe_pb2.NetParameter) -> None:
    """Adds the two sides instead of multiplying them, which the DSSD paper also measures."""
    for product in products(net):
        product.eltwise_param.operation = caffe_pb2.EltwiseParameter.SUM


def start_near_one(net: caffe_pb2.NetParameter) -> None:
    """Lets the deeper factor start near 1, by the fillers of its Scale layer, so that the product is the encoder's."""
    deeper = {product.bottom[0] for product in products(net)}
    for layer in net.layer:
        if layer.type == "Scale" and layer.top[0] in deeper:
            layer.scale_param.filler.value = _DEVIATION
            layer.scale_param.bias_filler.value = 1


#: by the ending of the network's name in an arm
CONTROLS: dict[str, Callable[[caffe_pb2.NetParameter], None]] = {"sum": use_sums, "near_one": start_near_one}


def products(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    """Returns the layers that combine the two sides of the modules. Raises CaffeError if there are none."""
    found = [layer for layer in net.layer if layer.type == "Eltwise" and layer.name.startswith("combined_")]
    if not found:
        raise CaffeError(f"net '{net.name}' has no deconvolution modules; this needs a DSSD")
    return found


def change(folder: Path, control: str) -> None:
    """Makes the nets in a directory that a generator wrote into a control. It may be called again."""
    for path in sorted(folder.glob("*.prototxt")):
        if path.name.startswith("solver"):
            continue
        with log.quiet():
            net = read_net(str(path))
        before = to_text(net)
        CONTROLS[control](net)
        if to_text(net) != before:
            heading = path.read_text(encoding="utf-8").partition("\n")[0]
            write_text(path, f"{heading}\n{to_text(net)}")
