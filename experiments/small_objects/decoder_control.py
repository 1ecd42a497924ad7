"""Controls of DSSD and MDSSD: other ways to combine the deeper layers with the encoder's, or to start with.

DSSD: a sum for the product in its deconvolution modules, a product that starts as the encoder, or none. A module
multiplies the encoder's blob with one that comes from the deeper layers, both batch-normalized, so both have a mean of
0. With random weights the deeper factor changes the encoder's sign and size at random.

MDSSD: a deep side that starts small. A module adds it to the shallow side, both normalized to the same length.
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
#: the length of MDSSD's deep sides relative to the shallow ones, at the start of `small_deep`
_SMALL = 0.05


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


def use_encoder_alone(net: caffe_pb2.NetParameter) -> None:
    """Takes the deconvolutions and the product away; the encoder's blobs keep their two convolutions."""
    modules = [layer.type for layer in net.layer if layer.name.startswith("combined_")]
    if modules and "Eltwise" not in modules:
        return  # it was done before
    encoder = {product.top[0]: product.bottom[1] for product in products(net)}
    kept = [layer for layer in net.layer if layer.name not in encoder and not layer.name.startswith("deconv_")]
    for layer in kept:
        layer.bottom[:] = [encoder.get(bottom, bottom) for bottom in layer.bottom]
    changed = caffe_pb2.NetParameter(layer=kept)
    del net.layer[:]
    net.layer.extend(changed.layer)


def start_with_small_deep_side(net: caffe_pb2.NetParameter) -> None:
    """Lets the deep side of MDSSD's modules start with a twentieth of the shallow side's length, by its norm's filler."""
    norms = {layer.name: layer.norm_param.scale_filler for layer in net.layer if layer.type == "Normalize"}
    deep = [name for name in norms if name.endswith("_deep_norm")]
    if not deep:
        raise CaffeError(f"net '{net.name}' has no fusion modules; this needs an MDSSD")
    for name in deep:
        norms[name].value = _SMALL * norms[name.replace("_deep_norm", "_shallow_norm")].value


#: of DSSD, by the ending of the network's name in an arm
CONTROLS: dict[str, Callable[[caffe_pb2.NetParameter], None]] = {
    "sum": use_sums,
    "near_one": start_near_one,
    "encoder": use_encoder_alone,
}
#: and of MDSSD
MDSSD_CONTROLS = {"small_deep": start_with_small_deep_side}


def products(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    """Returns the layers that combine the two sides of the modules. Raises CaffeError if there are none."""
    found = [layer for layer in net.layer if layer.type == "Eltwise" and layer.name.startswith("combined_")]
    if not found:
        raise CaffeError(f"net '{net.name}' has no deconvolution modules; this needs a DSSD")
    return found


def change(folder: Path, control: str) -> None:
    """Makes the nets in a directory that a generator wrote into a control. It may be called again.

    Raises CaffeError if they are of another kind of network.
    """
    changed = (CONTROLS | MDSSD_CONTROLS)[control]
    for path in sorted(folder.glob("*.prototxt")):
        if path.name.startswith("solver"):
            continue
        with log.quiet():
            net = read_net(str(path))
        heading = path.read_text(encoding="utf-8").partition("\n")[0]
        changed(net)
        write_text(path, f"{heading}\n{to_text(net)}")
