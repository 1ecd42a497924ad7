"""ImageLabelmapData of HED, ImageSegData of PSPNet: what is done to images and labels alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST, TRAIN
from caffe.errors import DataError, NetError
from caffe.proto import caffe_pb2
from tests.layer_harness import make_layer, run
from tests.layers.forks.test_segnet import write


def layer_of(kind: str, folder: Path, options: str = "", transform: str = "", phase: int = TEST, tops: int = 2) -> Any:
    text = f'image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/" {options} }}'
    return make_layer(kind, f"{text} transform_param {{ {transform} }}", [], tops, phase)


def test_maps_become_0_and_1(tmp_path: Path) -> None:
    pairs = write(tmp_path, [(6, 8)] * 3)
    grays = np.arange(256, dtype=np.uint8)[:48].reshape(6, 8)
    grays[0, :4] = 0, 127, 128, 255
    cv2.imwrite(str(tmp_path / "0_label.png"), grays)
    layer = layer_of("ImageLabelmapData", tmp_path, "batch_size: 2", "mean_value: 10 scale: 0.5")
    assert layer.reshape([]) == [(2, 3, 6, 8), (2, 1, 6, 8)]
    data, maps = run(layer)
    np.testing.assert_allclose(data[1], (pairs[1][0].transpose(2, 0, 1) - 10.0) * 0.5)
    assert maps[0, 0, 0, :4].tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(maps[1, 0], pairs[1][1] > 127)
    layer.close()
    for text, expected in (("normalize: false", grays), ("normalize: true", grays > 127)):
        layer = layer_of("ImageLabelmapData", tmp_path, text)
        np.testing.assert_array_equal(run(layer)[1][0, 0], expected)
        layer.close()


def test_resized_maps_are_interpolated_before(tmp_path: Path) -> None:
    ((image, label),) = write(tmp_path, [(6, 9)])
    layer = layer_of("ImageLabelmapData", tmp_path, "new_height: 9 new_width: 4")
    data, maps = run(layer)
    np.testing.assert_array_equal(maps[0, 0], cv2.resize(label, (4, 9)) > 127)
    np.testing.assert_allclose(data[0], cv2.resize(image, (4, 9)).transpose(2, 0, 1))
    layer.close()


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_maps_are_cut_and_turned_over_with_their_images(tmp_path: Path, phase: int) -> None:
    """The map is the image's gray values; a mean file of the whole image goes with its pixels."""
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 250, (7, 9), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), gray)
    (tmp_path / "list.txt").write_text("0.png 0.png\n")
    mean = rng.uniform(0, 99, (7, 9)).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=7, width=9, data=mean.ravel())
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    transform = f'mirror: true crop_size: 5 mean_file: "{tmp_path}/mean" scale: 2'
    layer = layer_of("ImageLabelmapData", tmp_path, "batch_size: 40 normalize: false is_color: false", transform, phase)
    data, maps = run(layer)
    assert data.shape == maps.shape == (40, 1, 5, 5)
    parts = {part.numpy().tobytes(): values.numpy() for part, values in zip(maps, data, strict=True)}
    whole = (gray - mean) * 2
    possible = {
        np.ascontiguousarray(a[y : y + 5, x : x + 5], np.float32).tobytes(): b[y : y + 5, x : x + 5]
        for a, b in ((gray, whole), (gray[:, ::-1], whole[:, ::-1]))
        for y in range(3)
        for x in range(5)
    }
    assert len(parts) > 12
    for part, values in parts.items():
        np.testing.assert_allclose(values[0], possible[part], rtol=1e-5)
    layer.close()


@pytest.mark.parametrize("kind", ["ImageLabelmapData", "ImageSegData"])
def test_one_image_at_a_time_may_have_any_size(tmp_path: Path, kind: str) -> None:
    write(tmp_path, [(4, 6), (3, 5)])
    layer = layer_of(kind, tmp_path, "label_type: PIXEL" if kind == "ImageSegData" else "")
    assert [tuple(t.shape) for t in run(layer)] == [(1, 3, 4, 6), (1, 1, 4, 6)]
    assert [tuple(t.shape) for t in run(layer)] == [(1, 3, 3, 5), (1, 1, 3, 5)]
    layer.close()


def test_labels_of_each_type(tmp_path: Path) -> None:
    ((image, label),) = write(tmp_path, [(5, 6)])
    layer = layer_of("ImageSegData", tmp_path, "label_type: PIXEL", "mean_value: 3 mean_value: 4 mean_value: 5", tops=3)
    assert layer.reshape([]) == [(1, 3, 5, 6), (1, 1, 5, 6), (1, 1, 1, 2)]
    data, labels, sizes = run(layer)
    np.testing.assert_allclose(data[0], image.transpose(2, 0, 1) - np.array([3.0, 4, 5]).reshape(3, 1, 1))
    np.testing.assert_array_equal(labels[0, 0], label)
    assert sizes.tolist() == [[[[5, 6]]]]
    layer.close()
    layer = layer_of("ImageSegData", tmp_path, "label_type: NONE ignore_label: 9")
    assert run(layer)[1].unique().tolist() == [9]
    layer.close()
    (tmp_path / "list.txt").write_text("0.png 17\n")
    layer = layer_of("ImageSegData", tmp_path)
    assert run(layer)[1].unique().tolist() == [17]
    layer.close()
    (tmp_path / "list.txt").write_text("0.png 256\n")
    with pytest.raises(NetError, match="classes in '.*list.txt' must be from 0 to 255, not 256"):
        layer_of("ImageSegData", tmp_path)


