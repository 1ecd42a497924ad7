"""ImageGtData: its tops, its random numbers, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST, TRAIN
from caffe.errors import CaffeError, DataError
from caffe.runtime import runtime, set_random_seed
from tests.layer_harness import make_layer, run
from tests.layers.forks.object_scenes import batches, random_scenes, write_scenes

MAPS = "downsample_rate: [8, 16] field_w: [16, 24] field_h: [16, 24]"


@pytest.fixture(autouse=True)
def _seed() -> None:
    set_random_seed(7)


def layer_of(
    folder: Path, options: str = "batch_size: 2 output_gt_boxes: true", more: str = "", tops: int = 4, phase: int = TRAIN,
    maps: str = MAPS,
) -> Any:  # fmt: skip
    text = f'image_gt_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/" {maps} {options} }} {more}'
    return make_layer("ImageGtData", text, [], tops, phase)


def test_images_label_maps_and_objects_in_the_order_of_the_file(tmp_path: Path) -> None:
    scenes = [(48, 64, [(12, 12, 28, 28)]), (48, 64, []), (48, 64, [(20, 12, 44, 36), (0, 0, 16, 16)])]
    images = write_scenes(tmp_path, scenes)
    layer = layer_of(
        tmp_path, more="transform_param { mean_value: 10 }", options="batch_size: 2 scale: 0.5 output_gt_boxes: true"
    )
    assert layer.reshape([]) == [(2, 3, 48, 64), (2, 6, 6, 8), (2, 6, 3, 4), (1, 7, 1, 1)]
    (data, small, large, boxes), (_, _, _, later) = batches(layer, 2)
    for item in range(2):
        np.testing.assert_allclose(data[item], (images[item].transpose(2, 0, 1) - 10.0) * 0.5)
    assert boxes.reshape(-1, 7).tolist() == [[0, 12, 12, 28, 28, 1, 0]]
    assert [row[:1] + row[5:] for row in later.reshape(-1, 7).tolist()] == [[0, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert small.shape == (2, 6, 6, 8)
    assert large.shape == (2, 6, 3, 4)
    assert (small[0, 0] > 0).nonzero().tolist() == [[2, 2]]
    assert small[0, :, 2, 2].tolist() == [1, 20, 20, 16, 16, 1]
    assert not small[1, 0].any()
    assert data.dtype == small.dtype == boxes.dtype == torch.float32


def test_a_batch_without_objects_has_one_ignored_row(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(32, 32, []), (32, 32, [])])
    ((_, _, _, boxes),) = batches(layer_of(tmp_path), 1)
    assert boxes.tolist() == [[[[v]] for v in (0, 1, 1, 2, 2, 1, 1)]]


@pytest.mark.parametrize("cache", ["", "cache_images: true"])
def test_views_follow_their_objects(tmp_path: Path, cache: str) -> None:
    """With everything at random, the bright pixels are where the boxes say."""
    write_scenes(tmp_path, [(80, 120, [(30, 20, 60, 44)]), (120, 80, [(10, 60, 40, 100)])])
    options = (
        "batch_size: 20 output_gt_boxes: true resize_width: 100 resize_height: 100 crop_width: 72 crop_height: 64 "
        "do_multiple_scale: true min_scale: 16 max_scale: 64 min_whaspect: 0.5 max_whaspect: 2 shuffle: true "
    )
    layer = layer_of(tmp_path, options + cache, "transform_param { mirror: true }")
    assert layer.reshape([])[:2] == [(20, 3, 64, 72), (20, 6, 8, 9)]
    ((data, small, _, boxes),) = batches(layer, 1)
    rows = boxes.reshape(-1, 7)
    assert rows[:, 0].tolist() == list(range(20))
    assert len({tuple(row) for row in rows[:, 1:5].tolist()}) >= 16
    sizes = (rows[:, 3:5] - rows[:, 1:3]).prod(dim=1).sqrt()
    assert sizes.min() < 22
    assert sizes.max() > 50
    for item, (_, x1, y1, x2, y2, _, _) in enumerate(rows.tolist()):
        down, across = np.nonzero(data[item, 0].numpy() > 150)
        found = [across.min(), down.min(), across.max() + 1, down.max() + 1]
        wanted = np.clip([x1, y1, x2, y2], 0, [72, 64, 72, 64])
        np.testing.assert_allclose(found, wanted, atol=4)
    assert (small[:, 0] > 0).any()


def test_the_number_of_workers_and_a_pause_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path, random_scenes(5))
    options = "batch_size: 3 output_gt_boxes: true shuffle: true crop_width: 48 crop_height: 48"
    runs = []
    for workers in ("0", "2"):
        monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
        runs.append(batches(layer_of(tmp_path, options, "transform_param { mirror: true }"), 4))
    layer = layer_of(tmp_path, options, "transform_param { mirror: true }")
    layer.start_at(2)
    runs.append([[], [], *batches(layer, 2)])
    for first, second, resumed in zip(*runs, strict=True):
        for other in (second, resumed or second):
            for a, b in zip(first, other, strict=True):
                assert torch.equal(a, b)
    assert layer.record_keys(1) == layer.record_keys(1) != []


def test_shuffled_epochs_have_every_image_once_and_images_with_objects_more_often(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(16, 16, [(2, 2, 12, 12)]), (16, 16, []), (16, 16, [(1, 1, 9, 9)])])
    layer = layer_of(tmp_path, "batch_size: 7 shuffle: true fg_img_multiple: 3", tops=3)
    orders = []
    for _ in range(3):
        run(layer)
        orders.append(layer.record_keys())
    layer.close()
    assert all(sorted(keys) == ["0.png"] * 3 + ["1.png"] + ["2.png"] * 3 for keys in orders)
    assert orders[0] != orders[1]


def test_small_objects_and_those_outside_are_ignored(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(64, 64, [(4, 4, 12, 30), (20, 20, 44, 44), (40, 10, 60, 14)])])
    options = "batch_size: 1 output_gt_boxes: true min_gt_width: 10 min_gt_height: 10"
    ((_, _, _, boxes),) = batches(layer_of(tmp_path, options), 1)
    assert boxes.reshape(-1, 7)[:, 6].tolist() == [1, 0, 1]
    text = (tmp_path / "windows.txt").read_text().replace("1 0 4 4 12 30", "1 0 -30 -30 10 10")
    (tmp_path / "windows.txt").write_text(text)
    ((_, _, _, boxes),) = batches(layer_of(tmp_path, "batch_size: 1 output_gt_boxes: true"), 1)
    assert boxes.reshape(-1, 7)[:, 6].tolist() == [1, 0, 0]


def test_anchors_in_regions_without_interest_are_not_looked_at(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(64, 64, [(8, 8, 24, 24)])], regions="1\n0 0 32 64")
    ((_, small, _),) = batches(layer_of(tmp_path, "batch_size: 1", tops=3), 1)
    assert (small[0, 5, :, :4] == 1).all()
    assert not small[0, 5, :, 5:].any()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(16, 16, []), (16, 16, [])])
    (tmp_path / "1.png").write_bytes(b"no image")
    layer = layer_of(tmp_path, "batch_size: 2", tops=3)
    with pytest.raises(DataError, match="image '.*1.png': cannot decode the image"):
        run(layer)
    layer.close()
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match="image '.*1.png': cannot read the image: No such file"):
        layer_of(tmp_path, "batch_size: 2 cache_images: true", tops=3)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ("", "", "needs a batch_size over 0"),
        ("batch_size: 1 field_w: 3", "", "as many downsample_rate, field_w and field_h, all positive; found"),
        ("batch_size: 1 coord_num: 5", "", "coord_num must be 4, not 5"),
        ("batch_size: 1 output_gt_boxes: true", "", "needs 4 tops: data, 2 label maps, and the objects; it has 3"),
        (
            "batch_size: 1",
            "transform_param { crop_size: 3 }",
            "transform_param has crop_size; this layer has mirror, mean",
        ),
        ("batch_size: 1", "transform_param { mean_value: [1, 2] }", "has 2 mean_value for images of 3 channels"),
        (
            "batch_size: 1 crop_width: 99 crop_height: 8",
            "",
            "a crop of 8×99 .height × width. is larger than the images, 16×16",
        ),
        (
            "batch_size: 1 resize_width: 0 resize_height: 8",
            "",
            "resize_height and resize_width must be positive, not 8 and 0",
        ),
        (
            "batch_size: 1 do_multiple_scale: true min_scale: 4 max_scale: 2",
            "",
            "0 < min_scale <= max_scale; found 4 and 2",
        ),
        (
            "batch_size: 1 do_multiple_scale: true min_scale: 1 max_scale: 2 min_whaspect: 1 max_whaspect: 1",
            "",
            "max_whaspect at least 0.05 over it; found 1 and 1",
        ),
        ("batch_size: 1 fg_img_multiple: 4000000000", "", "makes an epoch of 4,000,000,000 images; that is too many"),
        ("batch_size: 1 fg_img_multiple: 0", "", "fg_img_multiple is 0, and all images have objects"),
    ],
)
def test_bad_settings(tmp_path: Path, options: str, more: str, message: str) -> None:
    write_scenes(tmp_path, [(16, 16, [(1, 1, 9, 9)])])
    with pytest.raises(CaffeError, match=rf"layer 'l' \(ImageGtData\): .*{message}"):
        layer_of(tmp_path, options, more, tops=3)


def test_without_maps(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="for at least one map"):
        layer_of(tmp_path, "batch_size: 1", tops=2, maps="")


def test_a_test_reads_the_same_images_on_every_rank(tmp_path: Path) -> None:
    write_scenes(tmp_path, random_scenes(4))
    keys = []
    for phase in (TRAIN, TEST):
        runtime.rank, runtime.world_size = 1, 2
        try:
            layer = layer_of(tmp_path, "batch_size: 2", tops=3, phase=phase)
        finally:
            runtime.rank, runtime.world_size = 0, 1
        keys.append(layer.record_keys())
    assert keys == [["1.png", "3.png"], ["0.png", "1.png"]]
