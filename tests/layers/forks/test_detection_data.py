"""DetectionData: its tops, sizes of batches, orders, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.layer import TRAIN
from caffe.errors import CaffeError
from caffe.runtime import set_random_seed
from tests.layer_harness import make_layer, run
from tests.layers.forks.object_scenes import batches, random_scenes, write_scenes

MAPS = "stride: [8, 16] field_w: [16, 32] field_h: [16, 32]"


@pytest.fixture(autouse=True)
def _seed() -> None:
    set_random_seed(7)


def layer_of(folder: Path, options: str, more: str = "", tops: int = 4, maps: str = MAPS) -> Any:
    text = f'detection_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/" {maps} {options} }} {more}'
    return make_layer("DetectionData", text, [], tops, TRAIN)


def test_images_label_maps_and_objects(tmp_path: Path) -> None:
    scenes = [(48, 64, [(12, 12, 27, 27)]), (48, 64, [])]
    images = write_scenes(tmp_path, scenes, difficult=True)
    text = (tmp_path / "windows.txt").read_text().replace("1 0 0 12", "3 0 1 12")
    (tmp_path / "windows.txt").write_text(text)
    layer = layer_of(
        tmp_path, "batch_size: 1 output_gt_boxes: true", "transform_param { mean_value: [1, 2, 3] scale: 2 }"
    )
    assert layer.reshape([]) == [(1, 3, 48, 64), (1, 6, 6, 8), (1, 6, 3, 4), (1, 8, 1, 1)]
    (data, small, _, boxes), (_, empty, _, none) = batches(layer, 2)
    np.testing.assert_allclose(data[0], (images[0].transpose(2, 0, 1) - np.array([1.0, 2, 3]).reshape(-1, 1, 1)) * 2)
    assert boxes.reshape(-1, 8).tolist() == [[0, 12, 12, 27, 27, 3, 0, 1]]
    assert small[0, :5, 2, 2].tolist() == [3, 19.5, 19.5, 16, 16]
    assert small[0, 5, 2, 2] == pytest.approx(256 / 289)  # of 16 × 16 and 17 × 17 pixels: both borders belong to a box
    assert not empty[0, 0].any()
    assert none.reshape(-1).tolist() == [-1] * 8


def test_a_batch_has_the_shape_of_its_first_image(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(100, 50, []), (50, 100, []), (50, 80, []), (60, 60, [])], difficult=True)
    options = "batch_size: 2 short_size: 60 long_size: 100"
    layer = layer_of(tmp_path, options, tops=3)
    assert layer.reshape([])[:2] == [(2, 3, 96, 64), (2, 6, 12, 8)]
    (first, _, _), (second, _, large), (third, _, _) = batches(layer, 3)
    assert [tuple(data.shape) for data in (first, second, third)] == [(2, 3, 96, 64), (2, 3, 64, 96), (2, 3, 96, 64)]
    assert large.shape == (2, 6, 4, 6)
    layer = layer_of(tmp_path, "batch_size: 2 crop_short_size: 32 crop_long_size: 40", tops=3)
    assert [tuple(data.shape) for data, _, _ in batches(layer, 2)] == [(2, 3, 40, 32), (2, 3, 32, 40)]
    layer = layer_of(tmp_path, "batch_size: 1 resize_ratio: 0.5", tops=3)
    assert [tuple(data.shape[2:]) for data, _, _ in batches(layer, 4)] == [(50, 25), (25, 50), (25, 40), (30, 30)]
    for fixed in ("resize_height: 40 resize_width: 64", "crop_height: 40 crop_width: 64"):
        layer = layer_of(tmp_path, f"batch_size: 2 {fixed}", tops=3)
        assert {tuple(data.shape[2:]) for data, _, _ in batches(layer, 2)} == {(40, 64)}


def test_template_ratios_change_with_the_batch(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(60, 40, [(5, 5, 30, 30)])] * 2, difficult=True)
    options = "batch_size: 2 short_size: 64 long_size: 96 template_ratio: [0.5, 1, 1.5] output_gt_boxes: true"
    seen = set()
    for data, _, _, boxes in batches(layer_of(tmp_path, options), 12):
        seen.add(tuple(data.shape[2:]))
        sides = boxes.reshape(-1, 8)[:, 3:5] - boxes.reshape(-1, 8)[:, 1:3]
        np.testing.assert_allclose(sides, 25 / 40 * data.shape[3], rtol=1e-5)
    assert seen == {(64, 32), (96, 64), (160, 96)}


def test_orders_by_aspect(tmp_path: Path) -> None:
    """Images 0, 2, 4, … are high, the others wide."""
    write_scenes(tmp_path, [(20, 10, []) if i % 2 == 0 else (10, 20, []) for i in range(14)], difficult=True)

    def epochs(shuffle: str) -> list[list[int]]:
        layer = layer_of(tmp_path, f"batch_size: 14 crop_height: 16 crop_width: 16 {shuffle}", tops=3)
        keys = []
        for _ in range(5):
            run(layer)
            keys.append([int(key.removesuffix(".png")) for key in layer.record_keys()])
        layer.close()
        assert all(sorted(order) == list(range(14)) for order in keys)
        return keys

    assert epochs("") == [list(range(14))] * 5
    random = epochs("shuffle: 'random'")
    assert len({tuple(order) for order in random}) == 5
    kinds = {tuple(number % 2 for number in order) for order in random}
    aspect = epochs("shuffle: 'random_aspect'")
    assert {tuple(number % 2 for number in order) for order in aspect} == {
        (0,) * 7 + (1,) * 7,
        (1,) * 7 + (0,) * 7,
    } - kinds
    mixed = epochs("shuffle: 'random_mix_aspect' mix_group_size: 3")
    wanted = (0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1)
    assert {tuple(number % 2 for number in order) for order in mixed} <= {wanted, tuple(1 - kind for kind in wanted)}
    assert len({tuple(order) for order in mixed}) == 5


@pytest.mark.parametrize(
    "scales",
    ["low_scale_ratio: 0.5 high_scale_ratio: 2", "min_scale: 16 max_scale: 60 min_whaspect: 0.5 max_whaspect: 2"],
)
def test_views_follow_their_objects(tmp_path: Path, scales: str) -> None:
    write_scenes(tmp_path, [(80, 120, [(30, 20, 60, 44)]), (120, 80, [(10, 60, 40, 100)])], difficult=True)
    options = f"batch_size: 20 output_gt_boxes: true crop_width: 72 crop_height: 64 multiscale_prob: 1 {scales}"
    distort = " distort_param { brightness_prob: 1 brightness_delta: 20 }"
    ((data, small, _, boxes),) = batches(layer_of(tmp_path, options + distort, "transform_param { mirror: true }"), 1)
    rows = boxes.reshape(-1, 8)
    sizes = (rows[:, 3:5] - rows[:, 1:3]).prod(dim=1).sqrt()
    assert sizes.min() < 24
    assert sizes.max() > 45
    for item, (_, x1, y1, x2, y2, *_) in enumerate(rows.tolist()):
        down, across = np.nonzero(data[item, 0].numpy() > 140)
        found = [across.min(), down.min(), across.max() + 1, down.max() + 1]
        np.testing.assert_allclose(found, np.clip([x1, y1, x2, y2], 0, [72, 64, 72, 64]), atol=4)
    assert len({float(image.max()) for image in data}) > 10
    assert (small[:, 0] > 0).any()


def test_the_number_of_workers_and_a_pause_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, [*random_scenes(3, 60, 40), *random_scenes(2, 40, 60)], difficult=True)
    options = (
        "batch_size: 2 output_gt_boxes: true shuffle: 'random_aspect' short_size: 64 long_size: 96 cache_images: true "
        "template_ratio: [1, 1.5] low_scale_ratio: 0.7 high_scale_ratio: 1.5 "
        "distort_param { contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5 }"
    )
    runs = []
    for workers in ("0", "2"):
        monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
        runs.append(batches(layer_of(tmp_path, options, "transform_param { mirror: true }"), 5))
    layer = layer_of(tmp_path, options, "transform_param { mirror: true }")
    layer.start_at(3)
    resumed = batches(layer, 2)
    for first, second in [*zip(*runs, strict=True), *zip(runs[0][3:], resumed, strict=True)]:
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b)


def test_anchors_that_leave_the_image_are_not_looked_at(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(64, 64, [])], difficult=True)
    ones = {}
    for rule in ("", "anchor_ignore_margin_ratio: 0.1", "anchor_ignore_iou_thr: 0.9"):
        ((_, small, _),) = batches(layer_of(tmp_path, f"batch_size: 1 {rule}", tops=3), 1)
        ones[rule] = int((small[0, 5] == 1).sum())
    assert ones[""] == 0
    assert min(ones.values()) == 0 < ones["anchor_ignore_margin_ratio: 0.1"] <= 28
    assert ones["anchor_ignore_iou_thr: 0.9"] == 28  # the border's: 12 of 16 pixels in the image


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "needs a batch_size over 0"),
        ("batch_size: 1 stride: 8", "as many stride, field_w and field_h, all positive; found"),
        ("batch_size: 1 coord_num: 3", "coord_num must be 4, not 3"),
        ("batch_size: 1 output_gt_boxes: true", "needs 4 tops: data, 2 label maps, and the objects; it has 3"),
        ("batch_size: 1 resize_ratio: 2 short_size: 64 long_size: 96", "give one kind of size"),
        ("batch_size: 1 resize_width: 64", "needs resize_width and resize_height over 0; resize_height is 0"),
        ("batch_size: 1 resize_ratio: 0", "needs resize_ratio over 0; resize_ratio is 0"),
        ("batch_size: 1 short_size: 64 long_size: 64", "long_size must be over short_size; found 64 and 64"),
        (
            "batch_size: 1 short_size: 15 long_size: 64",
            "short_size 15 times template_ratio 1 is nearer to 0 than to 32",
        ),
        ("batch_size: 1 crop_width: 4 crop_height: 4 crop_short_size: 4 crop_long_size: 5", "give one kind of crop"),
        (
            "batch_size: 1 crop_short_size: 5 crop_long_size: 4",
            "crop_long_size must be over crop_short_size; found 4 and 5",
        ),
        ("batch_size: 1 min_scale: 1 low_scale_ratio: 1", "give one kind of scale"),
        (
            "batch_size: 1 low_scale_ratio: 2 high_scale_ratio: 1",
            "0 < low_scale_ratio <= high_scale_ratio; found 2 and 1",
        ),
        ("batch_size: 1 multiscale_prob: 2", "multiscale_prob is 2; it must be from 0 to 1"),
        ("batch_size: 1 fg_threshold: 0", "fg_threshold must be over 0, not 0"),
        ("batch_size: 1 shuffle: 'aspect'", "shuffle is 'aspect'; it must be one of random, random_aspect, random_mix"),
        ("batch_size: 1 mix_group_size: 0", "mix_group_size must be at least 1"),
        ("batch_size: 1 distort_param { hue_delta: -1 }", "distort_param needs hue_delta >= 0; found -1"),
    ],
)
def test_bad_settings(tmp_path: Path, options: str, message: str) -> None:
    write_scenes(tmp_path, [(16, 16, [(1, 1, 9, 9)])], difficult=True)
    with pytest.raises(CaffeError, match=rf"layer 'l' \(DetectionData\): .*{message}"):
        layer_of(tmp_path, options, tops=3)


def test_a_window_file_of_ms_cnn_is_refused(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(16, 16, [(1, 1, 9, 9)])] * 2)
    with pytest.raises(
        CaffeError, match=r"line 9, image '0.png': .*an object has 7 numbers .label, ignored, difficult"
    ):
        layer_of(tmp_path, "batch_size: 1", tops=3)
