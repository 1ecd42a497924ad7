"""Nets written as Python expressions (pycaffe's `caffe.NetSpec`, `caffe.layers`, `caffe.params`).

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 300, 300]))
    n.conv = L.Convolution(n.data, num_output=64, kernel_size=3, pad=1, weight_filler=dict(type="xavier"))
    n.relu = L.ReLU(n.conv, in_place=True)
    print(n.to_proto())

`L.<Type>(*bottoms, **fields)` is a layer not yet in any net. A field may belong to the layer's own parameter message
(`num_output`), be a whole message (`convolution_param=dict(...)`) or belong to the layer itself (`include`, `name`,
`param`). `ntop` (1 unless given) says how many tops there are; with `in_place=True` the tops are the bottoms.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from caffe.errors import NetError
from caffe.proto import caffe_pb2

#: LayerParameter messages of the layers built so far, in the order in which they must run
_Layers = dict["Function", Any]
_Names = MutableMapping[Hashable, str]

_INTEGER_TYPES = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}


def param_name_dict() -> dict[str, str]:
    """The field of LayerParameter that holds each layer type's own parameters, less `_param`: {"ReLU": "relu", …}."""
    names: dict[str, str] = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith("_param") and field.message_type is not None:
            # Layers of other forks share some messages; the type that a message is named after comes first.
            names.setdefault(field.message_type.name.removesuffix("Parameter"), field.name.removesuffix("_param"))
    # They share the message of another type, so their names alone do not give it.
    names["Deconvolution"] = "convolution"
    names["ModulatedDeformableConvolution"] = "modulated_deformable_convolution"
    return names


def assign_proto(proto: Any, name: str, value: Any) -> None:
    """Sets field `name` of a message: a dict fills a message, a list a repeated field, and a single value for a
    repeated field counts as a list of one. Raises AttributeError for a field that the message does not have.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise AttributeError(f"{proto.DESCRIPTOR.name} has no field '{name}'{_nearest(name, proto.DESCRIPTOR)}")
    if isinstance(value, tuple):
        value = list(value)
    if hasattr(getattr(proto, name), "extend"):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                message = getattr(proto, name).add()
                for key, inner in item.items():
                    assign_proto(message, key, inner)
            else:
                getattr(proto, name).append(_scalar(field, item))
    elif isinstance(value, list) and name == "resize_param" and "more_resizes" in proto.DESCRIPTOR.fields_by_name:
        # of MobileNet-YOLO; the field itself is no list, for the scripts that set it
        for first, item in enumerate(value):
            assign_proto(proto, "more_resizes" if first else name, item)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            assign_proto(getattr(proto, name), key, inner)
    else:
        setattr(proto, name, _scalar(field, value))


def _scalar(field: Any, value: Any) -> Any:
    # Python 2's `/` divided integers to integers; scripts of that time use it for a pad or an iter_size.
    if isinstance(value, float) and value.is_integer() and field.cpp_type in _INTEGER_TYPES:
        return int(value)
    return value


def _nearest(name: str, descriptor: Any) -> str:
    near = difflib.get_close_matches(name, [field.name for field in descriptor.fields], n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


class Top:
    """One output blob of a layer: the `n`-th top of `fn`."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> Any:
        """A NetParameter with the layers that this top needs."""
        return to_proto(self)

    def _update(self, params: Mapping[str, Any]) -> None:
        self.fn._update(params)

    def _to_proto(self, layers: _Layers, names: _Names, autonames: Counter[str]) -> None:
        self.fn._to_proto(layers, names, autonames)


