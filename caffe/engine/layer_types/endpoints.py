"""Where a net's data ends or begins: Silence, HDF5Output and Parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from caffe import log
from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import legacy_dim, text
from caffe.errors import shown
from caffe.runtime import runtime


@register
class Silence(Layer):
    """Takes bottoms that nothing else reads, so that they are not the net's outputs."""

    type_name = "Silence"
    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        return ()


@register
class Parameter(Layer):
    """A learned blob of `shape` as a top; zeros at first, or as blob_filler (of caffe-windows) says."""

    type_name = "Parameter"
    bottoms = (0, 0)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.parameter_param
        self.add_blob(tuple(param.shape.dim), param.blob_filler if param.HasField("blob_filler") else None)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [tuple(self.blobs[0].shape)]

    def forward(self, *bottom: Tensor) -> Tensor:
        blob: Tensor = self.blobs[0]
        return blob


@register
class HDF5Output(Layer):
    """Writes its two bottoms into the datasets `data` and `label` (num × channels × height × width) of an HDF5 file.

    The file is created with the net; every forward adds its batch. (The original fails at the second one.) Only HDF5
    files are overwritten. Nothing is written by commands that only look at the net (`runtime.layers_write`).
    """

    type_name = "HDF5Output"
    bottoms = (2, 2)
    tops = (0, 0)

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "writes a file"

    def setup(self, bottom: Sequence[Shape]) -> None:
        name = self.param.hdf5_output_param.file_name
        if not name or "\0" in name:
            self.fail("hdf5_output_param needs a file_name")
        self.path = Path(name)
        self.writes = runtime.layers_write
        if not self.writes:
            log.info(log.here(), f"Layer {self.name} does not write '{self.path}' here")
            return
        if not self.path.is_absolute() and ".." in self.path.parts:
            self.fail(f"file_name '{shown(name)}' leaves the current directory; give the whole path if you mean that")
        import h5py  # loaded where a net has this layer

        try:
            if self.path.exists() and not h5py.is_hdf5(self.path):
                self.fail(f"'{self.path}' exists and is not an HDF5 file; it is not overwritten. Remove it first")
            with h5py.File(self.path, "w"):
                pass
        except OSError as error:
            self.fail(f"cannot write '{self.path}': {error}")

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        if legacy_dim(bottom[0], 0) != legacy_dim(bottom[1], 0):
            self.fail(f"both bottoms need the same batch size; they are {text(bottom[0])} and {text(bottom[1])}")
        if max(map(len, bottom)) > 4:
            self.fail(f"takes at most 4 axes; its bottoms are {text(bottom[0])} and {text(bottom[1])}")
        return []

    @torch.no_grad()
    def forward(self, *bottom: Tensor) -> tuple[Tensor, ...]:
        if not self.writes:
            return ()
        import h5py

        with h5py.File(self.path, "a") as file:
            for name, blob in zip(("data", "label"), bottom, strict=True):
                rows = blob.reshape([legacy_dim(blob.shape, axis) for axis in range(4)]).float().cpu().numpy()
                if name not in file:
                    file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
                    continue
                if file[name].shape[1:] != rows.shape[1:]:
                    self.fail(f"'{self.path}' holds items of {text(file[name].shape[1:])}, now {text(rows.shape[1:])}")
                file[name].resize(len(file[name]) + len(rows), axis=0)
                file[name][-len(rows) :] = rows
        return ()
