"""Upgrades nets and solvers of older formats to the current one, in place, and logs it as Caffe does.

Caffe's net format changed three times: V0 (`layers { layer { type: "conv" } }`), V1 (`layers { type: CONVOLUTION }`),
and the current `layer { type: "Convolution" }`. Also, transformations moved from the data layers' own parameters to
`transform_param`, inputs from fields of the net to an Input layer, and BatchNorm lost its three `param` entries.
"""

from __future__ import annotations

from google.protobuf.message import Message

from caffe import log
from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.legacy_types import V1_TYPES
from caffe.proto.upgrade_v0 import upgrade_v0_net

V1 = caffe_pb2.V1LayerParameter


def net_needs_upgrade(net: caffe_pb2.NetParameter) -> bool:
    """Whether any part of `net` is in an older format."""
    return bool(net.layers or net.input or _needs_batch_norm_upgrade(net))


def upgrade_net(net: caffe_pb2.NetParameter, where: str) -> bool:
    """Upgrades `net` in place; `where` names it in the log and in errors.

    Returns whether everything could be converted. What could not is logged and left out, as in Caffe.
    Raises ProtoError for a net that mixes `layer` and `layers`, and for a layer type that never existed.
    """
    whole = True
    if any(layer.HasField("layer") for layer in net.layers):
        _attempt(26, "input file specified using deprecated V0LayerParameter", where)
        if upgrade_v0_net(net, where):
            _done(34, "Successfully upgraded file specified using deprecated V0LayerParameter")
        else:
            whole = False
            _problems(31, "upgrading V0NetParameter to NetParameter (see above); continuing anyway.")
        _note(
            37,
            "not support V0NetParameter; use ./build/tools/upgrade_net_proto_text for prototxt and "
            "./build/tools/upgrade_net_proto_binary for model weights upgrade this and any other net protos to the new "
            "format.",
        )
    if any(_old_transformation(layer) for layer in net.layers):
        _attempt(44, "input file specified using deprecated transformation parameters", where)
        for layer in net.layers:
            _move_transformation(layer)
        _done(47, "Successfully upgraded file specified using deprecated data transformation parameters.")
        _note(49, "only support transform_param messages for transformation fields.")
    if net.layers:
        _attempt(53, "input file specified using deprecated V1LayerParameter", where)
        if _upgrade_v1_net(net, where):
            _done(61, "Successfully upgraded file specified using deprecated V1LayerParameter")
        else:
            whole = False
            _problems(58, "upgrading V1LayerParameter (see above); continuing anyway.")
    if net.input:
        _attempt(67, "input file specified using deprecated input fields", where)
        _upgrade_input(net, where)
        _done(70, "Successfully upgraded file specified using deprecated input fields.")
        _note(72, "only support input layers and not input fields.")
    if _needs_batch_norm_upgrade(net):
        _attempt(77, "batch norm layers using deprecated params", where)
        for parameter in net.layer:
            if parameter.type == "BatchNorm" and len(parameter.param) == 3:
                del parameter.param[:]
        _done(80, "Successfully upgraded batch norm layers using deprecated params.")
    return whole


def upgrade_solver(solver: caffe_pb2.SolverParameter, where: str) -> bool:
    """Turns the enum `solver_type` into the string `type`, in place. Returns whether there was something to do.

    Raises ProtoError if both are given.
    """
    if not solver.HasField("solver_type"):
        return False
    if solver.HasField("type"):
        raise ProtoError(f"{where}: both 'type' and its older form 'solver_type' are given; remove 'solver_type'")
    _attempt(1076, "input file specified using deprecated 'solver_type' field (enum)'", where)
    solver.type = _SOLVERS[solver.solver_type]
    solver.ClearField("solver_type")
    _done(
        1083,
        "Successfully upgraded file specified using deprecated 'solver_type' field (enum) to 'type' field (string).",
    )
    _note(1085, "only support 'type' field (string) for a solver's type.")
    return True


_SOLVERS = {
    caffe_pb2.SolverParameter.SGD: "SGD",
    caffe_pb2.SolverParameter.NESTEROV: "Nesterov",
    caffe_pb2.SolverParameter.ADAGRAD: "AdaGrad",
    caffe_pb2.SolverParameter.RMSPROP: "RMSProp",
    caffe_pb2.SolverParameter.ADADELTA: "AdaDelta",
    caffe_pb2.SolverParameter.ADAM: "Adam",
}