class Function:
    """A layer: its type, the Tops it reads and its fields. `tops` are the Tops it makes."""

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: Mapping[str, Any]) -> None:
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                raise NetError(
                    f"L.{type_name}: bottom {index} is {_describe(bottom)}; a bottom is one top of another layer"
                )
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _get_name(self, names: _Names, autonames: Counter[str]) -> str:
        if self.ntop > 0:
            return self._get_top_name(self.tops[0], names, autonames)
        return self._get_top_name(self, names, autonames)

    def _get_top_name(self, top: Top | Function, names: _Names, autonames: Counter[str]) -> str:
        if top not in names:
            autonames[self.type_name] += 1
            names[top] = f"{self.type_name}{autonames[self.type_name]}"
        return names[top]

    def _update(self, params: Mapping[str, Any]) -> None:
        self.params.update(params)

    def _to_proto(self, layers: _Layers, names: _Names, autonames: Counter[str]) -> None:
        if self in layers:
            return
        layer = caffe_pb2.LayerParameter(type=self.type_name)
        for bottom in self.inputs:
            bottom._to_proto(layers, names, autonames)
            layer.bottom.append(layers[bottom.fn].top[bottom.n])
        if self.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(self._get_top_name(top, names, autonames) for top in self.tops)
        layer.name = self._get_name(names, autonames)
        for key, value in self.params.items():
            self._assign(layer, key, value)
        layers[self] = layer

    def _assign(self, layer: Any, key: str, value: Any) -> None:
        """Sets a field of the layer's own message if that has it, else of the layer."""
        own = _param_names.get(self.type_name)
        message = layer
        if own is not None and not key.endswith("param"):
            own_descriptor = layer.DESCRIPTOR.fields_by_name[f"{own}_param"].message_type
            known = key in own_descriptor.fields_by_name
            if not known and key not in layer.DESCRIPTOR.fields_by_name:
                hint = _nearest(key, own_descriptor) or _nearest(key, layer.DESCRIPTOR)
                raise NetError(
                    f"layer '{layer.name}' ({self.type_name}): neither {own_descriptor.name} nor LayerParameter "
                    f"has a field '{key}'{hint}"
                )
            if known:
                message = getattr(layer, f"{own}_param")
        try:
            assign_proto(message, key, value)
        except (AttributeError, TypeError, ValueError) as error:
            raise NetError(f"layer '{layer.name}' ({self.type_name}): field '{key}': {error}") from error


def _describe(value: Any) -> str:
    if isinstance(value, Function):
        return f"a whole {value.type_name} layer of {value.ntop} tops"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} (a layer with several tops gives one value for each)"
    return f"of type {type(value).__name__}"


class NetSpec:
    """A net under construction. Assigning a top to an attribute (or item) names its blob and its layer."""

    tops: dict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Top | Function) -> None:
        if not isinstance(value, (Top, Function)):
            raise NetError(f"NetSpec: '{name}' is assigned {_describe(value)}; assign one top to one name")
        self.tops[name] = value

    # The value is Any so that a script's `n.conv` is a bottom for any layer without a cast.
    def __getattr__(self, name: str) -> Any:
        try:
            return self.tops[name]
        except KeyError:
            raise AttributeError(f"this NetSpec has no top '{name}'") from None

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.__setattr__(name, value)

    def __getitem__(self, name: str) -> Any:
        if name not in self.tops:
            near = difflib.get_close_matches(name, self.tops, n=1)
            raise KeyError(f"this NetSpec has no top '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tops

    def keys(self) -> list[str]:
        """The names, in the order in which they were first assigned."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """The tops, in the order of `keys`."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Adds fields to the layer of top `name`, or replaces them."""
        self[name]._update(params)

    def to_proto(self) -> Any:
        """A NetParameter with the layers that the named tops need; unnamed ones get names such as `Convolution1`."""
        names: _Names = {top: name for name, top in self.tops.items()}
        autonames: Counter[str] = Counter()
        layers: _Layers = {}
        for top in self.tops.values():
            top._to_proto(layers, names, autonames)
        return caffe_pb2.NetParameter(layer=layers.values())


def to_proto(*tops: Top | Function) -> Any:
    """A NetParameter with the layers that these tops need, each with a generated name."""
    layers: _Layers = {}
    names: _Names = {}
    autonames: Counter[str] = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    return caffe_pb2.NetParameter(layer=layers.values())


class Layers:
    """`caffe.layers`: every attribute makes layers of the type of that name, known or not.

    A call gives the layer's top, a tuple of them for ntop > 1, the Function itself for ntop = 0.
    """

    def __getattr__(self, type_name: str) -> Callable[..., Any]:
        if type_name.startswith("__"):  # so that copy, pickle and inspect see an ordinary object
            raise AttributeError(type_name)

        def layer(*bottoms: Top, **fields: Any) -> Any:
            function = Function(type_name, bottoms, fields)
            if function.ntop == 0:
                return function
            return function.tops[0] if function.ntop == 1 else function.tops

        return layer


class Parameters:
    """`caffe.params`: the constants of each parameter message, e.g. `params.Pooling.MAX`."""

    def __getattr__(self, name: str) -> Any:
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(f"caffe.proto has no message {name}Parameter")
        return message


_param_names = param_name_dict()
layers = Layers()
params = Parameters()
