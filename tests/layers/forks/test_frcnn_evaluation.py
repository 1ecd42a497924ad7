"""EvalData, FrcnnOutput and Cascade R-CNN's DetectionEvaluate: a test set, its detections, and their score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST
from caffe.engine.layer_types.forks import frcnn_evaluation
from caffe.errors import CaffeError, NetError
from caffe.solver.scores import DetectionScores
from tests.layer_harness import make_layer, run
from tests.layers.forks.object_scenes import Corners, write_scenes
from tests.reference.mscnn import _iou_of_pixels


def data_layer(folder: Path, options: str, more: str = "", tops: int = 3) -> Any:
    text = f'eval_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/" {options} }} {more}'
    return make_layer("EvalData", text, [], tops, TEST)


# ---- EvalData


def test_images_are_resized_to_multiples_of_32_with_their_objects(tmp_path: Path) -> None:
    scenes = [(50, 80, [(10, 20, 40, 45)]), (90, 33, []), (30, 200, [(0, 0, 100, 30)])]
    images = write_scenes(tmp_path, scenes, difficult=True)
    layer = data_layer(
        tmp_path, "batch_size: 1 short_size: 60 long_size: 120", "transform_param { mean_value: 9 scale: 2 }"
    )
    seen = [run(layer) for _ in range(4)]
    layer.close()
    # by 1.2: 60 × 96; by 60 / 33: 164 × 60, at most 120; by 2: 60 × 400, at most 120
    assert [tuple(data.shape) for data, _, _ in seen] == [
        (1, 3, 64, 96), (1, 3, 128, 64), (1, 3, 64, 128), (1, 3, 64, 96)
    ]  # fmt: skip
    assert [sizes.ravel().tolist() for _, _, sizes in seen[:3]] == [[64, 96], [128, 64], [64, 128]]
    np.testing.assert_allclose(seen[0][1].ravel(), [0, 12, 25.6, 48, 57.6, 1, 0, 0], rtol=1e-6)
    assert seen[1][1].ravel().tolist() == [-1] * 8
    np.testing.assert_allclose(seen[2][1].ravel()[1:5], [0, 0, 64, 64], rtol=1e-6)
    # a bright rectangle stays one, noise around it
    data = seen[0][0][0, 0] / 2 + 9
    assert data[30:50, 18:42].min() > 180 > 60 > data[:20].max()
    assert images[0].max() == 220
    layer = data_layer(tmp_path, "batch_size: 1", tops=2)
    assert [tuple(data.shape[2:]) for data, _ in (run(layer), run(layer), run(layer))] == [
        (64, 96),
        (96, 32),
        (32, 192),
    ]
    layer.close()


def test_batches_of_one_size_have_several_images(tmp_path: Path) -> None:
    write_scenes(tmp_path, [(50, 80, [(10, 20, 40, 45)]), (90, 33, [(3, 3, 9, 9), (0, 0, 5, 6)])], difficult=True)
    layer = data_layer(tmp_path, "batch_size: 2 resize_width: 70 resize_height: 96")
    assert layer.reshape([]) == [(2, 3, 96, 64), (1, 8, 1, 1), (2, 2, 1, 1)]
    data, boxes, sizes = run(layer)
    layer.close()
    assert data.shape == (2, 3, 96, 64)
    assert boxes[:, 0].ravel().tolist() == [0, 1, 1]
    assert sizes.reshape(2, 2).tolist() == [[96, 64]] * 2


def test_a_list_of_sizes_of_other_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path, [(50, 80, []), (90, 33, [])], difficult=True)
    layer = data_layer(tmp_path, "batch_size: 1")
    for sizes, warning in (
        ([(50, 80), (90, 33)], ""),
        (
            [(50, 80), (33, 90)],
            "image 2 is 90 × 33 (width × height) in the list, but '1.png' is 33 × 90 in the window file",
        ),
        ([(50, 80)], "lists 1 images, the window file of layer 'l' 2"),
    ):
        capsys.readouterr()
        layer.check_sizes("sizes.txt", sizes)
        printed = capsys.readouterr().err
        assert warning in printed if warning else not printed


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ("batch_size: 2", "", "batch_size is 2; it must be 1 for images of several sizes, or give resize_width"),
        ("", "", "batch_size is 0"),
        ("batch_size: 1 short_size: 0 long_size: 5", "", "short_size and long_size must be positive"),
        (
            "batch_size: 1",
            "transform_param { mirror: true }",
            "transform_param has mirror; this layer has mean_value, scale",
        ),
    ],
)
def test_bad_settings_of_eval_data(tmp_path: Path, options: str, more: str, message: str) -> None:
    write_scenes(tmp_path, [(16, 16, [])], difficult=True)
    with pytest.raises(CaffeError, match=rf"layer 'l' \(EvalData\): .*{message}"):
        data_layer(tmp_path, options, more)


# ---- FrcnnOutput


def output_layer(items: int, classes: int, options: str = "") -> Any:
    shapes = [(items, classes), (items, 4 * classes), (items, 5), (1, 2)]
    return make_layer("FrcnnOutput", f"frcnn_output_param {{ {options} }}", shapes, phase=TEST)


def test_of_equal_scores_the_earlier_region_and_class_come_first() -> None:
    regions = torch.tensor([[0.0, 10 * i, 0, 10 * i + 8, 8] for i in range(3)])
    prob, size = torch.full((3, 3), 0.5), torch.tensor([[100.0, 100]])
    (rows,) = run(output_layer(3, 3, "max_det_num: 4"), prob, torch.zeros(3, 12), regions, size)
    assert [(row[1], row[5]) for row in rows.reshape(-1, 7).tolist()] == [(-1, -1), (0, 1), (10, 1), (20, 1), (0, 2)]


def test_regions_are_those_of_one_image() -> None:
    regions = torch.tensor([[0.0, 0, 0, 8, 8], [1, 0, 0, 8, 8]])
    with pytest.raises(NetError, match="'b2' has regions of several images; it must have those of one, number 0"):
        run(output_layer(2, 2), torch.ones(2, 2), torch.zeros(2, 8), regions, torch.tensor([[9.0, 9]]))


@pytest.mark.parametrize("form", ["VOC", "COCO"])
def test_detections_are_written_in_pixels_of_their_images(tmp_path: Path, form: str) -> None:
    (tmp_path / "sizes.txt").write_text("first 200 100\nsecond 50 50\n")
    items = "".join(
        f'item {{ name: "{n}" label: {i} display_name: "{n}" }} ' for i, n in enumerate(("none", "cat", "dog"))
    )
    (tmp_path / "labels.prototxt").write_text(items)
    save = (
        f'save_output_param {{ output_directory: "{tmp_path}/out" output_name_prefix: "p_" output_format: "{form}" '
        f'label_map_file: "{tmp_path}/labels.prototxt" name_size_file: "{tmp_path}/sizes.txt" }}'
    )
    layer = output_layer(1, 3, "conf_thr: 0.4 " + save)
    for prob in ([0.1, 0.5, 0.4], [0.9, 0.05, 0.05]):
        region = torch.tensor([[0.0, 10, 20, 30, 80]])
        run(layer, torch.tensor([prob]), torch.zeros(1, 12), region, torch.tensor([[100.0, 50]]))
    if form == "VOC":
        assert (tmp_path / "out" / "p_cat.txt").read_text() == "first 0.5 20 40 60 160\n"
        assert (tmp_path / "out" / "p_dog.txt").read_text() == "first 0.4 20 40 60 160\n"
    else:
        cat, dog = json.loads((tmp_path / "out" / "p_.json").read_text())
        assert cat["bbox"] == dog["bbox"] == [20, 40, 40, 120]
    with pytest.raises(CaffeError, match=r"layer 'l' \(FrcnnOutput\): num_classes is 4, but label map"):
        output_layer(1, 4, save)


# ---- DetectionEvaluate


def evaluate_layer(folder: Path, options: str, classes: int = 3) -> Any:
    text = f'detection_evaluate_param {{ num_classes: {classes} name_size_file: "{folder}/sizes.txt" {options} }}'
    return make_layer("DetectionEvaluate", text, [(1, 7, 1, 1), (1, 8, 1, 1), (1, 2, 1, 1)], phase=TEST)


def test_true_and_false_positives(tmp_path: Path) -> None:
    (tmp_path / "sizes.txt").write_text("a 200 100\nb 100 100\n")
    objects = torch.tensor([[0.0, 10, 10, 30, 30, 1, 0, 0], [0, 60, 60, 90, 90, 1, 1, 0], [0, 10, 60, 40, 90, 2, 0, 1]])
    detections = torch.tensor(
        [
            [0.0, -1, -1, -1, -1, -1, -1],
            [0, 11, 10, 30, 30, 1, 0.4],  # found again, with a lower score
            [0, 10, 10, 30, 31, 1, 0.8],
            [0, 60, 60, 90, 75, 1, 0.7],  # half of an object
            [0, 10, 60, 40, 90, 2, 0.9],  # a difficult object
        ]
    )
    size = torch.tensor([[100.0, 50]])
    for difficult, counts, judged in (
        ("false", [2, 0], [(1, 0), (0, 1), (0, 1), (0, 0)]),
        ("true", [2, 1], [(1, 0), (0, 1), (0, 1), (1, 0)]),
    ):
        layer = evaluate_layer(tmp_path, f"evaluate_difficult_gt: {difficult} overlap_threshold: 0.6")
        (top,) = run(layer, detections, objects, size)
        rows = top.reshape(-1, 5).tolist()
        assert rows[:2] == [[-1, 1, counts[0], -1, -1], [-1, 2, counts[1], -1, -1]]
        assert [row[1] for row in rows[2:]] == [1, 1, 1, 2]
        np.testing.assert_allclose([row[2] for row in rows[2:]], [0.8, 0.7, 0.4, 0.9])
        assert [tuple(row[3:]) for row in rows[2:]] == judged


def test_boxes_are_compared_in_pixels_of_each_image_in_turn(tmp_path: Path) -> None:
    """Shared are 0.6 of the objects' width, plus a pixel: 61 of 101 pixels in large images, 1.6 of 2 in small ones."""
    (tmp_path / "sizes.txt").write_text("a 1000 1000\nb 10 10\n")
    layer = evaluate_layer(tmp_path, "overlap_threshold: 0.5")
    objects = torch.tensor([[0.0, 10, 10, 20, 20, 1, 0, 0]])
    detections = torch.tensor([[0.0, 14, 10, 24, 20, 1, 0.9]])
    found = [run(layer, detections, objects, torch.tensor([[100.0, 100]]))[0][0, 0, 2, 3].item() for _ in range(4)]
    assert found == [0, 1, 0, 1]


