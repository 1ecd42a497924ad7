"""Weights of other frameworks: safetensors, PyTorch's checkpoints old and new, Keras's HDF5."""

from __future__ import annotations

import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.numpy import save

from caffe.interop.checkpoint import Tensors, read_checkpoint
from caffe.interop.keras_file import read_keras
from caffe.interop.layout import Layout, check_chain, gather, pairs
from caffe.interop.preprocessing import Preprocessing, absorb, caffe_input
from caffe.interop.safetensors_file import from_safetensors, to_safetensors
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights, write_weights
from tests.fuzz.document_mutate import changed_json
from tests.fuzz.mutate import mutated

_NAMES = ["conv1_1", "conv1_2"]
_LAYOUT = Layout(
    "a small network",
    pairs({"conv1_1": "features.0", "conv1_2": "features.2"}),
    Preprocessing.of_unit_range("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ignored="",
)
_KERAS = Layout("a small network", pairs({name: name for name in _NAMES}), _LAYOUT.preprocessing, ignored="")


def _parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"features.0.weight": (4, 3, 3, 3), "features.0.bias": (4,),
              "features.2.weight": (4, 4, 3, 3), "features.2.bias": (4,)}  # fmt: skip
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def import_with(read: Callable[[Path], Tensors], layout: Layout) -> Callable[[Path], float]:
    """What `caffe import_weights` does with a file of a backbone."""

    def imported(path: Path) -> float:
        layers = gather(path, read(path), layout, {"other": layout})
        check_chain(path, layers, layout, _NAMES)
        weight, bias = layers["conv1_1"]
        weight, bias, change = absorb(weight, bias, layout.preprocessing, caffe_input())
        return float(weight.sum() + bias.sum() + change)

    return imported


# ---- PyTorch


@cache
def checkpoints() -> list[bytes]:
    """A state dict; one inside a checkpoint, with a wrapper's prefix and half precision; PyTorch's form before 1.6."""
    state = {name: torch.from_numpy(array) for name, array in _parameters().items()}
    wrapped = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    samples = []
    for content, settings in (
        (state, {}),
        ({"epoch": 3, "state_dict": wrapped, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, {}),
        (state, {"_use_new_zipfile_serialization": False}),
    ):
        file = io.BytesIO()
        torch.save(content, file, **settings)
        samples.append(file.getvalue())
    return samples


def changed_checkpoint(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """Mutations of a file's bytes, or of what one of the zip archive's entries holds, with sums that match."""
    sample = rng.choice(samples)
    if not sample.startswith(b"PK") or rng.random() < 1 / 3:
        return mutated([sample], rng)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sample)) as old, zipfile.ZipFile(written, "w") as new:
        entries = old.infolist()
        chosen = rng.choice([entry for entry in entries if entry.filename.endswith((".pkl", "/0"))] + entries)
        for entry in entries:
            data = old.read(entry)
            new.writestr(entry.filename, mutated([data], rng) if entry is chosen else data)
    return written.getvalue()


read_pytorch = import_with(read_checkpoint, _LAYOUT)


# ---- safetensors


@cache
def safetensors_files() -> list[bytes]:
    """A state dict, and a caffemodel whose other bytes are in the metadata."""
    net = caffe_pb2.NetParameter(name="net")
    net.layer.add(name="conv1_1", type="Convolution")
    net.layer.add(name="conv1_2", type="Convolution")
    arrays = list(_parameters().values())
    with tempfile.TemporaryDirectory() as folder:
        weights, exported = Path(folder) / "net.caffemodel", Path(folder) / "net.safetensors"
        write_weights(weights, net, [arrays[:2], arrays[2:]])
        to_safetensors(weights, exported)
        return [save(_parameters(), {"format": "pt"}), exported.read_bytes()]


def changed_safetensors(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """Mutations of a file's bytes, or another header of the right length."""
    sample = rng.choice(samples)
    if rng.random() < 1 / 3:
        return mutated([sample], rng)
    (size,) = struct.unpack("<Q", sample[:8])
    document = json.loads(sample[8 : 8 + size])
    metadata = document.get("__metadata__", {})
    if "caffemodel_places" in metadata and rng.random() < 0.5:
        key = rng.choice(("caffemodel_places", "caffemodel_without_numbers"))
        change = changed_json if key == "caffemodel_places" else mutated
        metadata[key] = change([metadata[key].encode()], rng).decode("utf-8", "replace")
        header = json.dumps(document).encode()
    else:
        header = changed_json([sample[8 : 8 + size]], rng)
    return struct.pack("<Q", len(header)) + header + sample[8 + size :]


def read_safetensors(path: Path) -> float:
    """As a backbone if it has that form, else as a caffemodel."""
    if b"features." in path.read_bytes():
        return read_pytorch(path)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "net.caffemodel"
        from_safetensors(path, written)
        return sum(float(blob.sum(dtype="f8")) for layer in read_weights(written) for blob in layer.blobs)


# ---- Keras


@cache
def keras_files() -> list[bytes]:
    """Keras 2's groups by layer, and Keras 3's anonymous ones."""
    samples = []
    arrays = [
        array.transpose(2, 3, 1, 0) if array.ndim == 4 else array for array in _parameters().values()
    ]  # height, width, channels, filters
    for keras3 in (False, True):
        file = io.BytesIO()
        with h5py.File(file, "w") as root:
            for number, name in enumerate(_NAMES):
                if keras3:
                    group = root.create_group(f"layers/conv2d_{number}/vars")
                    group.attrs["name"] = name
                    names = ("0", "1")
                else:
                    group = root.create_group(f"{name}/{name}")
                    names = ("kernel:0", "bias:0")
                for key, array in zip(names, arrays[2 * number : 2 * number + 2], strict=True):
                    group.create_dataset(key, data=array)
        samples.append(file.getvalue())
    return samples


read_keras_weights = import_with(read_keras, _KERAS)
