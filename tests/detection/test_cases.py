"""False detections, missed objects and images to look at: order, kinds and neighbors by hand."""

from __future__ import annotations

import numpy as np
import pytest

from caffe.detection import cases, hoiem
from tests.detection.made import detections_of, made, square, truth_of


def test_false_detections_by_score_with_kind_and_neighbor() -> None:
    truth = truth_of(
        ("a", "cat", square(1), False), ("a", "dog", square(101), False), ("b", "cat", square(1), True), images=("c",)
    )
    found = {
        "cat": detections_of(
            ("a", 0.9, square(1)), ("a", 0.8, square(2)), ("a", 0.95, square(101)), ("c", 0.7, square(1)),
            ("b", 0.99, square(1)), ("a", 0.5, square(40)),
        ),
        "bird": detections_of(("a", 0.65, square(14))),
    }  # fmt: skip
    false = cases.false_detections(truth, found)
    assert [(f.name, f.score, f.kind, f.duplicate) for f in false] == [
        ("cat", 0.95, "sim", False), ("cat", 0.8, "loc", True), ("cat", 0.7, "bg", False), ("bird", 0.65, "bg", False),
    ]  # fmt: skip
    near = [f.nearest and (f.nearest.name, round(f.nearest.overlap, 2)) for f in false]
    # without an overlap, the closest object; none in an empty image
    assert near == [("dog", 1.0), ("cat", 0.82), None, ("cat", 0.0)]
    assert [f.score for f in cases.false_detections(truth, found, limit=2)] == [0.95, 0.8]
    assert cases.false_detections(truth, found, score=0.4)[-1].score == 0.5
    other = cases.false_detections(truth, found, similar=hoiem.SimilarClasses())
    assert other[0].kind == "oth"


def test_all_false_positives_are_found() -> None:
    truth, found = made(5, 40)
    false = cases.false_detections(truth, found, score=0)
    diagnoses = hoiem.diagnose(truth, found, least_objects=1)
    for kind in ("loc", "oth", "bg"):
        assert sum(f.kind == kind for f in false) == sum(
            int(d.false_positives.kind(kind).sum()) for d in diagnoses.values()
        )
    assert [f.score for f in false] == sorted((f.score for f in false), reverse=True)


def test_a_surprising_miss_is_an_object_like_those_found() -> None:
    """Large objects are found, small ones are not, with one exception each."""
    sizes = [*range(8, 20), *range(60, 72)]
    truth = truth_of(*((str(i), "cat", square(1, side=side), False) for i, side in enumerate(sizes)))
    rows = [(str(i), 0.9, square(1, side=side)) for i, side in enumerate(sizes) if side >= 60 and side != 65]
    rows.append(("0", 0.9, square(1, side=8)))
    rows.append((str(sizes.index(65)), 0.3, square(3, side=65)))
    missed = cases.missed_objects(truth, {"cat": detections_of(*rows)})
    assert len(missed) == 12
    first = missed[0]
    assert (first.box, first.image) == (square(1, side=65), str(sizes.index(65)))
    assert first.chance > 0.6 > 0.4 > missed[1].chance
    assert first.nearest is not None
    assert first.nearest.score == 0.3
    assert all(m.nearest is None for m in missed[1:])
    # with a lower score it is found
    assert len(cases.missed_objects(truth, {"cat": detections_of(*rows)}, score=0.2)) == 11


def test_missed_without_results_or_choice() -> None:
    """A class without a result file is missed entirely; difficult objects are not missed."""
    truth = truth_of(("a", "cat", square(1), False), ("a", "dog", square(1), False), ("a", "dog", square(50), True))
    missed = cases.missed_objects(truth, {"cat": detections_of(("a", 0.9, square(1)))})
    assert [(m.name, m.box) for m in missed] == [("dog", square(1))]
    assert missed[0].chance < 0.5
    # the cat's detection finds the cat, so it is not near the dog
    assert missed[0].nearest is None


def test_a_perfect_detector_misses_nothing() -> None:
    truth, _ = made(1)
    found = {
        name: detections_of(*((image, 0.9, tuple(box)) for image, o in by.items() for box in o.boxes.tolist()))
        for name, by in truth.objects.items()
    }
    assert cases.missed_objects(truth, found) == []
    assert all(s.average_precision == 1 for s in cases.image_scores(truth, found))


def test_scores_of_images() -> None:
    truth = truth_of(
        ("a", "cat", square(1), False), ("a", "dog", square(50), False), ("b", "cat", square(1), False),
        ("c", "cat", square(1), True), images=("d",),
    )  # fmt: skip
    found = {
        "cat": detections_of(
            ("a", 0.9, square(200)), ("a", 0.8, square(1)), ("b", 0.5, square(1)), ("d", 1, square(1))
        ),
        "dog": detections_of(),
    }
    scores = cases.image_scores(truth, found)
    # in a: a false positive, then one of two objects
    assert [s.average_precision for s in scores] == pytest.approx([0.25, 1.0])
    assert [(s.image, s.objects, s.found, s.false) for s in scores] == [("a", 2, 1, 1), ("b", 1, 0, 0)]
    best, worst = cases.best_and_worst(scores, 5)
    assert ([s.image for s in best], [s.image for s in worst]) == (["b"], ["a"])


def test_images_on_which_models_differ() -> None:
    truth = truth_of(*((i, "cat", square(1), False) for i in "abcd"))
    first = {"cat": detections_of(("a", 0.9, square(1)), ("b", 0.9, square(1)))}
    second = {"cat": detections_of(("b", 0.9, square(1)), ("c", 0.9, square(1)), ("d", 0.9, square(90)))}
    assert cases.differing_images(truth, {"one": first, "two": second}, 3) == ["c", "a", "b"]
    assert set(cases.differing_images(truth, {"one": first}, 2)) == {"c", "d"}


def test_shown_detections() -> None:
    truth = truth_of(("a", "cat", square(1), False), ("a", "cat", square(50), True), ("b", "cat", square(1), False))
    found = {"cat": detections_of(
        ("b", 1.0, square(1)), ("a", 0.7, square(1)), ("a", 0.9, square(50)), ("a", 0.8, square(90)), ("a", 0.1, square(1))
    )}  # fmt: skip
    shown = cases.shown_detections(truth, found, ["a"])
    assert [(d.score, d.state) for d in shown["a"]] == [(0.9, "difficult"), (0.8, "false"), (0.7, "true")]
    assert shown.keys() == {"a"}


def test_chances_are_a_regularized_logistic_regression() -> None:
    """The gradient of the penalized likelihood is zero, and constant features do no harm."""
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(50, 2)), np.ones((50, 1))], axis=1)
    found = rng.random(50) < 1 / (1 + np.exp(-2 * features[:, 0]))
    chances = cases._chances(features, found)
    scaled = (features[:, :2] - features[:, :2].mean(axis=0)) / features[:, :2].std(axis=0)
    weights = np.linalg.lstsq(np.c_[np.ones(50), scaled], np.log(chances / (1 - chances)), rcond=None)[0]
    assert scaled.T @ (found - chances) == pytest.approx(weights[1:], abs=1e-6)
