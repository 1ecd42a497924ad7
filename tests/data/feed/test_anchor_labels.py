"""Label maps against every anchor with every object, and which anchors an object gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe.data.feed.anchor_labels import AnchorMap, LabelRules, label_maps
from tests.reference import object_labels

MAPS = [AnchorMap(8, 20, 24), AnchorMap(8, 28, 28), AnchorMap(16, 48, 40)]
MSCNN = LabelRules(0.4, 0.4, 0.2)
CASCADE = {"pixel": 1, "objects_first": True}
RULES = {
    "MS-CNN": MSCNN,
    "MS-CNN, few": LabelRules(0.7, 0.4, 0.2),
    "Cascade R-CNN": LabelRules(0.4, 0.3, 0.2, **CASCADE),  # type: ignore[arg-type]
    "margin": LabelRules(0.5, 0.4, 0.3, margin=0.5, **CASCADE),  # type: ignore[arg-type]
    "inside": LabelRules(0.5, 0.4, 0, inside=0.7, **CASCADE),  # type: ignore[arg-type]
}


def scene(seed: int) -> tuple[Any, ...]:
    """Canvas, the image's place, objects with labels, which are ignored, and regions; on half pixels, so ties come up."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 10))
    corner = rng.integers(-20, 180, (count, 2)) / 2
    boxes = np.concatenate([corner, corner + rng.integers(28, 100, (count, 2)) / 2], axis=1)
    boxes[4:5] = boxes[:1]  # a tie
    boxes[5:6, 2:] = boxes[5:6, :2] - 2  # ends before it begins
    regions = np.concatenate([rng.integers(0, 60, (2, 2)), rng.integers(50, 100, (2, 2))], axis=1).astype(float)
    image = (int(rng.integers(0, 30)), int(rng.integers(0, 30)), int(rng.integers(40, 90)), int(rng.integers(30, 70)))
    label, ignore = rng.integers(1, 4, count), rng.uniform(size=count) < 0.3
    return (100, 120), image, boxes, label, ignore, regions[: int(rng.integers(0, 3))]


@pytest.mark.parametrize("name", RULES)
def test_as_the_reference(name: str) -> None:
    kinds = np.zeros(3, int)
    for seed in range(20):
        canvas, image, *objects = scene(seed)
        found = label_maps(MAPS, RULES[name], canvas, image, *objects)
        expected = object_labels.label_maps(MAPS, RULES[name], canvas, image, *objects)
        for table, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(table, wanted, rtol=1e-6, atol=1e-12)
            kinds += (table[0] > 0).sum(), ((table[0] == 0) & (table[3] > 0)).sum(), (table[5] == 1).sum()
    assert kinds.min() > 2, kinds  # anchors of objects, of ignored ones, and those that are not looked at


def one_object(box: list[float], rules: LabelRules = MSCNN, maps: list[AnchorMap] = MAPS, **more: Any) -> Any:
    given: dict[str, Any] = {"ignore": np.array([False]), "regions": np.zeros((0, 4)), "image": (0, 0, 120, 96)} | more
    return label_maps(
        maps, rules, (96, 120), given["image"], np.array([box]), np.array([2]), given["ignore"], given["regions"]
    )


def test_an_object_gets_the_anchors_that_it_overlaps() -> None:
    first, second, third = one_object([30, 24, 50, 48])  # exactly the first map's anchor at row 4, column 4.5
    assert first[0].any()
    assert not third[0].any()
    taught = first[0] == 2
    assert (first[5][taught] > 0.4).all()
    assert (first[1:5, taught].T == [40, 36, 20, 24]).all()
    assert (second[5] <= 1).all()


def test_an_ignored_object_leaves_its_anchors_without_a_class_but_with_the_overlap() -> None:
    first = one_object([30, 24, 50, 48], ignore=np.array([True]))[0]
    assert not first[0].any()
    assert (first[3] == 20).sum() == (first[5] > 0.4).sum() > 0


def test_an_object_that_no_anchor_overlaps_enough_gets_the_one_at_its_center() -> None:
    rules = LabelRules(0.9, 0.4, 0.2)
    maps = one_object([33, 20, 49, 40], rules)
    taught = [np.argwhere(table[0] > 0).tolist() for table in maps]
    assert taught == [[[3, 5]], [], []]
    assert maps[0][5, 3, 5] < 0.9  # its own overlap
    assert not any(table[0].any() for table in one_object([33, 20, 35, 22], rules))
    near = LabelRules(0.9, 0.4, 0.2, pixel=1, objects_first=True)
    table = one_object([33, 20, 49, 40], near)[0]
    assert table[5, 3, 5] == table[5].max()  # that of the best anchor


def test_regions_without_interest_come_before_objects_in_ms_cnn_and_after_them_in_cascade_r_cnn() -> None:
    whole = np.array([[0.0, 0, 120, 96]])
    assert all(
        (table[5] == 1).all() and not table[0].any() for table in one_object([30, 24, 50, 48], regions=whole)[:1]
    )
    rules = LabelRules(0.4, 0.4, 0.2, pixel=1, objects_first=True)
    table = one_object([30, 24, 50, 48], rules, regions=whole)[0]
    assert table[0].any()
    assert (table[5][table[0] == 0] == 1).mean() > 0.7


def test_no_objects_no_maps_and_no_image() -> None:
    empty = (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros((0, 4)))
    for rules in RULES.values():
        (table,) = label_maps(MAPS[:1], rules, (96, 120), (0, 0, 120, 96), *empty)
        assert set(table[5].ravel().tolist()) <= {0.0, 1.0}
        assert not table[:5].any()
        assert label_maps([], rules, (96, 120), (0, 0, 120, 96), *empty) == []
    assert (one_object([30, 24, 50, 48], image=(0, 0, 0, 0))[0][5] == 1).all()
    assert one_object([0, 0, 3, 3], maps=[AnchorMap(400, 20, 20)])[0].shape == (6, 0, 0)
