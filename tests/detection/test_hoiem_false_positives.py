"""Hoiem's analysis: the kinds of false positives, by hand, and the sets of similar classes that one of them needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe.detection import hoiem, voc
from caffe.errors import DataError
from tests.detection.made import diagnose, kinds, square, truth_of


@pytest.fixture
def animals() -> voc.GroundTruth:
    """A cat, a similar dog and a car that do not overlap, and a dog and a car that do."""
    return truth_of(
        ("a", "cat", square(1), False), ("a", "dog", square(101), False), ("a", "car", square(201), False),
        ("b", "dog", square(1), False), ("b", "car", square(6), False), ("b", "cat", square(300), False),
    )  # fmt: skip


def test_kinds_of_false_positives(animals: voc.GroundTruth) -> None:
    rows = [
        ("a", 0.9, square(6)), ("a", 0.8, square(101)), ("a", 0.7, square(201)), ("a", 0.6, square(50)),
        ("a", 0.5, square(1)), ("b", 0.4, square(2)), ("b", 0.3, square(5)),
    ]  # fmt: skip
    result = diagnose(animals, *rows)
    # the last two overlap the dog and the car: the larger overlap decides
    assert kinds(result) == ["loc", "sim", "oth", "bg", "-", "sim", "oth"]
    assert result.first_objects == {"correct": 0, "loc": 1, "sim": 1, "oth": 0, "bg": 0}
    assert result.first_100 is None
    # one of two objects is found, at rank five; at four without one kind; two are near a dog; bg includes oth
    n = 0.15 * 2 / 2
    assert result.without == pytest.approx(
        {"loc": n / (n + 3) / 2, "sim": n / (n + 3) / 2, "bg": n / (n + 2) / 2}
    )  # fmt: skip


def test_overlap_with_a_similar_object_in_the_sets_impact(animals: voc.GroundTruth) -> None:
    """It counts as `oth` if its overlap with the car is larger, but still ranks last without `sim`."""
    result = diagnose(animals, ("b", 0.9, square(5)), ("a", 0.5, square(1)))
    assert kinds(result) == ["oth", "-"]
    n = 0.15
    assert result.without == pytest.approx({"loc": n / (n + 1) / 2, "sim": 1 / 2, "bg": n / (n + 1) / 2})


def test_objects_of_other_classes_are_taken_one_by_one() -> None:
    """Two dogs: the second detection takes the remaining one, which it overlaps less than the car."""
    truth = truth_of(
        ("a", "dog", square(1), False), ("a", "dog", square(9), False), ("a", "car", square(5), False),
        ("b", "cat", square(1), False),
    )  # fmt: skip
    assert kinds(diagnose(truth, ("a", 0.8, square(2)))) == ["sim"]
    assert kinds(diagnose(truth, ("a", 0.9, square(1)), ("a", 0.8, square(2)))) == ["sim", "oth"]


def test_first_hundred_false_positives() -> None:
    truth = truth_of(("a", "cat", square(1), False))
    wrong = [("a", 0.9 - i / 1000, square(100)) for i in range(101)]
    assert diagnose(truth, *wrong).first_100 == {"loc": 0, "sim": 0, "oth": 0, "bg": 100}
    assert diagnose(truth, *wrong[:99]).first_100 is None
    assert diagnose(truth, *wrong[:100]).first_100 == {"loc": 0, "sim": 0, "oth": 0, "bg": 100}


# ---- similar classes


def test_similar_classes_of_voc() -> None:
    similar = hoiem.SimilarClasses.for_classes(["bird", "car"])
    assert similar.to("bird") == {"cat", "cow", "dog", "horse", "person", "sheep", "aeroplane"}
    assert similar.to("bottle") == frozenset()
    assert hoiem.SimilarClasses.for_classes(["bird", "zebra"]).to("bird") == frozenset()


def test_a_file_of_similar_classes(tmp_path: Path, animals: voc.GroundTruth) -> None:
    path = tmp_path / "similar.txt"
    path.write_text("# what looks alike\ncat, big car # in the dark\n")
    similar = hoiem.SimilarClasses.read(path, ["cat", "big car", "dog"])
    assert similar.to("cat") == {"big car"}
    path.write_text("cat, car")
    similar = hoiem.SimilarClasses.read(path, animals.classes)
    assert kinds(diagnose(animals, ("a", 0.9, square(201)), ("a", 0.8, square(101)), similar=similar)) == ["sim", "oth"]


def test_a_wrong_file_of_similar_classes(tmp_path: Path) -> None:
    path = tmp_path / "similar.txt"
    path.write_text("cat, dgo\ncat dog\ncat\n")
    with pytest.raises(DataError) as error:
        hoiem.SimilarClasses.read(path, ["cat", "dog"])
    assert "line 1: no class is called 'dgo'" in str(error.value)
    assert "line 2: no class is called 'cat dog'" in str(error.value)
    assert "line 3: 'cat' alone is not a set" in str(error.value)
    assert "Classes: cat, dog" in str(error.value)


def test_a_file_that_is_not_sets_of_classes_gives_a_short_message(tmp_path: Path) -> None:
    (tmp_path / "similar.txt").write_text(("x\x1b" * 100 + ", ") * 3000 + "\n" + "no, such\n" * 3000)
    with pytest.raises(DataError, match="3,001 faults") as error:
        hoiem.SimilarClasses.read(tmp_path / "similar.txt", ["cat", "dog"])
    assert len(str(error.value)) < 3000
    assert "\x1b" not in str(error.value)
