"""The reach of boxes, compared with every default box of the PriorBox layer and with the matching in training."""

from __future__ import annotations

import numpy as np
import pytest

from caffe.default_boxes.layout import Layout, Shapes
from caffe.default_boxes.net_layout import read_layout
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import box_overlaps, measure, positives, source_overlap
from caffe.ops.prior_box import prior_box, prior_box_sizes
from tests.conftest import ROOT
from tests.default_boxes.sets import objects_of, random_objects, small_layout


def all_boxes(layout: Layout) -> np.ndarray:
    """Returns every default box in pixels, from the operator that the PriorBox layer runs."""
    parts = []
    for source in layout.sources:
        shapes = source.shapes
        sizes = prior_box_sizes(shapes.min_sizes, shapes.max_sizes, shapes.aspect_ratios, shapes.flip)
        priors = prior_box(
            sizes, source.rows, source.columns, layout.height, layout.width, source.step_h, source.step_w,
            source.offset, source.clip, [0.1],
        )  # fmt: skip
        parts.append(priors[0, 0].reshape(-1, 4).double().numpy() * np.tile([layout.width, layout.height], 2))
    return np.concatenate(parts)


def greedy_matches(overlaps: np.ndarray) -> np.ndarray:
    """Bipartite matching, one pair at a time. Returns the overlap of each object with its box."""
    table, result = overlaps.copy(), np.zeros(len(overlaps))
    while table.size and table.max() > 1e-6:
        row, column = np.unravel_index(table.argmax(), table.shape)
        result[row] = table[row, column]
        table[row] = table[:, column] = 0
    return result


@pytest.mark.parametrize("name", ["MDSSD300", "SSD300", "SSD512"])
def test_reach_of_the_released_networks_is_that_of_all_their_boxes(name: str) -> None:
    layout = read_layout(ROOT / "models" / name / "VOC" / "deploy.prototxt")
    objects = random_objects(np.random.default_rng(1), 300, 3, layout.width, layout.height, layout.width)
    expected = box_overlaps(objects.corners, all_boxes(layout)).max(axis=1)
    reach = measure(layout, objects)
    np.testing.assert_allclose(reach.best, expected, atol=2e-6)
    np.testing.assert_array_equal(reach.matched, reach.best)


@pytest.mark.parametrize("clip", [False, True])
def test_reach_with_and_without_clipped_boxes(clip: bool) -> None:
    layout = small_layout(clip)
    objects = random_objects(np.random.default_rng(2), 3000, 2, 90, layout.height, layout.width)
    boxes = all_boxes(layout)
    np.testing.assert_allclose(
        measure(layout, objects).best, box_overlaps(objects.corners, boxes).max(axis=1), atol=2e-6
    )
    begin = 0
    for source in layout.sources:
        expected = box_overlaps(objects.corners, boxes[begin : begin + source.count])
        expected = expected.reshape(len(objects), source.cells, -1).max(axis=1)
        found = source_overlap(source, objects.corners, (layout.height, layout.width))
        np.testing.assert_allclose(found, expected, atol=2e-6)
        begin += source.count


@pytest.mark.parametrize("clip", [False, True])
def test_layout_places_the_boxes_of_the_layer(clip: bool) -> None:
    layout = small_layout(clip)
    np.testing.assert_allclose(np.concatenate([boxes for _, boxes in layout.boxes()]), all_boxes(layout), atol=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [
        Shapes((10.9, 20.2), (15.5, 40.9), (2, 3)),
        Shapes((7,), (), (0.5, 3), flip=False),
        Shapes((7, 9), (), ()),
    ],
)
def test_shapes_are_those_of_the_layer(shapes: Shapes) -> None:
    expected = prior_box_sizes(shapes.min_sizes, shapes.max_sizes, shapes.aspect_ratios, shapes.flip)
    np.testing.assert_allclose(shapes.sizes(), expected.numpy(), rtol=1e-6)
    assert shapes.count == len(expected)


@pytest.mark.parametrize(("clip", "per_image"), [(False, 4), (False, 40), (True, 15)])
def test_crowded_objects_get_what_bipartite_matching_leaves(clip: bool, per_image: int) -> None:
    layout = small_layout(clip)
    objects = random_objects(np.random.default_rng(3), 400, 4, 30, layout.height, layout.width, per_image)
    reach, boxes = measure(layout, objects), all_boxes(layout)
    for image in range(objects.num_images):
        own = objects.images == image
        expected = greedy_matches(box_overlaps(objects.corners[own], boxes))
        np.testing.assert_allclose(reach.matched[own], expected, atol=2e-6)
    assert (reach.matched < reach.best - 1e-3).any(), "the case has no contest"


def test_objects_at_one_place_each_get_a_box() -> None:
    layout = small_layout()
    corners = np.tile([[20.0, 20.0, 32.0, 32.0]], (5, 1))
    reach = measure(layout, objects_of(corners, images=np.zeros(5, np.int64)))
    expected = greedy_matches(box_overlaps(corners, all_boxes(layout)))
    assert len(np.unique(reach.best)) == 1
    np.testing.assert_allclose(np.sort(reach.matched), np.sort(expected), atol=2e-6)


@pytest.mark.parametrize("clip", [False, True])
def test_positives_are_the_boxes_over_the_threshold(clip: bool) -> None:
    layout = small_layout(clip)
    objects = random_objects(np.random.default_rng(4), 500, 3, 60, layout.height, layout.width)
    expected = box_overlaps(objects.corners, all_boxes(layout)) >= 0.5
    ends = np.cumsum([source.count for source in layout.sources])[:-1]
    by_source = np.stack([part.sum(axis=1) for part in np.split(expected, ends, axis=1)], axis=1)
    np.testing.assert_array_equal(positives(layout, objects), by_source)


def test_the_papers_boxes_reach_no_object_of_twelve_pixels() -> None:
    layout = read_layout(ROOT / "models/MDSSD300/VOC/train.prototxt")
    objects = random_objects(np.random.default_rng(5), 100, 12, 12.001, 300, 300)
    assert measure(layout, objects).best.max() == pytest.approx(144 / 900, abs=1e-3)


def test_an_object_outside_every_box_overlaps_none() -> None:
    layout = small_layout()
    far = Objects(np.array([[500.0, 500.0, 510.0, 510.0]]), np.ones(1, np.int64), np.zeros(1, np.int64), {1: "a"}, 1)
    reach = measure(layout, far)
    assert (reach.best[0], reach.matched[0], reach.source[0]) == (0, 0, -1)
