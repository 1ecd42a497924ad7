"""SegNet's: images with images of labels, and dropout that goes on in testing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caffe.engine.layer import TEST, TRAIN
from caffe.errors import DataError
from tests.layer_harness import make_layer, run

Pixels = NDArray[np.uint8]


def write(folder: Path, sizes: list[tuple[int, int]]) -> list[tuple[Pixels, Pixels]]:
    """Images and label images of these sizes in `folder`, and list.txt."""
    rng = np.random.default_rng(0)
    pairs = []
    for i, size in enumerate(sizes):
        image, label = (rng.integers(0, 250, shape, dtype=np.uint8) for shape in ((*size, 3), size))
        cv2.imwrite(str(folder / f"{i}.png"), image)
        cv2.imwrite(str(folder / f"{i}_label.png"), label)
        pairs.append((image, label))
    (folder / "list.txt").write_text("".join(f"{i}.png {i}_label.png\n" for i in range(len(sizes))))
    return pairs


def layer_of(folder: Path, options: str = "batch_size: 2", more: str = "", phase: int = TEST) -> Any:
    text = f'dense_image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/" {options} }} {more}'
    return make_layer("DenseImageData", text, [], 2, phase)


def test_images_and_labels_in_the_order_of_the_list(tmp_path: Path) -> None:
    pairs = write(tmp_path, [(6, 8)] * 3)
    layer = layer_of(tmp_path, more="transform_param { mean_value: 10 scale: 0.5 }")
    assert layer.reshape([]) == [(2, 3, 6, 8), (2, 1, 6, 8)]
    for batch in range(2):
        data, labels = run(layer)
        for item in range(2):
            image, label = pairs[(2 * batch + item) % 3]
            np.testing.assert_allclose(data[item], (image.transpose(2, 0, 1) - 10.0) * 0.5)
            np.testing.assert_array_equal(labels[item, 0], label)
    layer.close()


def test_resized_labels_keep_their_values(tmp_path: Path) -> None:
    ((image, label),) = write(tmp_path, [(6, 9)])
    layer = layer_of(tmp_path, "batch_size: 1 new_height: 9 new_width: 4 is_color: false")
    data, labels = run(layer)
    assert data.shape == labels.shape == (1, 1, 9, 4)
    np.testing.assert_array_equal(labels[0, 0], cv2.resize(label, (4, 9), interpolation=cv2.INTER_NEAREST))
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    np.testing.assert_allclose(data[0, 0], cv2.resize(gray, (4, 9)), atol=1)
    layer.close()


def test_labels_smaller_by_a_factor(tmp_path: Path) -> None:
    """Of ENet: the labels of its encoder, which makes maps of an eighth of the size."""
    ((_, label),) = write(tmp_path, [(10, 12)])
    layer = layer_of(tmp_path, "batch_size: 1 new_height: 9 new_width: 16 label_divide_factor: 4")
    assert layer.reshape([]) == [(1, 3, 9, 16), (1, 1, 2, 4)]
    data, labels = run(layer)
    assert data.shape == (1, 3, 9, 16)
    np.testing.assert_array_equal(labels[0, 0], cv2.resize(label, (4, 2), interpolation=cv2.INTER_NEAREST))
    layer.close()


def test_mirror_and_crop_change_both_alike(tmp_path: Path) -> None:
    """The label image here is the image's first channel, and stays it."""
    write(tmp_path, [(7, 9)])
    rng = np.random.default_rng(1)
    gray = rng.integers(0, 250, (7, 9), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), np.stack([gray] * 3, -1))
    cv2.imwrite(str(tmp_path / "0_label.png"), gray)
    layer = layer_of(tmp_path, "batch_size: 30 mirror: true crop_height: 4 crop_width: 5", phase=TRAIN)
    data, labels = run(layer)
    assert data.shape == (30, 3, 4, 5)
    torch.testing.assert_close(data[:, :1], labels)
    parts = {part.numpy().tobytes() for part in labels}
    possible = {
        np.ascontiguousarray(side[y : y + 4, x : x + 5], np.float32).tobytes()
        for side in (gray, gray[:, ::-1])
        for y in range(4)
        for x in range(5)
    }
    assert parts <= possible
    assert len(parts) > 10
    layer.close()


def test_shuffled_lists_have_every_image_once(tmp_path: Path) -> None:
    pairs = write(tmp_path, [(2, 2)] * 5)
    layer = layer_of(tmp_path, "batch_size: 5 shuffle: true", phase=TRAIN)
    _, labels = run(layer)
    assert {x.numpy().tobytes() for x in labels[:, 0]} == {p[1].astype(np.float32).tobytes() for p in pairs}
    layer.close()


def test_one_image_at_a_time_may_have_any_size(tmp_path: Path) -> None:
    write(tmp_path, [(4, 6), (3, 5)])
    layer = layer_of(tmp_path, "batch_size: 1")
    assert [tuple(t.shape) for t in run(layer)] == [(1, 3, 4, 6), (1, 1, 4, 6)]
    assert [tuple(t.shape) for t in run(layer)] == [(1, 3, 3, 5), (1, 1, 3, 5)]
    layer.close()


def test_bad_lists_and_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"layer 'l' \(DenseImageData\): cannot read list"):
        layer_of(tmp_path)
    write(tmp_path, [(4, 4), (4, 4)])
    cv2.imwrite(str(tmp_path / "1_label.png"), np.zeros((4, 5), np.uint8))
    layer = layer_of(tmp_path)
    with pytest.raises(DataError, match="1_label.png' of image .*1.png' is 4×5 .height × width., the image 4×4"):
        run(layer)
    layer.close()
    (tmp_path / "0_label.png").write_bytes(b"no image")
    layer = layer_of(tmp_path)
    with pytest.raises(DataError, match="0_label.png' of image .*0.png': cannot decode the image"):
        run(layer)
    layer.close()
    layer = layer_of(tmp_path, "batch_size: 1 crop_height: 5 crop_width: 2")
    with pytest.raises(DataError, match="(smaller than crop_height × crop_width 5×2|cannot decode)"):
        run(layer)
    layer.close()
    (tmp_path / "list.txt").write_text("0.png\n")
    with pytest.raises(DataError, match="found one word"):
        layer_of(tmp_path)


def test_dropout_goes_on_in_testing() -> None:
    layer = make_layer(
        "Dropout", "dropout_param { dropout_ratio: 0.5 sample_weights_test: true }", [(2000,)], phase=TEST
    )
    torch.manual_seed(0)
    first, second = (run(layer, torch.ones(2000))[0] for _ in range(2))
    assert set(first.tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)