def test_overlaps_are_those_of_suppression() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 20, (40, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + rng.integers(-2, 20, (40, 2))], axis=1).astype(np.float32)
    found = frcnn_evaluation.overlaps(boxes[:25], boxes[25:])
    wanted = [[_iou_of_pixels("IOU", (*a, 0), (*b, 0)) for b in boxes[25:]] for a in boxes[:25]]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert (found > 0).mean() > 0.1


def test_shapes_of_three_bottoms() -> None:
    text = "detection_evaluate_param { num_classes: 3 }"
    for shapes, message in (
        ([(1, 6), (1, 8), (1, 2)], "'b0' is 1×6; with three bottoms it must be .rows.×7"),
        ([(1, 7), (1, 7), (1, 2)], "'b1' is 1×7"),
        ([(1, 7), (1, 8), (2, 2)], "'b2' is 2×2; it must be 1×2, of a batch of one image"),
    ):
        with pytest.raises(NetError, match=message):
            make_layer("DetectionEvaluate", text, list(shapes), phase=TEST)


def test_a_test_set_whose_objects_are_all_found_has_an_average_precision_of_1(tmp_path: Path) -> None:
    boxes: list[list[Corners]] = [[(5, 5, 30, 40), (40, 10, 70, 30)], [(20, 20, 60, 60)], []]
    write_scenes(tmp_path, [(50, 80, boxes[0]), (90, 70, boxes[1]), (64, 64, boxes[2])], difficult=True)
    (tmp_path / "sizes.txt").write_text("0 50 80\n1 90 70\n2 64 64\n")
    data = data_layer(tmp_path, "batch_size: 1 short_size: 60 long_size: 120")
    judge = evaluate_layer(tmp_path, "overlap_threshold: 0.9", classes=2)
    for share, wanted in ((1.0, 1.0), (0.5, 2 / 3)):
        scores = DetectionScores(["ap"], "Integral", per_class=False)
        for _ in range(3):
            _, objects, size = run(data)
            regions = objects[objects[:, 0, 0, 0] == 0][:, :5]
            regions = regions[: int(np.ceil(len(regions) * share))]
            prob = torch.tensor([0.1, 0.9]).expand(len(regions), 2)
            (found,) = run(
                output_layer(len(regions), 2, "conf_thr: 0.5"), prob, torch.zeros(len(regions), 8), regions, size
            )
            scores.add({"ap": run(judge, found, objects, size)[0]})
        assert scores.mean("ap") == pytest.approx(wanted)
    data.close()
