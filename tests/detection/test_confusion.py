"""The confusion matrix by hand."""

from __future__ import annotations

import json

import pytest

from caffe.detection import confusion
from caffe.errors import DataError
from tests.detection.made import detections_of, made, square, truth_of


def test_each_cell() -> None:
    truth = truth_of(
        ("a", "cat", square(1), False), ("a", "dog", square(101), False), ("a", "cat", square(201), False),
        ("b", "dog", square(1), True),
    )  # fmt: skip
    found = {
        "cat": detections_of(("a", 0.9, square(1)), ("a", 0.8, square(101)), ("b", 0.8, square(1))),
        "dog": detections_of(("a", 0.7, square(301)), ("a", 0.4, square(201))),
    }
    matrix = confusion.confusion_matrix(truth, found)
    # a cat is found, another is missed (0.4 is below the score); the dog is called a cat; a dog is on nothing; the cat
    # on the difficult dog does not count
    assert matrix.counts.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert matrix.names == ("cat", "dog")
    low = confusion.confusion_matrix(truth, found, score=0.1)
    assert low.counts.tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    values = confusion.as_json(matrix)
    assert (values["rows"], values["columns"]) == (["cat", "dog", "no object"], ["cat", "dog", "missed"])
    json.dumps(values)


def test_own_class_before_another_of_a_higher_score() -> None:
    """Two classes on one spot: each detection takes the object of its class, although a wrong one scores highest."""
    truth = truth_of(("a", "cat", square(1), False), ("a", "dog", square(2), False))
    found = {
        "cow": detections_of(("a", 0.95, square(1))),
        "cat": detections_of(("a", 0.9, square(2))),
        "dog": detections_of(("a", 0.8, square(1))),
    }
    matrix = confusion.confusion_matrix(truth, found)
    assert matrix.names == ("cat", "dog", "cow")
    assert matrix.counts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_rows_and_columns_add_up() -> None:
    truth, found = made(3)
    matrix = confusion.confusion_matrix(truth, found, score=0.3)
    for place, name in enumerate(matrix.names):
        assert matrix.counts[place].sum() == truth.count(name)
        assert matrix.counts[:, place].sum() <= (found[name].scores >= 0.3).sum()


def test_bad_detections() -> None:
    with pytest.raises(DataError, match="not finite"):
        confusion.confusion_matrix(
            truth_of(("a", "cat", square(1), False)), {"cat": detections_of(("a", float("nan"), square(1)))}
        )  # fmt: skip