def _attempt(line: int, what: str, where: str) -> None:
    log.info(f"upgrade_proto.cpp:{line}", f"Attempting to upgrade {what}: {where}")


def _done(line: int, message: str) -> None:
    log.info(f"upgrade_proto.cpp:{line}", message)


def _note(line: int, rest: str) -> None:
    log.warning(f"upgrade_proto.cpp:{line}", f"Note that future Caffe releases will {rest}")


def _problems(line: int, doing: str) -> None:
    log.error(f"upgrade_proto.cpp:{line}", f"Warning: had one or more problems {doing}")


_TRANSFORMED = {V1.DATA: "data_param", V1.IMAGE_DATA: "image_data_param", V1.WINDOW_DATA: "window_data_param"}
_TRANSFORMATION = ("scale", "mean_file", "crop_size", "mirror")


def _old_transformation(layer: caffe_pb2.V1LayerParameter) -> list[str]:
    """The transformation fields that a V1 data layer's own parameter still carries."""
    name = _TRANSFORMED.get(layer.type)
    if name is None:
        return []
    parameter: Message = getattr(layer, name)
    return [field for field in _TRANSFORMATION if parameter.HasField(field)]


def _move_transformation(layer: caffe_pb2.V1LayerParameter) -> None:
    for field in _old_transformation(layer):
        parameter = getattr(layer, _TRANSFORMED[layer.type])
        setattr(layer.transform_param, field, getattr(parameter, field))
        parameter.ClearField(field)


def _upgrade_v1_net(net: caffe_pb2.NetParameter, where: str) -> bool:
    if net.layer:
        raise ProtoError(
            f"{where}: the net mixes 'layer {{ type: \"Convolution\" … }}' with the older 'layers {{ type: CONVOLUTION "
            f"… }}'; use 'layer' for all"
        )
    whole = True
    for index, old in enumerate(net.layers):
        if not _upgrade_v1_layer(old, net.layer.add()):
            log.error("upgrade_proto.cpp:682", f"Upgrade of input layer {index} failed.")
            whole = False
    del net.layers[:]
    return whole


_PER_BLOB = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
"""V1's repeated fields, one value per blob, and the ParamSpec field that each became."""


def _upgrade_v1_layer(old: caffe_pb2.V1LayerParameter, new: caffe_pb2.LayerParameter) -> bool:
    """Fills `new` from `old`; False if `old` still wraps a V0 layer, which is left out."""
    if old.HasField("type"):
        new.type = V1_TYPES[old.type]
    for field, value in old.ListFields():
        if field.name in _PER_BLOB:
            for index, item in enumerate(value):
                while len(new.param) <= index:
                    new.param.add()
                setattr(new.param[index], _PER_BLOB[field.name], item)
        elif field.name == "name":
            new.name = value
        elif field.name not in ("layer", "type"):
            # Everything else has the same name and type in both.
            target = getattr(new, field.name)
            if isinstance(value, Message):
                target.CopyFrom(value)
            else:
                target.extend(value)
    if old.HasField("layer"):
        log.error("upgrade_proto.cpp:868", "Input NetParameter has V0 layer -- ignoring.")
        return False
    return True


def _upgrade_input(net: caffe_pb2.NetParameter, where: str) -> None:
    """`input`, `input_shape` or `input_dim` of the net become an Input layer at the beginning.

    Old caffemodels have inputs without any shape; they are dropped, as in Caffe.
    """
    count = len(net.input)
    if net.input_shape or net.input_dim:
        if net.input_shape and len(net.input_shape) < count:
            raise ProtoError(
                f"{where}: {count} 'input' fields, but {len(net.input_shape)} 'input_shape'; give one for each"
            )
        if not net.input_shape and len(net.input_dim) < 4 * count:
            raise ProtoError(
                f"{where}: {count} 'input' fields, but {len(net.input_dim)} 'input_dim'; give four for each: "
                "num, channels, height, width"
            )
        layer = caffe_pb2.LayerParameter(name="input", type="Input", top=net.input)
        for index in range(count):
            shape = layer.input_param.shape.add()
            if net.input_shape:
                shape.CopyFrom(net.input_shape[index])
            else:
                shape.dim.extend(net.input_dim[4 * index : 4 * index + 4])
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


def _needs_batch_norm_upgrade(net: caffe_pb2.NetParameter) -> bool:
    return any(layer.type == "BatchNorm" and len(layer.param) == 3 for layer in net.layer)
