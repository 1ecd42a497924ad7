"""One net: whether it builds and runs, and if not, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import caffe.engine.layer_types  # noqa: F401  (registers the types)
from caffe.engine.fillers import deferred
from caffe.engine.layer import TEST, TRAIN, layer_types
from caffe.engine.net import Net
from caffe.errors import CaffeError, ProtoError, shown
from caffe.net_check.stand_ins import without_files
from caffe.proto import caffe_pb2
from caffe.proto.forks import FORK_OF_TYPE, fork_of_field
from caffe.proto.text import known_part, read_net
from caffe.runtime import runtime

#: what a net that does not build is, in the order of the summary
LACKS, PYTHON, NO_TEXT, ERROR, KILLED = "lacks", "python", "text", "error", "killed"


@dataclass(frozen=True)
class Verdict:
    """What became of one net."""

    path: str
    #: "" if it builds; else one of the states above
    state: str = ""
    #: layer types, fields and Python modules that it needs and that there are not
    missing: tuple[str, ...] = ()
    #: the error, in the user's words
    message: str = ""
    #: the error of its run; None if it ran or was not to run
    run_error: str | None = None


def check(path: Path, run: bool = False) -> Verdict:
    """Builds the net of a prototxt in its phase, without its data (see `without_files`); `run` runs it once.

    The phases are those that the net's rules name; without any, TRAIN if the file's name contains "train", else TEST.
    One in which it builds is enough. A run has random weights and images; labels, and other inputs, are zeros. In the
    TRAIN phase backward follows. Python layers run if `runtime.python_layers` allows it.
    """
    name = str(path)
    try:
        net = read_net(path)
    except ProtoError as error:
        if not error.unknown_fields:
            return Verdict(name, NO_TEXT, message=str(error))
        types = _unknown_types(known_part(path, caffe_pb2.NetParameter()))
        own = {f"LayerParameter.{kind.lower()}param" for kind in types}  # the parameters of a type come with it
        fields = {_of_fork(f"field {field}", fork_of_field(*field.split("."))) for field in error.unknown_fields
                  if field.replace("_", "") not in own}  # fmt: skip
        return Verdict(name, LACKS, tuple(sorted({*fields, *map(_type, types)})), str(error))
    if types := _unknown_types(net):
        missing = tuple(map(_type, types))
        return Verdict(name, LACKS, missing, f"{path}: needs {', '.join(missing)}")
    if modules := _missing_modules(net):
        return Verdict(name, PYTHON, tuple(modules), f"{path}: needs {', '.join(modules)}")
    errors = []
    for phase in _phases(net, path):
        try:
            with deferred() as fillers:
                built = Net(without_files(net), phase)
            fillers.try_out()
        except MemoryError:
            raise
        except Exception as error:  # a Python layer may raise anything
            errors.append(_text(error))
            continue
        return Verdict(name, run_error=_run(built, phase) if run else None)
    return Verdict(name, ERROR, message=errors[0])


def _unknown_types(net: Any) -> list[str]:
    return sorted({layer.type for layer in net.layer} - set(layer_types()))


def _type(kind: str) -> str:
    return _of_fork(f"layer type {shown(kind)}", FORK_OF_TYPE.get(kind))


def _of_fork(thing: str, fork: str | None) -> str:
    return f"{thing} of {fork}" if fork else thing


def _missing_modules(net: Any) -> list[str]:
    """Python modules that the net's layers need: those that cannot be found, or all if they may not run."""
    modules = sorted({layer.python_param.module for layer in net.layer if layer.type == "Python"})
    return [f"Python module {shown(module)}" for module in modules if not (runtime.python_layers and _is_there(module))]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _phases(net: Any, path: Path) -> list[int]:
    named = {rule.phase for layer in net.layer for rule in [*layer.include, *layer.exclude] if rule.HasField("phase")}
    training = "train" in path.name.lower()
    order = [TRAIN, TEST] if training else [TEST, TRAIN]
    return [phase for phase in order if phase in named] or order[:1]


def _run(net: Net, phase: int) -> str | None:
    """Runs a net once; the error, if there is one."""
    generator = torch.Generator().manual_seed(0)
    for layer in (step.layer for step in net.steps):
        for blob in layer.blobs:
            if layer.learns and blob.dim() > 1:
                torch.nn.init.normal_(blob.data, 0, (2 / max(blob[0].numel(), 1)) ** 0.5, generator)
            elif layer.learns and layer.type_name == "Scale":
                blob.data.fill_(1)
    try:
        with torch.set_grad_enabled(phase == TRAIN):
            loss, _ = net(_batch(net, generator))
            if loss.requires_grad:
                loss.backward()
    except MemoryError:
        raise
    except Exception as error:
        return _text(error)
    return None


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, CaffeError) else f"{type(error).__name__}: {error}"


def _batch(net: Net, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random images, what describes them, and zeros."""
    batch = net.next_batch()
    shapes = {name: value.shape for name, value in batch.items() if value.dim() == 4 and "label" not in name}
    images = [name for name, shape in shapes.items() if shape[1] <= 4 and shape[2] > 1][:1]
    for name in images:
        batch[name] = torch.randn(batch[name].shape, generator=generator) * 50
    for name in net.inputs:
        value = batch[name]
        if "info" in name and value.dim() == 2 and value.shape[1] >= 3 and images:  # Faster R-CNN's im_info
            height, width = batch[images[0]].shape[2:]
            value[:] = 1
            value[:, 0], value[:, 1] = height, width
        if name == "image_sizes" and value.numel() == 2 * len(value) and images:  # EvalData's
            value.reshape(-1, 2)[:] = torch.tensor(batch[images[0]].shape[2:])
        if name == "gt_boxes" and value.dim() == 4 and value.shape[1] in (7, 8):  # MS-CNN's and Cascade R-CNN's objects
            value[:, 3:6, 0, 0] = torch.tensor([60.0, 40, 1])
    return batch
