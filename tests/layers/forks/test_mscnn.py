"""MS-CNN's and Cascade R-CNN's layers where the general tests do not reach: equal scores, and the fork's corner cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST
from caffe.errors import NetError
from tests.layer_harness import Bottom, Case, Shape, make_layer, run
from tests.layers.comparison import drawn
from tests.layers.forks.cases_mscnn import ALIGN, CASES, OFFSETS, SORTED_REGIONS
from tests.reference import mscnn

ONE = "box_output_param { field_w: 16 field_h: 16 downsample_rate: 16 fg_thr: -9 %s }"
GROUP = "box_group_output_param { box_group_param { field_w: 16 field_h: 16 stride: 16 } min_size: 0 %s }"


@pytest.mark.parametrize("kind", ["BoxOutput", "BoxGroupOutput"])
def test_cases_find_and_suppress_boxes(kind: str) -> None:
    """The references would agree on nothing found, too."""
    counts = [
        len(run(case.layer().double(), *map(torch.as_tensor, drawn(case)))[0]) for case in CASES if case.type == kind
    ]
    assert max(counts) > 15
    assert min(counts) == 1
    assert len(set(counts)) >= 4


def test_of_equal_scores_box_output_takes_the_later_and_box_group_output_the_earlier() -> None:
    output = make_layer("BoxOutput", ONE % "max_nms_num: 1", [(1, 6, 2, 2)])
    assert run(output, torch.zeros(1, 6, 2, 2))[0].ravel().tolist() == [0, 16, 16, 32, 32]
    group = make_layer("BoxGroupOutput", GROUP % "max_nms_num: 1", [(1, 2, 2, 2), (1, 4, 2, 2)])
    top = run(group, torch.full((1, 2, 2, 2), 0.5), torch.zeros(1, 4, 2, 2))[0]
    assert top.ravel().tolist() == [0, 0, 0, 15, 15]


def test_a_box_that_begins_outside_is_moved_in_by_box_output_and_cut_by_box_group_output() -> None:
    offsets = torch.zeros(1, 4, 2, 2)
    offsets[0, 0, 0, 0] = -0.5  # half the anchor's width to the left
    layer = make_layer("BoxOutput", ONE % "iou_thr: 1 min_size: 16", [(1, 6, 2, 2)])
    x = torch.cat([torch.zeros(1, 2, 2, 2), offsets], dim=1)
    x[0, 1, 0, 0] = 1
    assert run(layer, x)[0][0].ravel().tolist() == [0, 0, 0, 16, 16]
    layer = make_layer("BoxGroupOutput", GROUP % "iou_thr: 1", [(1, 2, 2, 2), (1, 4, 2, 2)])
    prob = torch.full((1, 2, 2, 2), 0.9)
    prob[0, 0, 0, 0] = 0
    assert run(layer, prob, offsets)[0][0].ravel().tolist() == [0, 0, 0, 7, 15]


def test_boxes_that_share_a_row_of_pixels_do_not_overlap_but_a_column_does() -> None:
    """Of two anchors of 17 × 17 pixels in cells of 16, with an overlap of one row or column; none is allowed."""
    text = GROUP.replace("16 field_h: 16", "17 field_h: 17") % "iou_thr: 0"
    for shape, left in (((2, 1), 2), ((1, 2), 1)):
        layer = make_layer("BoxGroupOutput", text, [(1, 2, *shape), (1, 4, *shape)])
        assert len(run(layer, torch.full((1, 2, *shape), 0.5), torch.zeros(1, 4, *shape))[0]) == left


def test_an_image_without_boxes_beside_one_with_some() -> None:
    layer = make_layer("BoxOutput", ONE.replace("-9", "1") % "", [(2, 6, 1, 1)], tops=2)
    x = torch.zeros(2, 6, 1, 1)
    x[1, 1] = 3
    regions, scores = run(layer, x)
    assert regions.ravel().tolist() == [1, 0, 0, 16, 16]
    assert scores.ravel().tolist() == [1, 0, 0, 16, 16, 3]


def test_decode_bbox_leaves_out_in_training_alone() -> None:
    regions = torch.tensor([[0.0, 4, 4, 9, 9], [1, 8, 8, 2, 9]])
    shapes: list[Shape] = [(2, 8), (2, 5)]
    for phase, left in ((0, 1), (TEST, 2)):
        assert len(run(make_layer("DecodeBBox", "", shapes, phase=phase), torch.zeros(2, 8), regions)[0]) == left
    with pytest.raises(NetError, match="takes a third bottom, .*, in the TRAIN phase only"):
        make_layer("DecodeBBox", "", [*shapes, (2, 6)], phase=TEST)
    layer = make_layer("DecodeBBox", "", [*shapes, (2, 6)])
    assert run(layer, torch.zeros(2, 8), regions, torch.ones(2, 6))[0].shape == (0, 5, 1, 1)


def test_decode_bbox_leaves_out_what_overlaps_its_object() -> None:
    text, rng = "decode_bbox_param { gt_iou_thr: 0.7 }", np.random.default_rng(2)
    objects = rng.uniform(0.5, 1, (6, 6, 1, 1))
    case = Case("DecodeBBox", text, [OFFSETS, SORTED_REGIONS, Bottom(objects.shape)], mscnn.decode_bbox)
    offsets, regions, _ = drawn(case)
    layer = case.layer().double()
    (expected,) = mscnn.decode_bbox(layer.param, [np.asarray(offsets), np.asarray(regions), objects], [], 0)
    found = run(layer, *map(torch.as_tensor, (offsets, regions, objects)))[0]
    assert 0 < len(found) < 5
    np.testing.assert_allclose(found, expected)


def test_scale_route_of_regions_that_all_end_before_they_begin() -> None:
    layer = make_layer("ScaleRoute", "scale_route_param { low_scale: 5 }", [(2, 5)])
    assert run(layer, torch.tensor([[0.0, 5, 5, 1, 1]] * 2))[0].shape == (0, 5, 1, 1)


def test_roi_align_of_a_slope_is_the_slope() -> None:
    """Values that rise by 2 across and 3 down: at a point inside, the value of that point."""
    y, x = np.mgrid[:9, :9]
    image = torch.as_tensor(2.0 * x + 3.0 * y)[None, None]
    layer = make_layer("ROIAlign", ALIGN % "", [(1, 1, 9, 9), (1, 5)]).double()
    top = run(layer, image, torch.tensor([[0, 3, 5, 13, 11]], dtype=torch.float64))[0][0, 0]
    columns, rows = np.linspace(1, 6, 3), np.linspace(2, 5, 4)
    np.testing.assert_allclose(top, 2 * columns + 3 * rows[:, None])


def test_roi_align_outside_the_map_and_in_another_image() -> None:
    layer = make_layer("ROIAlign", ALIGN % "", [(2, 1, 4, 4), (1, 5)])
    ones = torch.ones(2, 1, 4, 4)
    assert run(layer, ones, torch.tensor([[1.0, 100, 100, 120, 120]]))[0].abs().sum() == 0
    assert run(layer, ones, torch.tensor([[1.0, 5, 5, 1, 1]]))[0].abs().sum() == 0
    assert (run(layer, ones, torch.tensor([[1.0, 0, 0, 8, 8]]))[0] == 1).all()
    with pytest.raises(NetError, match="a region of 'b1' is in image 2; the batch has images 0 to 1"):
        run(layer, ones, torch.tensor([[2.0, 0, 0, 8, 8]]))
