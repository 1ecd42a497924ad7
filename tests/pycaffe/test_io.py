"""caffe.io: messages and arrays, the Transformer, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import caffe
from caffe.errors import CaffeError, DataError
from caffe.proto import caffe_pb2

rng = np.random.default_rng(0)


def test_blob_of_the_old_form() -> None:
    blob = caffe_pb2.BlobProto(data=range(24), num=1, channels=2, height=3, width=4)
    array = caffe.io.blobproto_to_array(blob)
    np.testing.assert_array_equal(array, np.arange(24).reshape(1, 2, 3, 4))


def test_blob_there_and_back() -> None:
    data, diff = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    blob = caffe.io.array_to_blobproto(data, diff)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), data.astype(np.float32))
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), diff.astype(np.float32))


def test_blob_of_doubles() -> None:
    blob = caffe_pb2.BlobProto(double_data=[0.1, 0.2], shape=caffe_pb2.BlobShape(dim=[2]))
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), [0.1, 0.2])


def test_blob_without_shape() -> None:
    with pytest.raises(ValueError, match="reshape"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))
    assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123


def test_blob_and_diff_must_agree() -> None:
    with pytest.raises(CaffeError, match=r"\(2,\) differs from the data's \(3,\)"):
        caffe.io.array_to_blobproto(np.zeros(3), np.zeros(2))


def test_list_of_blobs_there_and_back() -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.ones((1, 1, 4))]
    found = caffe.io.blobprotovector_str_to_arraylist(caffe.io.arraylist_to_blobprotovector_str(arrays))
    assert len(found) == 2
    for a, b in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum_there_and_back(dtype: Any) -> None:
    array = (rng.random((3, 4, 5)) * 255).astype(dtype)
    datum = caffe.io.array_to_datum(array, label=7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 4, 5, 7)
    assert bool(datum.data) == (dtype == np.uint8)
    found = caffe.io.datum_to_array(datum)
    np.testing.assert_array_equal(found, array)
    found[0, 0, 0] = 1  # not a view of the message's bytes


def test_datum_without_label_is_smaller() -> None:
    array = np.ones((3, 2, 2))
    assert not caffe.io.array_to_datum(array).HasField("label")
    with_label, without = (caffe.io.array_to_datum(array, label).ByteSize() for label in (0, None))
    assert with_label > without


def test_datum_mistakes() -> None:
    with pytest.raises(CaffeError, match="2 dimensions"):
        caffe.io.array_to_datum(np.ones((2, 2)))
    with pytest.raises(DataError, match="encoded image"):
        caffe.io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"\xff\xd8"))


@pytest.fixture
def transformer() -> caffe.io.Transformer:
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104.0, 117.0, 123.0]))
    transformer.set_input_scale("data", 0.5)
    return transformer


def test_preprocess(transformer: caffe.io.Transformer) -> None:
    image = rng.random((4, 5, 3)).astype(np.float32)
    before = image.copy()
    found = transformer.preprocess("data", image)
    assert (found.shape, found.dtype) == ((3, 4, 5), np.float32)
    for channel, mean in enumerate((104, 117, 123)):
        np.testing.assert_allclose(found[channel], (image[:, :, 2 - channel] * 255 - mean) / 2, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(image, before)


def test_deprocess_undoes_it(transformer: caffe.io.Transformer) -> None:
    image = rng.random((4, 5, 3)).astype(np.float32)
    back = transformer.deprocess("data", transformer.preprocess("data", image)[np.newaxis])
    np.testing.assert_allclose(back, image, atol=1e-6)


def test_preprocess_resizes(transformer: caffe.io.Transformer) -> None:
    assert transformer.preprocess("data", rng.random((9, 7, 3))).shape == (3, 4, 5)


def test_mean_by_position() -> None:
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 5)})
    mean = rng.random((3, 4, 5)).astype(np.float32)
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", mean)
    np.testing.assert_array_equal(transformer.preprocess("data", np.zeros((4, 5, 3))), -mean)


@pytest.mark.parametrize(
    ("setter", "argument", "message"),
    [
        ("set_transpose", (1, 0), "must have 3 axes"),
        ("set_channel_swap", (1, 0), "must have 3 channels"),
        ("set_mean", np.zeros(2), "2 channels for input 'data' with 3"),
        ("set_mean", np.zeros((3, 4, 6)), r"\(3, 4, 6\) for input 'data' of shape \(3, 4, 5\)"),
        ("set_mean", np.zeros((4, 5)), r"\(4, 5\) for input 'data'"),
    ],
)
def test_transformer_mistakes(setter: str, argument: Any, message: str, transformer: caffe.io.Transformer) -> None:
    with pytest.raises(CaffeError, match=message):
        getattr(transformer, setter)("data", argument)
    with pytest.raises(CaffeError, match="'label' is not an input of the net; its inputs are data"):
        getattr(transformer, setter)("label", argument)


def test_load_image(tmp_path: Path) -> None:
    bgra = rng.integers(0, 256, size=(6, 5, 4), dtype=np.uint8)
    rgb = bgra[:, :, 2::-1].astype(np.float32) / 255
    gray = rgb @ np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
    for name, pixels in (("alpha.png", bgra), ("plain.png", bgra[:, :, :3])):
        cv2.imwrite(str(tmp_path / name), pixels)
        np.testing.assert_allclose(caffe.io.load_image(tmp_path / name), rgb, atol=1e-7)
        found = caffe.io.load_image(str(tmp_path / name), color=False)
        assert found.shape == (6, 5, 1)
        np.testing.assert_allclose(found[:, :, 0], gray, atol=1e-6)


def test_load_gray_image(tmp_path: Path) -> None:
    for name, pixels, largest in (
        ("eight.png", rng.integers(0, 256, size=(6, 5), dtype=np.uint8), 255),
        ("sixteen.png", rng.integers(0, 65536, size=(6, 5), dtype=np.uint16), 65535),
    ):
        cv2.imwrite(str(tmp_path / name), pixels)
        found = caffe.io.load_image(tmp_path / name)
        np.testing.assert_allclose(found, np.repeat(pixels[:, :, None] / largest, 3, axis=2), atol=1e-7)
        assert caffe.io.load_image(tmp_path / name, color=False).shape == (6, 5, 1)


def test_load_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"x.jpg: not an image"):
        caffe.io.load_image(tmp_path / "x.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty.jpg: not an image"):
        caffe.io.load_image(tmp_path / "empty.jpg")
    with pytest.raises(FileNotFoundError):
        caffe.io.load_image(tmp_path / "none.jpg")


def resize_by_hand(image: Any, height: int, width: int) -> Any:
    """Linear interpolation between pixel centers, the border repeated."""
    out = np.zeros((height, width, image.shape[2]))
    for y in range(height):
        for x in range(width):
            sy = np.clip((y + 0.5) * image.shape[0] / height - 0.5, 0, image.shape[0] - 1)
            sx = np.clip((x + 0.5) * image.shape[1] / width - 0.5, 0, image.shape[1] - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, image.shape[0] - 1), min(x0 + 1, image.shape[1] - 1)
            upper = image[y0, x0] * (1 - (sx - x0)) + image[y0, x1] * (sx - x0)
            lower = image[y1, x0] * (1 - (sx - x0)) + image[y1, x1] * (sx - x0)
            out[y, x] = upper * (1 - (sy - y0)) + lower * (sy - y0)
    return out


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("size", [(3, 4), (11, 13), (6, 5)])
def test_resize_image(channels: int, size: tuple[int, int]) -> None:
    image = rng.normal(size=(6, 5, channels)).astype(np.float32)
    found = caffe.io.resize_image(image, size)
    assert (found.shape, found.dtype) == ((*size, channels), np.float32)
    np.testing.assert_allclose(found, resize_by_hand(image, *size), atol=1e-5)


def test_resize_other_orders() -> None:
    image = rng.random((4, 4, 3))
    nearest = caffe.io.resize_image(image, (2, 2), interp_order=0)
    assert all(pixel.tolist() in image.astype(np.float32).reshape(-1, 3).tolist() for pixel in nearest.reshape(-1, 3))
    assert caffe.io.resize_image(np.full((4, 4, 3), 2.5), (7, 7), interp_order=3) == pytest.approx(2.5)
    with pytest.raises(CaffeError, match="interpolation order 2"):
        caffe.io.resize_image(image, (2, 2), interp_order=2)


def test_oversample() -> None:
    images = [rng.random((6, 8, 3)), rng.random((6, 8, 3))]
    crops = caffe.io.oversample(images, (4, 5))
    assert (crops.shape, crops.dtype) == ((20, 4, 5, 3), np.float32)
    for i, image in enumerate(images):
        origins = [(0, 0), (0, 3), (2, 0), (2, 3), (1, 1)]
        for j, (y, x) in enumerate(origins):
            part = image[y : y + 4, x : x + 5].astype(np.float32)
            np.testing.assert_array_equal(crops[10 * i + j], part)
            np.testing.assert_array_equal(crops[10 * i + 5 + j], part[:, ::-1])
    with pytest.raises(CaffeError, match="crops of 7 x 5 do not fit into images of 6 x 8"):
        caffe.io.oversample(images, (7, 5))
