"""Caffe's first net format, V0: one message with every layer type's parameters, and padding as a separate layer."""

from __future__ import annotations

from typing import cast

from google.protobuf.message import Message

from caffe import log
from caffe.errors import ProtoError, shown
from caffe.proto import caffe_pb2
from caffe.proto.legacy_types import V0_TYPES, V1_TYPES

_V1_NUMBERS = {name: number for number, name in V1_TYPES.items()}

_SOURCES = {
    "data": "data_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "window_data": "window_data_param",
}
_WEIGHTED = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_CONV_OR_POOL = {"conv": "convolution_param", "pool": "pooling_param"}

_MOVED: dict[str, tuple[str, dict[str, str]]] = {
    "num_output": ("num_output", _WEIGHTED),
    "biasterm": ("bias_term", _WEIGHTED),
    "weight_filler": ("weight_filler", _WEIGHTED),
    "bias_filler": ("bias_filler", _WEIGHTED),
    "pad": ("pad", _CONV_OR_POOL),
    "kernelsize": ("kernel_size", _CONV_OR_POOL),
    "stride": ("stride", _CONV_OR_POOL),
    "group": ("group", {"conv": "convolution_param"}),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", {"lrn": "lrn_param"}),
    "alpha": ("alpha", {"lrn": "lrn_param"}),
    "beta": ("beta", {"lrn": "lrn_param"}),
    "k": ("k", {"lrn": "lrn_param"}),
    "source": ("source", {**_SOURCES, "infogain_loss": "infogain_loss_param"}),
    "batchsize": ("batch_size", _SOURCES),
    "rand_skip": ("rand_skip", {"data": "data_param", "images": "image_data_param"}),
    "shuffle_images": ("shuffle", {"images": "image_data_param"}),
    "new_height": ("new_height", {"images": "image_data_param"}),
    "new_width": ("new_width", {"images": "image_data_param"}),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", {"window_data": "window_data_param"}),
    "det_bg_threshold": ("bg_threshold", {"window_data": "window_data_param"}),
    "det_fg_fraction": ("fg_fraction", {"window_data": "window_data_param"}),
    "det_context_pad": ("context_pad", {"window_data": "window_data_param"}),
    "det_crop_mode": ("crop_mode", {"window_data": "window_data_param"}),
}
"""V0's fields: their current names, and the parameter message by layer type."""

_TRANSFORMATION = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_SAME = ("blobs", "blobs_lr", "weight_decay")


def upgrade_v0_net(net: caffe_pb2.NetParameter, where: str) -> bool:
    """Turns the V0 layers of `net` into V1 layers, in place. Returns whether every field could be converted.

    Raises ProtoError for an unknown layer type, an unknown bottom, and padding that does not precede a convolution.
    """
    layers = _without_padding(net, where)
    del net.layers[:]
    whole = True
    for layer in layers:
        upgraded = _upgrade_layer(layer, net.layers.add(), where)
        whole = whole and upgraded
    return whole


def _without_padding(net: caffe_pb2.NetParameter, where: str) -> list[caffe_pb2.V1LayerParameter]:
    """The net's layers with each padding layer's `pad` moved into the convolution or pooling that it feeds."""
    kept: list[caffe_pb2.V1LayerParameter] = []
    made_by: dict[str, caffe_pb2.V1LayerParameter | None] = dict.fromkeys(net.input)
    for original in net.layers:
        connection = caffe_pb2.V1LayerParameter()
        connection.CopyFrom(original)
        layer = connection.layer
        if layer.type != "padding":
            kept.append(connection)
        for index, bottom in enumerate(original.bottom):
            if bottom not in made_by:
                raise ProtoError(
                    f"{where}: layer '{shown(layer.name)}': no earlier layer makes its bottom '{shown(bottom)}'"
                )
            source = made_by[bottom]
            if source is None or source.layer.type != "padding":
                continue
            pair = f"padding layer '{shown(source.layer.name)}' and '{shown(layer.name)}' behind it"
            if layer.type not in ("conv", "pool"):
                raise ProtoError(
                    f"{where}: {pair}: only conv and pool layers can take the padding, not type '{shown(layer.type)}'"
                )
            if len(original.bottom) != 1 or len(source.bottom) != 1 or len(source.top) != 1:
                raise ProtoError(f"{where}: {pair} must have one bottom and one top each")
            layer.pad = source.layer.pad
            connection.bottom[index] = source.bottom[0]
        for top in original.top:
            made_by[top] = original
    return kept


def _upgrade_layer(old: caffe_pb2.V1LayerParameter, new: caffe_pb2.V1LayerParameter, where: str) -> bool:
    """Fills the V1 layer `new`; False if a field of the V0 layer has no place in its type's parameters."""
    new.bottom.extend(old.bottom)
    new.top.extend(old.top)
    layer = old.layer
    whole = True
    for field, value in layer.ListFields():
        name = field.name
        if name == "name":
            new.name = value
        elif name == "type":
            new.type = _v1_type(layer, where)
        elif name in _SAME:
            getattr(new, name).extend(value)
        elif name in _TRANSFORMATION:
            setattr(new.transform_param, _TRANSFORMATION[name], value)
        elif name == "hdf5_output_param" and layer.type == "hdf5_output":
            new.hdf5_output_param.CopyFrom(value)
        elif name in _MOVED and layer.type in _MOVED[name][1]:
            target, parameters = _MOVED[name]
            _set(getattr(new, parameters[layer.type]), target, value)
        elif name not in ("new_num", "new_channels"):
            log.error("upgrade_proto.cpp:235", f"Unknown parameter {name} for layer type {shown(layer.type)}")
            whole = False
    return whole


def _v1_type(layer: caffe_pb2.V0LayerParameter, where: str) -> caffe_pb2.V1LayerParameter.LayerType:
    if layer.type not in V0_TYPES:
        known = ", ".join(sorted(V0_TYPES))
        raise ProtoError(
            f"{where}: layer '{shown(layer.name)}': no layer type '{shown(layer.type)}' in the V0 format; known: {known}"
        )
    return cast("caffe_pb2.V1LayerParameter.LayerType", _V1_NUMBERS[V0_TYPES[layer.type]])


def _set(parameter: Message, name: str, value: object) -> None:
    """Sets a field of `parameter`, or adds to it if it has become repeated, as convolution's sizes have."""
    current = getattr(parameter, name)
    if isinstance(value, Message):
        current.CopyFrom(value)
    elif hasattr(current, "append"):
        current.append(value)
    else:
        setattr(parameter, name, value)
