"""Proposals stay within their limits, are better than the net's boxes, and are repeatable with the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from caffe.default_boxes.layout import Layout
from caffe.default_boxes.net_layout import read_layout
from caffe.default_boxes.proposal import object_groups, propose
from caffe.default_boxes.reach import measure
from caffe.errors import DataError
from tests.conftest import ROOT
from tests.default_boxes.sets import objects_of, random_objects, small_layout


def reached(layout: Layout, corners: np.ndarray) -> float:
    return float((measure(layout, objects_of(corners)).best >= 0.5).mean())


@pytest.fixture(scope="module")
def mdssd300() -> Layout:
    return read_layout(ROOT / "models/MDSSD300/VOC/deploy.prototxt")


def test_small_objects_are_reached_within_the_nets_own_number_of_boxes(mdssd300: Layout) -> None:
    objects = random_objects(np.random.default_rng(1), 500, 9, 120, 300, 300)
    proposed = propose(mdssd300, objects, rounds=2)
    proposed.check("proposed")
    assert proposed.count <= mdssd300.count
    small = objects.corners[objects.size < 16]
    assert reached(mdssd300, small) == 0
    assert reached(proposed, small) > 0.75
    assert reached(proposed, objects.corners) > reached(mdssd300, objects.corners) + 0.2
    # coarse sources are left to large objects
    for source in proposed.sources[1:-1]:
        assert source.shapes.sizes()[:, 0].min() >= source.step


def test_keep_heads_keeps_every_number_of_boxes(mdssd300: Layout) -> None:
    objects = random_objects(np.random.default_rng(2), 800, 9, 120, 300, 300)
    proposed = propose(mdssd300, objects, keep_heads=True)
    for before, after in zip(mdssd300.sources, proposed.sources, strict=True):
        assert after.shapes.count == before.shapes.count
        assert len(after.shapes.min_sizes) == len(before.shapes.min_sizes)
        assert len(after.shapes.aspect_ratios) == len(before.shapes.aspect_ratios)
    assert reached(proposed, objects.corners) > reached(mdssd300, objects.corners) + 0.1


@pytest.mark.parametrize("max_boxes", [None, 46_848])
def test_sources_that_are_not_named_keep_their_boxes(mdssd300: Layout, max_boxes: int | None) -> None:
    objects = random_objects(np.random.default_rng(5), 400, 9, 120, 300, 300)
    proposed = propose(mdssd300, objects, max_boxes, sources=["module1"], rounds=2)
    assert [s.shapes for s in proposed.sources[1:]] == [s.shapes for s in mdssd300.sources[1:]]
    assert proposed.sources[0].shapes != mdssd300.sources[0].shapes
    assert proposed.count <= (max_boxes or mdssd300.count)
    small = objects.corners[objects.size < 16]
    assert reached(mdssd300, small) == 0
    assert reached(proposed, small) > 0.75


def test_a_source_that_the_net_lacks(mdssd300: Layout) -> None:
    objects = random_objects(np.random.default_rng(5), 10, 9, 120, 300, 300)
    with pytest.raises(DataError, match="-sources: the net has no source 'conv4_3'; it predicts from module1, module2"):
        propose(mdssd300, objects, sources=["module1", "conv4_3"])
    with pytest.raises(DataError, match="14,357 boxes, one for each cell of each source, and all of the sources"):
        propose(mdssd300, objects, 14_356, sources=["module1"])


def test_boxes_that_serve_already_stay(mdssd300: Layout) -> None:
    """The objects have exactly the sizes of the deep sources' boxes, so there is nothing to gain."""
    rng = np.random.default_rng(3)
    objects = random_objects(rng, 800, 200, 290, 300, 300)
    proposed = propose(mdssd300, objects, keep_heads=True)
    assert [s.shapes for s in proposed.sources[:3]] == [s.shapes for s in mdssd300.sources[:3]]


def test_the_same_seed_gives_the_same_boxes() -> None:
    layout = small_layout()
    objects = random_objects(np.random.default_rng(4), 2500, 3, 60, layout.height, layout.width)
    assert propose(layout, objects, seed=5, rounds=1) == propose(layout, objects, seed=5, rounds=1)


@pytest.mark.parametrize("count", [1, 2, 200])
def test_few_objects_and_objects_of_one_size(count: int) -> None:
    layout = small_layout()
    rng = np.random.default_rng(6)
    start = rng.uniform(0, 50, (count, 2))
    objects = objects_of(np.concatenate([start, start + np.array([11, 9])], axis=1))
    proposed = propose(layout, objects)
    proposed.check("proposed")
    assert proposed.count <= layout.count
    assert reached(proposed, objects.corners) >= reached(layout, objects.corners)
    assert reached(proposed, objects.corners) > 0.9


def test_upright_objects_get_upright_boxes() -> None:
    """Squares do not reach objects of 10 × 40, such as people in thermal images."""
    layout = read_layout(ROOT / "models/SSD300/VOC/deploy.prototxt")
    start = np.random.default_rng(7).uniform(0, 255, (400, 2))
    objects = objects_of(np.concatenate([start, start + np.array([10, 40])], axis=1))
    assert reached(layout, objects.corners) < 0.05
    proposed = propose(layout, objects)
    assert reached(proposed, objects.corners) > 0.9
    assert proposed.count <= layout.count


def test_more_boxes_reach_no_less(mdssd300: Layout) -> None:
    objects = random_objects(np.random.default_rng(8), 200, 7, 40, 300, 300)
    own, more = (propose(mdssd300, objects, limit, rounds=2) for limit in (None, mdssd300.count * 3 // 2))
    assert mdssd300.count < more.count <= mdssd300.count * 3 // 2
    assert reached(more, objects.corners) > reached(own, objects.corners)


def test_the_least_limit(mdssd300: Layout) -> None:
    objects = random_objects(np.random.default_rng(9), 100, 9, 120, 300, 300)
    cells = sum(source.cells for source in mdssd300.sources)
    assert propose(mdssd300, objects, cells).count == cells
    with pytest.raises(DataError, match="-max_boxes 7,564 is less than the minimum of 7,565 boxes, one for each cell"):
        propose(mdssd300, objects, cells - 1)
    with pytest.raises(DataError, match="-max_boxes 31,231 is less than the minimum of 31,232 boxes, the net's own"):
        propose(mdssd300, objects, 31_231, keep_heads=True)


def test_groups_that_count_the_same() -> None:
    sides = np.array([3.0] + [10] * 40 + [12] * 40 + [20] * 20 + [100] * 2)
    corners = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    labels = np.arange(len(sides)) % 3
    objects = objects_of(corners, labels=labels)
    groups = object_groups(objects, "sizes")
    # the one object of 3 pixels and the two of 100 are too few to form groups of their own
    assert [len(set(groups[sides == side])) for side in (3, 10, 20, 100)] == [1] * 4
    assert groups[sides == 3][0] == groups[sides == 10][0] == groups[sides == 12][0]
    assert groups[sides == 100][0] == groups[sides == 20][0] != groups[sides == 12][0]
    np.testing.assert_array_equal(object_groups(objects, "classes"), labels)
    assert not object_groups(objects, "none").any()
    with pytest.raises(DataError, match="balance 'areas' is unknown; it must be one of sizes, classes, none"):
        object_groups(objects, "areas")
