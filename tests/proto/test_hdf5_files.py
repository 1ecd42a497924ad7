"""HDF5 files of weights that are damaged or hostile, and unusual ones that are not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe.errors import ProtoError
from caffe.proto.weights import read_weights, write_weights
from tests.proto.small_net import small_net


class TestHostileHdf5:
    def write(self, tmp_path: Path, fill: Callable[[h5py.File], object]) -> Path:
        path = tmp_path / "w.caffemodel.h5"
        with h5py.File(path, "w") as file:
            fill(file)
        return path

    def refuse(self, path: Path, says: str) -> None:
        with pytest.raises(ProtoError, match=says):
            read_weights(path)

    def test_a_link_to_another_file_is_not_followed(self, tmp_path: Path) -> None:
        def fill(file: h5py.File) -> None:
            file.create_group("data/ip")["0"] = h5py.ExternalLink("other.h5", "/secret")

        self.refuse(self.write(tmp_path, fill), "is a link")

    def test_data_outside_the_file_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "raw").write_bytes(bytes(16))

        def fill(file: h5py.File) -> None:
            file.create_dataset("data/ip/0", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])

        self.refuse(self.write(tmp_path, fill), "another file")

    def test_a_huge_array_without_data_is_not_allocated(self, tmp_path: Path) -> None:
        self.refuse(
            self.write(tmp_path, lambda f: f.create_dataset("data/ip/0", (1 << 40,), "f4", chunks=(1024,))), "claims"
        )

    def test_text_is_no_weight(self, tmp_path: Path) -> None:
        self.refuse(self.write(tmp_path, lambda f: f.create_dataset("data/ip/0", data=[b"abc"])), "not numbers")

    def test_another_hdf5_says_what_it_holds(self, tmp_path: Path) -> None:
        self.refuse(self.write(tmp_path, lambda f: f.create_group("model_weights")), "'model_weights'")

    def test_a_cut_file(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, lambda f: f.create_dataset("data/ip/0", data=np.ones(100, "f4")))
        path.write_bytes(path.read_bytes()[:-50])
        self.refuse(path, "damaged HDF5")

    def test_layers_that_contain_themselves_end(self, tmp_path: Path) -> None:
        def fill(file: h5py.File) -> None:
            group = file.create_group("data/a")
            group["a"] = group

        self.refuse(self.write(tmp_path, fill), "nested over 16 deep")


def test_an_hdf5_heap_larger_than_the_file_is_not_allocated(tmp_path: Path) -> None:
    net, blobs = small_net()
    path = tmp_path / "w.h5"
    write_weights(path, net, blobs)
    data = bytearray(path.read_bytes())
    at = data.index(b"HEAP\0\0\0\0")
    data[at + 8 : at + 16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(ProtoError, match="a heap of 1,099,511,627,776 bytes"):
        read_weights(path)


def test_free_blocks_that_form_a_ring(tmp_path: Path) -> None:
    """The HDF5 library would list them until no memory is left."""
    net, blobs = small_net()
    path = tmp_path / "w.h5"
    write_weights(path, net, blobs)
    data = bytearray(path.read_bytes())
    at = data.index(b"HEAP\0\0\0\0")
    size, free, start = struct.unpack_from("<QQQ", data, at + 8)
    assert free + 16 <= size, "a free block"
    data[start + free : start + free + 8] = free.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(ProtoError, match="a heap whose free blocks do not end"):
        read_weights(path)


def test_a_tree_that_is_its_own_child(tmp_path: Path) -> None:
    """The HDF5 library would follow it until the stack is full."""
    net, blobs = small_net()
    path = tmp_path / "w.h5"
    write_weights(path, net, blobs)
    whole = path.read_bytes()
    trees = [place for place in range(len(whole)) if whole.startswith(b"TREE", place) and whole[place + 6]]  # not empty
    assert len(trees) > 1
    for tree, child in zip(trees, [*trees[1:], trees[0]], strict=True):
        for target in (tree, child):
            data = bytearray(whole)
            data[tree + 5] = 1  # the level
            data[tree + 32 : tree + 40] = target.to_bytes(8, "little")
            if target == child:
                data[child + 5] = 1
                data[child + 32 : child + 40] = tree.to_bytes(8, "little")
            path.write_bytes(data)
            with pytest.raises(ProtoError, match="a tree whose nodes are not below one another"):
                read_weights(path)


def test_trees_of_several_levels_are_read(tmp_path: Path) -> None:
    """A group of 2,000 members, and an array in 1,000 blocks."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        group = file.create_group("data")
        for number in range(2000):
            group.create_group(f"layer{number}")
        group.create_dataset("layer7/0", data=np.arange(1000, dtype=np.float32), chunks=(1,))
    data = path.read_bytes()
    assert {data[place + 5] for place in range(len(data)) if data.startswith(b"TREE", place)} >= {0, 1}
    (layer,) = [layer for layer in read_weights(path) if layer.blobs]
    np.testing.assert_array_equal(np.array(layer.blobs[0]), np.arange(1000))


def test_an_object_without_size_in_a_global_heap(tmp_path: Path) -> None:
    """The HDF5 library would never come to the heap's end."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["name"] = "a text of variable length"
    data = bytearray(path.read_bytes())
    free = data.index(b"GCOL\1\0\0\0") + 16 + 16 + 32
    assert data[free : free + 2] == bytes(2), "the free space"
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(ProtoError, match="a global heap whose objects do not end"):
        read_weights(path)
