"""PyTorch checkpoints and safetensors files as arrays by name. Only tensors are read; nothing in a file is executed."""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caffe.errors import ProtoError, shown
from caffe.proto.mapped import describe, map_file
from caffe.proto.sniff import HDF5_SIGNATURE

if TYPE_CHECKING:
    import torch  # at run time only where a checkpoint is read: the commands' help should not wait for it

Tensors = dict[str, NDArray[np.float32]]

#: the first bytes of PyTorch's files since 1.6, and of older ones
_ZIP, _PICKLE = b"PK\x03\x04", 0x80
_WANTED = "a PyTorch checkpoint (.pth, .pt) or a .safetensors file"
#: what pickled tensors refer to, and nothing else
_TENSOR_NAMES = re.compile(
    r"collections\.OrderedDict|torch\.(Size|device|serialization\._get_layout)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.(\w+Storage|float(16|32|64)|bfloat16|u?int\d+|bool)|torch\.storage\.(Untyped|Typed)Storage"
)
#: PyTorch's files before 1.6 are five pickles, of which the fourth is the object, and then the numbers
_LEGACY_PICKLES = 5
#: where a training script keeps the model among other things, most likely first
_PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "state_dict_ema", "ema")
#: put in front of every name by wrappers (DataParallel, DistributedDataParallel, torch.compile) and by training scripts
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "ssd.")


def read_checkpoint(path: str | Path) -> Tensors:
    """The floating-point tensors of a file by name, as float32, whatever their precision in the file.

    A state dict inside a larger checkpoint is found, and a prefix that all names share (`module.`) is removed. Raises
    ProtoError for other files, for damaged ones, and for pickles that refer to more than tensors, which are not opened.
    """
    import torch

    path = Path(path)
    buffer = map_file(path, _WANTED)
    if is_safetensors(buffer):
        return _named(path, read_safetensors(path)[0])
    if bytes(buffer[:8]) == HDF5_SIGNATURE:
        raise ProtoError(f"{path}: an HDF5 file where {_WANTED} should be; Keras's are read with -from keras_vgg16")
    legacy = buffer[0] == _PICKLE
    if not legacy and bytes(buffer[:4]) != _ZIP:
        raise ProtoError(f"{path}: {describe(buffer)}, where {_WANTED} should be")
    names = _names_in_pickles(path) if legacy else _names_in_zip(path, len(buffer))
    others = sorted(name for name in names if not _TENSOR_NAMES.fullmatch(name))
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ProtoError(
            f"{path}: not opened, because opening it would run {', '.join(shown(name) for name in others[:3])}{more}. "
            "Only tensors are read: whoever trusts the file can save its weights alone, with "
            "torch.save(model.state_dict(), …) or safetensors"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=not legacy)
    except Exception as error:  # the reader's own parsers raise errors of many kinds for damaged files
        raise _damaged(path, error) from None
    return _named(path, {name: _as_array(path, name, tensor) for name, tensor in _state_dict(path, content).items()})


def _damaged(path: Path, error: Exception) -> ProtoError:
    reason = shown(str(error).split("\n")[0] or type(error).__name__, 160)
    return ProtoError(f"{path}: a damaged or incomplete PyTorch checkpoint ({reason}); copy or download it again")


# ---- what a pickle refers to, without opening it


def _names_in_zip(path: Path, size: int) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
            if any(entry.filename.partition("/")[2].startswith("code/") for entry in entries):
                raise ProtoError(
                    f"{path}: a TorchScript program, which is code, so it is not opened; save its weights alone, with "
                    "torch.save(model.state_dict(), …)"
                )
            if not pickles:
                raise ProtoError(f"{path}: a zip archive without data.pkl, where {_WANTED} should be")
            if sum(entry.file_size for entry in pickles) > size:
                raise ProtoError(f"{path}: its data.pkl claims more bytes than the file has; it is not PyTorch's")
            names: set[str] = set()
            for entry in pickles:
                with archive.open(entry) as file:
                    names |= set(_names(file))
            return names
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, ProtoError):
            raise
        raise _damaged(path, error) from None


