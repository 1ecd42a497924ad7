"""TIDE's errors: each kind by hand, and all numbers of the authors' package on crowded made data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe.detection import tide, voc
from caffe.errors import DataError
from tests.detection.made import detections_of, made, square, truth_of


def counts(result: tide.TideResult) -> dict[str, int]:
    return {kind: error.count for kind, error in result.errors.items() if error.count}


@pytest.mark.parametrize(
    ("cat", "kinds"),
    [
        ([("a", 0.9, square(1))], {"Miss": 1}),  # the dog is missed
        ([("a", 0.9, square(6))], {"Loc": 1, "Miss": 1}),  # overlap 1/3: correcting it finds the cat
        ([("a", 0.9, square(1)), ("a", 0.8, square(1))], {"Dupe": 1, "Miss": 1}),
        ([("a", 0.9, square(101))], {"Cls": 1, "Miss": 1}),  # on the dog: correcting it finds the dog
        ([("a", 0.9, square(106))], {"Both": 1, "Miss": 2}),
        ([("a", 0.9, square(200))], {"Bkg": 1, "Miss": 2}),
        ([("b", 0.9, square(1))], {"Bkg": 1, "Miss": 2}),  # an image without objects
    ],
)
def test_kinds(cat: Any, kinds: dict[str, int]) -> None:
    truth = truth_of(("a", "cat", square(1), False), ("a", "dog", square(101), False), images=("b",))
    assert counts(tide.tide(truth, {"cat": detections_of(*cat)})) == kinds


def test_deltas_by_hand() -> None:
    """Two cats. One is found at rank two, after a detection of the other with an overlap of 1/3."""
    truth = truth_of(("a", "cat", square(1), False), ("a", "cat", square(51), False))
    found = {"cat": detections_of(("a", 0.9, square(6)), ("a", 0.8, square(51)))}
    result = tide.tide(truth, found)
    # 51 of the 101 recalls are reached, with a precision of 1/2
    assert result.average_precision == pytest.approx(51 / 101 / 2)
    assert result.errors["Loc"].count == 1
    assert result.errors["Loc"].delta == pytest.approx(1 - 51 / 202)
    assert result.errors["Miss"] == tide.TideError(0, 0)
    assert result.false_positives == pytest.approx(51 / 101 - 51 / 202)
    assert result.false_negatives == pytest.approx(1 / 2 - 51 / 202)


def test_only_the_best_correction_finds_an_object() -> None:
    truth = truth_of(("a", "cat", square(1), False))
    found = {"cat": detections_of(("a", 0.9, square(6)), ("a", 0.8, square(5)))}
    assert tide.tide(truth, found).errors["Loc"] == tide.TideError(2, 1.0)


def test_difficult_objects_ignore_what_lies_in_them() -> None:
    truth = truth_of(("a", "cat", square(1), False), ("a", "cat", square(101, side=40), True))
    found = {"cat": detections_of(("a", 0.9, square(110)), ("a", 0.5, square(1)))}
    result = tide.tide(truth, found)
    assert result.average_precision == 1
    assert (result.errors["Bkg"].count, result.errors["Bkg"].delta) == (1, 0)


def test_nothing() -> None:
    result = tide.tide(truth_of(images=("a",)), {"cat": detections_of()})
    assert (result.average_precision, counts(result)) == (0, {})


def test_bad_detections() -> None:
    with pytest.raises(DataError, match="not in the image list"):
        tide.tide(truth_of(("a", "cat", square(1), False)), {"cat": detections_of(("z", 0.9, square(1)))})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("threshold", "max_dets"), [(0.5, 100), (0.75, 3)])
def test_numbers_of_the_package(seed: int, threshold: float, max_dets: int) -> None:
    truth, found = made(seed, ties=seed % 2 == 1)
    ap, main, special = package(truth, found, threshold, max_dets)
    result = tide.tide(truth, found, threshold=threshold, max_dets=max_dets)
    assert {kind: error.count for kind, error in result.errors.items()} == {kind: n for kind, (n, _) in main.items()}
    assert sum(error.count > 0 for error in result.errors.values()) >= 5
    assert {kind: error.delta for kind, error in result.errors.items()} == pytest.approx(
        {kind: delta for kind, (_, delta) in main.items()}, abs=1e-9
    )
    assert [result.average_precision, result.false_positives, result.false_negatives] == pytest.approx(
        [ap, *special], abs=1e-9
    )


def package(
    truth: voc.GroundTruth, found: dict[str, voc.Detections], threshold: float, max_dets: int
) -> tuple[float, dict[str, tuple[int, float]], list[float]]:
    """AP, count and dAP of each kind, and dAP of all false positives and negatives, by the package tidecv."""
    tidecv = pytest.importorskip("tidecv")
    objects, detections = tidecv.Data("truth", max_dets=max_dets), tidecv.Data("found", max_dets=max_dets)
    names = list(dict.fromkeys([*truth.classes, *found]))

    def sides(box: np.ndarray[Any, Any]) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0] + 1), float(box[3] - box[1] + 1)]

    for index, image in enumerate(truth.images):
        objects.add_image(index, image)
    for number, name in enumerate(names):
        objects.add_class(number, name)
        for image, inside in truth.objects.get(name, {}).items():
            for box, difficult in zip(inside.boxes, inside.difficult, strict=True):
                add = objects.add_ignore_region if difficult else objects.add_ground_truth
                add(truth.images.index(image), number, sides(box))
        if name in found:
            for image, score, box in zip(found[name].images, found[name].scores, found[name].boxes, strict=True):
                detections.add_detection(truth.images.index(image), number, float(score), sides(box))
    evaluation = tidecv.TIDE(pos_threshold=threshold)
    run = evaluation.evaluate(objects, detections)
    number_of = {kind.short_name: count for kind, count in run.count_errors().items()}
    main = {kind: (number_of[kind], delta / 100) for kind, delta in evaluation.get_main_errors()["found"].items()}
    special = evaluation.get_special_errors()["found"]
    return run.ap / 100, main, [special["FalsePos"] / 100, special["FalseNeg"] / 100]
