"""Data, ImageData, MemoryData, HDF5Data, DummyData."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch

from caffe.cli.compute_image_mean import main as compute_image_mean
from caffe.cli.convert_imageset import main as convert_imageset
from caffe.data.lmdb_source import LmdbWriter
from caffe.data.mean import read_mean_file
from caffe.errors import DataError, NetError
from caffe.proto import caffe_pb2
from caffe.runtime import runtime
from tests.data.conftest import photograph
from tests.data.source_layers import TEST, TRAIN, batches, layer


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 7)


# ---- Data


def write(path: Path, *data: caffe_pb2.Datum) -> Path:
    with LmdbWriter(path) as writer:
        for number, datum in enumerate(data):
            writer.put(f"{number:08d}".encode(), datum.SerializeToString())
    return path


def data_layer(source: Path, transform: str = "", batch: int = 2, phase: int = TEST, more: str = "") -> Any:
    return layer(
        f'name: "d" type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" batch_size: {batch} backend: LMDB {more} }}',
        phase,
    )


def raw(values: np.ndarray, label: int) -> caffe_pb2.Datum:
    channels, height, width = values.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width, label=label)
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data.extend(values.ravel().tolist())
    return datum


def test_raw_bytes_and_floats(tmp_path: Path) -> None:
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    source = write(tmp_path / "db", raw(image, 5), raw(image.astype(np.float32) / 3, 6))
    made = data_layer(source, "scale: 0.5 mean_value: 1 mean_value: 2")
    assert made.shapes == [(2, 2, 3, 4), (2,)]
    ((data, label),) = batches(made, 1)
    mean = np.array([1, 2], np.float32).reshape(2, 1, 1)
    np.testing.assert_allclose(data[0], (image - mean) / 2)
    np.testing.assert_allclose(data[1], (image / 3 - mean) / 2, rtol=1e-6)
    np.testing.assert_array_equal(label, [5, 6])


def test_crop_and_mirror(tmp_path: Path) -> None:
    """In training a random crop, perhaps mirrored; in testing the center, never mirrored."""
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 8), np.uint8)
    source = write(tmp_path / "db", raw(image, 0))
    ((data, _),) = batches(data_layer(source, "crop_size: 4", 1), 1)
    np.testing.assert_array_equal(data[0], image[:, 1:5, 2:6])
    crops = {
        (top, left, flip): image[:, top : top + 4, left : left + 4][:, :, :: -1 if flip else 1].tobytes()
        for top in range(3)
        for left in range(5)
        for flip in (False, True)
    }
    train = data_layer(source, "crop_size: 4 mirror: true", 200, TRAIN)
    seen = {item.astype(np.uint8).tobytes() for item in batches(train, 1)[0][0]}
    assert seen <= set(crops.values())
    assert len(seen) > 25


@pytest.mark.parametrize("encoded", [True, False])
def test_mean_file_is_mirrored_with_raw_data_only(tmp_path: Path, encoded: bool) -> None:
    """As in Caffe, which mirrors the image under a fixed mean if it decodes it, and both if it does not."""
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 6), np.uint8)
    mean = np.random.default_rng(1).random((3, 4, 6), np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=4, width=6, data=mean.ravel().tolist())
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    datum = raw(image, 0)
    if encoded:
        datum.data = cv2.imencode(".png", np.ascontiguousarray(image.transpose(1, 2, 0)))[1].tobytes()
        datum.encoded = True
    made = data_layer(write(tmp_path / "db", datum), f"mirror: true mean_file: '{tmp_path / 'mean'}'", 16)
    data = batches(made, 1)[0][0]
    plain = image - mean
    mirrored = image[:, :, ::-1] - mean if encoded else plain[:, :, ::-1]
    close = [[np.allclose(item, want, atol=1e-4) for want in (plain, mirrored)] for item in data]
    assert all(any(each) for each in close)
    assert {each.index(True) for each in close} == {0, 1}


def test_convert_imageset_to_training(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"a b {number}.png"), photograph(number))
    (tmp_path / "list").write_text("".join(f"a b {number}.png {number + 4}\r\n" for number in range(3)))
    arguments = ["-resize_width=8", "-resize_height=6", f"{tmp_path}/", str(tmp_path / "list"), str(tmp_path / "db")]
    assert convert_imageset(arguments) == 0
    ((data, label),) = batches(data_layer(tmp_path / "db", batch=3), 1)
    np.testing.assert_array_equal(data[1], cv2.resize(photograph(1), (8, 6)).transpose(2, 0, 1))
    np.testing.assert_array_equal(label, [4, 5, 6])
    assert compute_image_mean([str(tmp_path / "db"), str(tmp_path / "mean")]) == 0
    np.testing.assert_allclose(read_mean_file(tmp_path / "mean"), data.mean(0), rtol=1e-6)


def test_mean_of_images_of_several_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "db", raw(np.zeros((1, 2, 3), np.uint8), 0), raw(np.zeros((1, 3, 2), np.uint8), 0))
    assert compute_image_mean([str(source)]) == 1
    assert "record '00000001' is 2 × 3 × 1, but the first is 3 × 2 × 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "datum",
    [
        caffe_pb2.Datum(channels=3, height=2, width=2, data=b"short"),
        caffe_pb2.Datum(channels=-3, height=2, width=2, data=b"12"),
        caffe_pb2.Datum(channels=3, height=1 << 30, width=1 << 30, data=b"12"),
        caffe_pb2.Datum(channels=3, height=2, width=2, data=b"no image", encoded=True),
    ],
)
def test_hostile_datums(tmp_path: Path, datum: caffe_pb2.Datum) -> None:
    with pytest.raises(DataError, match="db', record '00000000'"):
        data_layer(write(tmp_path / "db", datum))


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"not a blob at all", b"\x2a\x04\x00\x00\x80\x3f"])
def test_hostile_mean_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mean"
    path.write_bytes(content)
    with pytest.raises(DataError, match="mean_file"):
        read_mean_file(path)


# ---- ImageData


def image_list(folder: Path, count: int = 5) -> Path:
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), photograph(number))
    (folder / "list.txt").write_text("".join(f"{number}.png {number}\n" for number in range(count)))
    return folder


def image_layer(folder: Path, more: str = "", phase: int = TRAIN, batch: int = 2) -> Any:
    return layer(
        f'name: "i" type: "ImageData" top: "data" top: "label" image_data_param {{ source: "{folder}/list.txt" '
        f'root_folder: "{folder}/" batch_size: {batch} {more} }}',
        phase,
    )


def test_images_in_order_and_resized(tmp_path: Path) -> None:
    made = image_layer(image_list(tmp_path), "new_height: 12 new_width: 10", batch=3)
    assert made.shapes == [(3, 3, 12, 10), (3,)]
    (_, labels), (second, more) = batches(made, 2)
    np.testing.assert_array_equal(np.concatenate([labels, more]), [0, 1, 2, 3, 4, 0])
    np.testing.assert_array_equal(second[0], cv2.resize(photograph(3), (10, 12)).transpose(2, 0, 1))
    assert made.record_keys() == ["3.png", "4.png", "0.png"]
    assert made.record_keys(2) == [f"{number}.png" for number in (0, 1, 2, 3, 4, 0)]
    assert made.record_keys(9) == made.record_keys(2), "no more than were read"


def test_shuffled_anew_for_every_epoch(tmp_path: Path) -> None:
    made = image_layer(image_list(tmp_path), "shuffle: true is_color: false", batch=5)
    assert made.shapes[0] == (5, 1, 60, 80)
    orders = [tuple(label) for _, label in batches(made, 4)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 1
    again = image_layer(tmp_path, "shuffle: true is_color: false", batch=5)
    again.start_at(2)
    assert tuple(batches(again, 1)[0][1]) == orders[2]


def test_image_list_faults(tmp_path: Path) -> None:
    image_list(tmp_path, 1)
    with pytest.raises(NetError, match="new_height and new_width together"):
        image_layer(tmp_path, "new_height: 5")
    (tmp_path / "list.txt").write_text("gone.png 1\n")
    with pytest.raises(DataError, match=r"gone\.png'.*cannot read the image"):
        image_layer(tmp_path)
    (tmp_path / "list.txt").write_text("0.png one\n0.png\n")
    with pytest.raises(DataError, match=r"layer 'i'(.|\n)*2 faults(.|\n)*list\.txt:1(.|\n)*list\.txt:2"):
        image_layer(tmp_path)


# ---- MemoryData


def memory_layer(text: str = "batch_size: 2 channels: 1 height: 2 width: 3") -> Any:
    return layer(f'name: "m" type: "MemoryData" top: "data" top: "label" memory_data_param {{ {text} }}')


def test_memory_goes_round() -> None:
    made = memory_layer()
    data = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    made.reset(data, np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1))
    seen = batches(made, 3)
    assert made.record_keys(2) == ["item 2", "item 3", "item 0", "item 1"]
    np.testing.assert_array_equal(seen[1][0], data[2:])
    np.testing.assert_array_equal(seen[2][0], data[:2])
    assert seen[1][1].ravel().tolist() == [2, 3]


def test_memory_faults() -> None:
    made = memory_layer()
    with pytest.raises(NetError, match="set_input_arrays"):
        made()
    with pytest.raises(NetError, match="3 items: the number must be a multiple of batch_size, 2"):
        made.reset(np.zeros((3, 1, 2, 3)), np.zeros(3))
    with pytest.raises(NetError, match="items have shape"):
        made.reset(np.zeros((2, 1, 3, 3)), np.zeros(2))
    with pytest.raises(NetError, match="5 labels for 2 items"):
        made.reset(np.zeros((2, 1, 2, 3)), np.zeros(5))
    with pytest.raises(NetError, match="all over 0"):
        memory_layer("batch_size: 2")


# ---- HDF5Data


def hdf5_layer(folder: Path, batch: int = 3, shuffle: bool = False, tops: str = 'top: "data" top: "label"') -> Any:
    return layer(
        f'name: "h" type: "HDF5Data" {tops} hdf5_data_param {{ source: "{folder}/files.txt" batch_size: {batch} '
        f"shuffle: {str(shuffle).lower()} }}"
    )


@pytest.fixture
def hdf5_files(tmp_path: Path) -> Path:
    start = 0
    for name, rows in (("a", 4), ("b", 3)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            values = np.arange(start, start + rows, dtype=np.float64)
            file["data"] = np.repeat(values, 6).reshape(rows, 2, 3)
            file["label"] = values.astype(np.int32)
        start += rows
    (tmp_path / "files.txt").write_text(f"{tmp_path}/a.h5\n{tmp_path}/b.h5\n")
    return tmp_path


def test_hdf5_rows_in_order_over_files(hdf5_files: Path) -> None:
    made = hdf5_layer(hdf5_files)
    assert made.shapes == [(3, 2, 3), (3,)]
    labels = np.concatenate([label for _, label in batches(made, 5)])
    np.testing.assert_array_equal(labels, np.arange(15) % 7)
    made.start_at(1)
    data, label = batches(made, 1)[0]
    np.testing.assert_array_equal(data[:, 0, 0], label)
    np.testing.assert_array_equal(label, [3, 4, 5])


def test_hdf5_shuffles_files_and_rows(hdf5_files: Path) -> None:
    labels = [tuple(label) for _, label in batches(hdf5_layer(hdf5_files, 7, shuffle=True), 12)]
    assert all(sorted(each) == list(range(7)) for each in labels)
    assert {each[0] < 4 for each in labels} == {False, True}
    assert len(set(labels)) > 6
    # a file's rows stay together: one file is in memory at a time
    assert all({value < 4 for value in each[:3]} == {each[0] < 4} for each in labels)


def test_hdf5_faults(hdf5_files: Path) -> None:
    with pytest.raises(NetError, match=r"a\.h5' has no dataset 'boxes'; it has 'data', 'label'"):
        hdf5_layer(hdf5_files, tops='top: "boxes"')
    (hdf5_files / "b.h5").write_bytes(b"no hdf5")
    with pytest.raises(NetError, match=r"cannot open '.*b\.h5'"):
        hdf5_layer(hdf5_files)
    (hdf5_files / "files.txt").unlink()
    with pytest.raises(DataError, match="layer 'h' .*cannot read list"):
        hdf5_layer(hdf5_files)


# ---- DummyData


def dummy_layer(text: str, tops: int = 2) -> Any:
    return layer(f'name: "x" type: "DummyData" {"top: " + chr(34) + "t" + chr(34) + " "} '.replace(
        'top: "t"', " ".join(f'top: "t{i}"' for i in range(tops))) + f"dummy_data_param {{ {text} }}")  # fmt: skip


def test_dummy_shapes_and_fillers() -> None:
    made = dummy_layer(
        "shape { dim: 2 dim: 3 } shape { dim: 4 } data_filler { type: 'constant' value: 5 } "
        "data_filler { type: 'uniform' min: 1 max: 2 }"
    )
    assert made.shapes == [(2, 3), (4,)]
    torch.manual_seed(0)
    (constant, random), (same, other) = batches(made, 2)
    np.testing.assert_array_equal(constant, np.full((2, 3), 5))
    np.testing.assert_array_equal(constant, same)
    assert ((random >= 1) & (random <= 2)).all()
    assert (random != other).all()


def test_dummy_legacy_sizes() -> None:
    made = dummy_layer("num: 2 channels: 3 channels: 1 height: 4 width: 5")
    assert made.shapes == [(2, 3, 4, 5), (2, 1, 4, 5)]
    assert (batches(made, 1)[0][1] == 0).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 shape entries"),
        ("num: 1 shape { dim: 1 }", "both shape and num"),
        ("num: 1 channels: 1 height: 1", "0 width entries"),
        ("shape { dim: 1 } " + "data_filler { } " * 3, "3 data_filler entries"),
        ("shape { dim: -1 }", "negative size"),
    ],
)
def test_dummy_faults(text: str, says: str) -> None:
    with pytest.raises(NetError, match="layer 'x'") as error:
        dummy_layer(text)
    assert says in str(error.value)