def _names_in_pickles(path: Path) -> set[str]:
    names: set[str] = set()
    with open(path, "rb") as file:
        for _ in range(_LEGACY_PICKLES):
            try:
                names |= set(_names(_WithinFile(file)))
            except (ValueError, EOFError, IndexError) as error:
                raise _damaged(path, error) from None
    return names


class _WithinFile:
    """A file's `read` and `readline`. A length in a pickle that is beyond the file's end allocates nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.tell, self.readline = file.tell, file.readline

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._size - self._file.tell()))


def _names(file: Any) -> Iterator[str]:
    """The functions and classes that the pickle at the file's position would look up, as module.name."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            # its two strings come before it, but may be any two: it counts as what it is unless they are the last
            yield ".".join(strings[-2:]) if len(strings) > 1 else "STACK_GLOBAL"
        elif opcode.name.startswith("EXT"):
            yield f"extension {argument}"
        if isinstance(argument, str) and "UNICODE" in opcode.name:
            strings.append(argument)


# ---- tensors of what was loaded


def _state_dict(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """The mapping of names to tensors: the object itself, or the most likely one inside it."""
    found = {place: tensors for place, tensors in _mappings(content, "") if "optimizer" not in place}
    if not found:
        held = ", ".join(f"'{shown(str(key))}'" for key in list(content)[:6]) if isinstance(content, Mapping) else ""
        what = f"a dictionary with {held}" if held else f"a {type(content).__name__}"
        raise ProtoError(f"{path}: no tensors by name in it, it holds {what}; give a state dict")
    for place in ("", *_PLACES):
        if place in found:
            return found[place]
    if len(found) > 1:
        raise ProtoError(
            f"{path}: several state dicts in it: {', '.join(shown(place) for place in found)}; save the one you want alone"
        )
    return next(iter(found.values()))


def _mappings(content: Any, place: str, depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    import torch

    if not isinstance(content, Mapping) or depth > 3:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield place, tensors
        return
    for key, value in content.items():
        if isinstance(key, str):
            yield from _mappings(value, f"{place}.{key}" if place else key, depth + 1)


def _as_array(path: Path, name: str, tensor: torch.Tensor) -> NDArray[Any]:
    import torch

    where = f"{path}: tensor '{shown(name)}'"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise ProtoError(f"{where} is sparse, quantized or complex; only plain numbers can be imported")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ProtoError(f"{where} claims {tensor.numel():,} numbers, more than the file has for it")
    # integers count steps and the like; they are no weights
    return tensor.detach().to(torch.float32).numpy() if tensor.is_floating_point() else np.empty(0, np.int64)


def _named(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Tensors:
    """The float32 arrays, without a prefix that all names share."""
    tensors = {name: array for name, array in arrays.items() if array.dtype == np.float32}
    if not tensors:
        raise ProtoError(f"{path}: no floating-point tensors in it; give a state dict")
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


# ---- safetensors


def is_safetensors(buffer: memoryview) -> bool:
    """Whether the bytes start like a safetensors file: a length of eight bytes and JSON."""
    return len(buffer) > 9 and buffer[8] == ord("{") and int.from_bytes(buffer[:8], "little") <= len(buffer) - 8


def read_safetensors(path: Path, *, exact: bool = False) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays by name, and the file's metadata.

    Floating-point arrays become float32 (float32's bits stay as they are). `exact`: float64 stays float64.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    arrays: dict[str, NDArray[Any]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                tensor = file.get_tensor(name)
                doubles = exact and tensor.dtype == torch.float64
                arrays[name] = tensor.numpy() if doubles else _as_array(path, name, tensor)
            return arrays, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, ProtoError):
            raise
        raise ProtoError(
            f"{path}: a damaged or incomplete safetensors file ({shown(str(error), 160)}); copy or download it again"
        ) from None
