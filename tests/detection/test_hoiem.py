"""Hoiem's analysis, each rule by hand: groups of objects, precision, matching, impact."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from caffe.detection import hoiem, pairs
from caffe.detection.hoiem.groups import areas, aspect_ratios, group_of
from caffe.detection.hoiem.precision import interpolated_precision, score
from caffe.errors import DataError
from tests.detection.made import Box, detections_of, diagnose, kinds, square, truth_of

# ---- groups


def test_groups_of_ten_objects() -> None:
    values = np.array([7.0, 1, 3, 2, 5, 4, 10, 9, 8, 6])
    # borders are the 1st, 3rd, 7th and 9th value
    assert group_of(values).tolist() == [2, 0, 1, 1, 2, 2, 4, 3, 3, 2]


def test_borders_at_halves_are_rounded_up() -> None:
    # 15 objects: places 1.5, 4.5, 10.5 and 13.5 are the 2nd, 5th, 11th and 14th
    assert np.bincount(group_of(np.arange(15.0))).tolist() == [2, 3, 6, 3, 1]


def test_equal_sizes_are_in_one_group() -> None:
    assert group_of(np.full(12, 4.0)).tolist() == [0] * 12
    # the 1st and the 3rd of ten are equal: nothing is between these borders
    assert np.bincount(group_of(np.array([1.0, 1, 1, 2, 3, 4, 5, 6, 7, 8])), minlength=5).tolist() == [3, 0, 4, 2, 1]
    assert group_of(np.zeros(0)).tolist() == []


def test_areas_and_aspects_hold_the_border_pixels() -> None:
    boxes = np.array([[1.0, 1, 10, 5], [3, 3, 3, 3]])
    assert areas(boxes).tolist() == [50, 1]
    assert aspect_ratios(boxes).tolist() == [2, 1]


# ---- precision


def test_normalized_precision_and_its_error_by_hand() -> None:
    """A true, a false and a true positive; one object is not found. Normalized to six objects instead of three."""
    true, false = np.array([True, False, True]), np.array([False, True, False])
    assert interpolated_precision(true, false, 3, 6.0).tolist() == pytest.approx([1, 4 / 5, 4 / 5])
    found = score(true, false, 3, 6.0)
    assert found.average_precision == pytest.approx(0.9 * 2 / 3)
    assert found.error == pytest.approx(np.std([1, 0.8, 0], ddof=1) / math.sqrt(3))
    assert score(true, false, 3).average_precision == pytest.approx((1 + 2 / 3) / 2 * 2 / 3)


def test_ignored_detections_change_nothing() -> None:
    true, false = np.array([False, True, False]), np.array([False, False, True])
    assert interpolated_precision(true, false, 1, None).tolist() == [1, 1, 0.5]
    assert score(true, false, 1) == (1, 0)


def test_nothing_to_find_and_nothing_found() -> None:
    none = np.zeros(2, bool)
    assert score(none, ~none, 4, 1.0) == (0, 0)
    assert all(map(math.isnan, score(none, ~none, 0, 1.0)))
    assert score(none[:0], none[:0], 4, 1.0) == (0, 0)


# ---- matching


def test_the_best_object_that_is_not_taken() -> None:
    """Both detections overlap the first of two adjacent objects more, and the second detection takes the other."""
    truth = truth_of(("a", "cat", square(1), False), ("a", "cat", square(3), False))
    result = diagnose(truth, ("a", 0.9, square(1)), ("a", 0.8, square(2)), ("a", 0.7, square(2)))
    assert result.plain.average_precision == 1
    assert result.first_objects == {"correct": 2, "loc": 0, "sim": 0, "oth": 0, "bg": 0}
    assert result.false_positives.loc.tolist() == [False, False, True]


def test_equal_overlaps_take_the_first_object() -> None:
    """A detection halfway between a first object and a difficult one takes the first, so it counts."""
    wanted, hard = ("a", "cat", square(1), False), ("a", "cat", square(3), True)
    assert diagnose(truth_of(wanted, hard), ("a", 1, square(2))).plain.average_precision == 1
    assert diagnose(truth_of(hard, wanted), ("a", 1, square(2))).plain.average_precision == 0


def test_a_difficult_object_is_taken_too() -> None:
    truth = truth_of(("a", "cat", square(1), True), ("b", "cat", square(1), False))
    result = diagnose(truth, ("a", 0.9, square(1)), ("a", 0.8, square(1)), ("b", 0.7, square(1)))
    # the first detection is ignored, the second is a false positive
    assert result.plain.average_precision == pytest.approx(1 / 2)
    assert (result.objects, result.first_objects["correct"]) == (1, 1)
    assert result.without["loc"] == 1


def test_equal_scores_keep_their_order() -> None:
    truth = truth_of(("a", "cat", square(1), False))
    right, wrong = ("a", 0.5, square(1)), ("a", 0.5, square(50))
    assert diagnose(truth, right, wrong).plain.average_precision == 1
    assert diagnose(truth, wrong, right).plain.average_precision == 1 / 2


def test_chunks_of_crowded_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    names = ("cat", "dog", "tree")
    spots = [(f"{i % 7}", names[int(rng.integers(3))], square(*rng.integers(1, 30, 2)), False) for i in range(60)]
    truth = truth_of(*spots, images=("empty",))
    rows = [(f"{i % 7}", float(rng.random()), square(*rng.integers(1, 30, 2))) for i in range(80)]
    rows.append(("empty", 0.5, square(1)))
    whole = hoiem.as_json(diagnose(truth, *rows))
    assert 0 < whole["AP"] < 1
    monkeypatch.setattr(pairs, "_PAIRS_AT_ONCE", 5)
    assert hoiem.as_json(diagnose(truth, *rows)) == whole


# ---- groups' scores, missed objects


def test_other_groups_objects_are_ignored() -> None:
    """Ten objects of increasing size, one per image. All are found, after a false positive. N: 0.15 × 10 images."""
    truth = truth_of(*((f"{i}", "cat", square(1, side=10 + i), False) for i in range(10)))
    rows = [("0", 1.0, square(100)), *((f"{i}", 0.9 - i / 100, square(1, side=10 + i)) for i in range(10))]
    result = diagnose(truth, *rows)
    assert [g.objects for g in result.size] == [1, 2, 4, 2, 1]
    # with a whole group found: N true positives and one false positive
    assert [g.average_precision for g in result.size] == pytest.approx([1.5 / 2.5] * 5)
    assert [g.error for g in result.size] == pytest.approx([0] * 5)
    # all are square: one group, and the others have no objects
    assert [g.objects for g in result.aspect] == [10, 0, 0, 0, 0]
    values = hoiem.as_json(result)["aspect"]
    assert values[1] == {"objects": 0, "AP_N": None, "error": None}
    assert values[0]["AP_N"] == pytest.approx(result.normalized.average_precision)


def test_missed_objects() -> None:
    """An object that is found only after many false positives counts as missed. N is 0.3."""
    truth = truth_of(("a", "cat", square(1), False), ("b", "cat", square(1, side=20), False))
    wrong = [("a", 0.5, square(100 + 20 * i)) for i in range(6)]
    result = diagnose(truth, ("a", 0.9, square(1)), *wrong, ("b", 0.1, square(1, side=20)))
    # precision at the second: 0.3 / 6.3 < 0.05
    assert (result.missed, result.missed_by_size) == (1, (0, 0, 0, 1, 0))
    assert diagnose(truth, ("a", 0.9, square(1)), *wrong[:5], ("b", 0.1, square(1, side=20))).missed == 0


# ---- impact


def test_impact_is_a_mean_over_classes_of_the_extremes() -> None:
    """Groups of fewer than five objects do not count, and neither do classes without a larger group."""

    def group(objects: int, value: float) -> hoiem.GroupScore:
        return hoiem.GroupScore(objects, value, 0.0)

    truth = truth_of(*((f"{i}", name, square(1, side=9 + i), False) for name in ("cat", "dog") for i in range(10)))
    both = hoiem.diagnose(truth, {"cat": detections_of(), "dog": detections_of()})
    cat = both["cat"].__class__(
        **{**vars(both["cat"]), "size": (group(4, 0.0), group(5, 0.2), group(9, 0.6), group(9, 0.4), group(1, 1.0))}
    )
    dog = both["dog"].__class__(**{**vars(both["dog"]), "size": (group(0, math.nan), *[group(5, 0.8)] * 4)})
    assert hoiem.impact([cat, dog])["size"] == pytest.approx({"greatest": 0.7, "least": 0.5})
    assert math.isnan(hoiem.impact([])["size"]["greatest"])


# ---- bad input


def test_classes_with_few_objects_are_left_out() -> None:
    nine = truth_of(*((f"{i}", "cat", square(1), False) for i in range(9)), ("0", "cat", square(50), True))
    assert hoiem.diagnose(nine, {"cat": detections_of(), "zebra": detections_of(("1", 1, square(1)))}) == {}


def test_no_detections() -> None:
    truth = truth_of(*((f"{i}", "cat", square(1, side=9 + i), False) for i in range(10)))
    values = hoiem.as_json(hoiem.diagnose(truth, {"cat": detections_of()})["cat"])
    assert (values["AP"], values["AP_N"], values["AP_N_error"], values["missed"]) == (0, 0, 0, 10)
    assert values["missed_by_size"] == [1, 2, 4, 2, 1]
    assert values["false_positives"] == {"first_objects": {"correct": 0, "loc": 0, "sim": 0, "oth": 0, "bg": 0}}
    json.dumps(values, allow_nan=False)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("z", 0.5, square(1)), "class 'cat': 1 image with detections but not in the image list, e.g. 'z'"),
        (("a", math.nan, square(1)), "class 'cat': a detection has a score or a corner that is not finite"),
        (("a", 0.5, (1, 1, math.inf, 5)), "not finite"),
    ],
)
def test_bad_detections(row: tuple[str, float, Box], message: str) -> None:
    with pytest.raises(DataError, match=message):
        diagnose(truth_of(("a", "cat", square(1), False)), row)


def test_boxes_without_area() -> None:
    """A detection with swapped corners overlaps nothing, and an object without area is never found."""
    truth = truth_of(("a", "cat", square(1), False), ("a", "cat", (20, 20, 19, 19), False))
    result = diagnose(truth, ("a", 0.9, (10, 10, 1, 1)), ("a", 0.8, (20, 20, 19, 19)), ("a", 0.7, square(1)))
    assert kinds(result) == ["bg", "bg", "-"]
    assert result.plain.average_precision == pytest.approx(1 / 3 / 2)