@pytest.mark.parametrize(("phase", "row", "column"), [(TEST, 1, 0), (TRAIN, None, 0)])
def test_crops_are_continued_with_mean_and_ignore_label(
    tmp_path: Path, phase: int, row: int | None, column: int
) -> None:
    """An image 6 high and 3 wide, cut to 4 × 4."""
    ((image, label),) = write(tmp_path, [(6, 3)])
    transform = "crop_size: 4 mean_value: 7"
    layer = layer_of("ImageSegData", tmp_path, "label_type: PIXEL batch_size: 8", transform, phase, 3)
    data, labels, sizes = run(layer)
    rows = set()
    for item in range(8):
        (top,) = (y for y in range(3) if np.array_equal(labels[item, 0, :, :3], label[y : y + 4]))
        rows.add(top)
        np.testing.assert_allclose(data[item, :, :, :3], image[top : top + 4].transpose(2, 0, 1) - 7.0)
        assert not data[item, :, :, 3].any()
        assert labels[item, 0, :, 3].unique().tolist() == [255]
        assert sizes[item].tolist() == [[[4, 3]]]
    assert rows == {row} if row is not None else len(rows) > 1
    layer.close()


def test_scale_factors_are_drawn(tmp_path: Path) -> None:
    ((image, label),) = write(tmp_path, [(5, 7)])
    layer = layer_of("ImageSegData", tmp_path, "label_type: PIXEL", "scale_factors: 1 scale_factors: 1.5", TRAIN, 3)
    seen = set()
    for _ in range(12):
        data, labels, sizes = run(layer)
        seen.add(tuple(data.shape[2:]))
        large = data.shape[2] == 7
        expected = cv2.resize(image, (10, 7)) if large else image
        np.testing.assert_allclose(data[0], expected.transpose(2, 0, 1))
        nearest = cv2.resize(label, (10, 7), interpolation=cv2.INTER_NEAREST) if large else label
        np.testing.assert_array_equal(labels[0, 0], nearest)
        assert sizes.tolist() == [[[[5, 7]]]]
    assert seen == {(5, 7), (7, 10)}
    layer.close()


def test_a_scaled_image_is_cut_and_turned_over_with_its_labels(tmp_path: Path) -> None:
    gray = np.random.default_rng(1).integers(0, 250, (7, 9), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), gray)
    (tmp_path / "list.txt").write_text("0.png 0.png\n")
    layer = layer_of(
        "ImageSegData", tmp_path, "label_type: PIXEL is_color: false batch_size: 30", "crop_size: 8 mirror: true", TRAIN
    )
    data, labels = run(layer)
    inside = labels != 255
    torch.testing.assert_close(data[inside], labels[inside])
    assert not data[~inside].any()
    assert len({part.numpy().tobytes() for part in labels}) == 4  # two places, and both ways round
    layer.close()


def test_bad_lists_and_images(tmp_path: Path) -> None:
    for kind in ("ImageLabelmapData", "ImageSegData"):
        with pytest.raises(DataError, match=rf"layer 'l' \({kind}\): cannot read list"):
            layer_of(kind, tmp_path)
    write(tmp_path, [(4, 4)])
    with pytest.raises(DataError, match=r"layer 'l' \(ImageSegData\): 1 fault in list '(.|\n)*expected 'image label'"):
        layer_of("ImageSegData", tmp_path)
    with pytest.raises(NetError, match="rand_skip drew [1-9]+.*, but the list has 1 images"):
        layer_of("ImageLabelmapData", tmp_path, "rand_skip: 1000000")
    layer = layer_of("ImageLabelmapData", tmp_path, "", "crop_size: 5")
    with pytest.raises(DataError, match="0.png' is 4×4 .height × width., smaller than crop_size 5"):
        run(layer)
    layer.close()
    cv2.imwrite(str(tmp_path / "0_label.png"), np.zeros((4, 5), np.uint8))
    for kind, options in (("ImageLabelmapData", ""), ("ImageSegData", "label_type: PIXEL")):
        layer = layer_of(kind, tmp_path, options)
        with pytest.raises(DataError, match="0_label.png' of image .*0.png' is 4×5 .height × width., the image 4×4"):
            run(layer)
        layer.close()


def test_other_layers_refuse_scale_factors(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("0.png 1\n")
    with pytest.raises(NetError, match=r"\(ImageData\): scale_factors of transform_param are for ImageSegData layers"):
        layer_of("ImageData", tmp_path, "", "scale_factors: 2")
