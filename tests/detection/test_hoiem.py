"""Hoiem's analysis: the results of the authors' own program on two synthetic data sets, and each rule by hand."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.cli.score_voc import main
from caffe.detection import hoiem, pairs, voc
from caffe.detection.hoiem.groups import areas, aspect_ratios, group_of
from caffe.detection.hoiem.precision import interpolated_precision, score
from caffe.errors import DataError
from tests.detection.made import Box, detections_of, made, square, truth_of
from tests.reference import hoiem as reference


def diagnose(truth: voc.GroundTruth, *rows: tuple[str, float, Box], name: str = "cat", **options: Any) -> Any:
    return hoiem.diagnose(truth, {name: detections_of(*rows)}, least_objects=1, **options)[name]


# ---- the authors' program


@pytest.mark.parametrize("case", ["s1", "s2"])
def test_figures_of_the_authors_program(case: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "golden" / "hoiem" / case
    with tarfile.open(folder / "case.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    truth = voc.read_ground_truth(tmp_path / "voc/Annotations", tmp_path / "voc/ImageSets/Main/test.txt")
    files = voc.find_result_files(tmp_path / "results")
    diagnoses = hoiem.diagnose(truth, {name: voc.read_detections(path) for name, path in files.items()})
    found = leaves({name: hoiem.as_json(diagnosis) for name, diagnosis in diagnoses.items()})
    expected = leaves(json.loads((folder / "expected.json").read_text()))
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-6, rel=0)


# ---- a slow transcription of the definitions


def compare(truth: voc.GroundTruth, found: dict[str, voc.Detections], *sets: tuple[str, ...]) -> dict[str, Any]:
    """The analysis, after comparison with that of tests/reference. sets: of similar classes."""
    objects = [
        reference.Object(image, name, tuple(box), bool(hard))
        for name in truth.classes
        for image in truth.images
        if image in truth.objects[name]
        for box, hard in zip(truth.objects[name][image].boxes.tolist(), truth.objects[name][image].difficult, strict=True)
    ]  # fmt: skip
    rows = {
        name: [
            reference.Detection(image, score, tuple(box))
            for image, score, box in zip(each.images, each.scores.tolist(), each.boxes.tolist(), strict=True)
        ]
        for name, each in found.items()
    }
    diagnoses = hoiem.diagnose(truth, found, similar=hoiem.SimilarClasses(sets))
    result = {name: hoiem.as_json(diagnosis) for name, diagnosis in diagnoses.items()}
    values, expected = leaves(result), leaves(reference.analyze(len(truth.images), objects, rows, sets))
    assert values.keys() == expected.keys()
    assert {path for path, value in values.items() if value is None} == {
        path for path, value in expected.items() if value is None
    }
    for path, value in values.items():
        assert value is None or value == pytest.approx(expected[path], abs=1e-9, rel=0), path
    return result


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_made_sets(seed: int, ties: bool) -> None:
    """Crowded images, difficult objects, duplicates, equal scores, and a class that is never detected."""
    truth, found = made(seed, images=30, ties=ties)
    if seed == 3:
        found["dog"] = detections_of()
    result = compare(truth, found, *([("cat", "dog")] if seed else []))
    assert any(each["AP"] > 0 for each in result.values())


def test_real_annotations(shared: Path) -> None:
    """Photographs of blood cells: some objects difficult, swapped corners, equal scores, one class of nine objects."""
    folder = shared / "data" / "bccd" / "BCCD"
    real = voc.read_ground_truth(folder / "Annotations", folder / "ImageSets/Main/test.txt")
    rng = np.random.default_rng(3)
    objects: list[tuple[str, str, Box, bool]] = []
    found: dict[str, list[tuple[str, float, Box]]] = {name: [] for name in real.classes}
    for name in real.classes:
        boxes = [(image, box) for image, each in real.objects[name].items() for box in each.boxes]
        for number, (image, box) in enumerate(boxes[:9] if name == "WBC" else boxes[:300]):
            corners = box[[2, 3, 0, 1]] if number % 40 == 7 else box
            objects.append((image, name, tuple(corners.tolist()), bool(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 4)):
                other = name if rng.random() < 0.8 else real.classes[rng.integers(3)]
                moved = np.round(box + rng.normal(0, 8, 4))
                found[other].append((image, round(float(rng.random()), 2), tuple(moved.tolist())))
    truth = truth_of(*objects, images=real.images)
    result = compare(truth, {name: detections_of(*rows) for name, rows in found.items()}, ("RBC", "WBC"))
    assert result.keys() == {"RBC", "Platelets"}
    assert result["RBC"]["false_positives"]["first_objects"]["sim"] > 0


def leaves(value: Any, path: str = "") -> dict[str, float]:
    """Returns all numbers in nested dicts and lists by their path."""
    if isinstance(value, dict):
        return {p: v for key, child in value.items() for p, v in leaves(child, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {p: v for i, child in enumerate(value) for p, v in leaves(child, f"{path}/{i}").items()}
    return {path: value}


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


# ---- false positives


@pytest.fixture
def animals() -> voc.GroundTruth:
    """A cat, a similar dog and a car that do not overlap, and a dog and a car that do."""
    return truth_of(
        ("a", "cat", square(1), False), ("a", "dog", square(101), False), ("a", "car", square(201), False),
        ("b", "dog", square(1), False), ("b", "car", square(6), False), ("b", "cat", square(300), False),
    )  # fmt: skip


def kinds(result: Any) -> list[str]:
    masks = {kind: result.false_positives.kind(kind) for kind in ("loc", "sim", "oth", "bg")}
    return ["".join(k for k, mask in masks.items() if mask[i]) or "-" for i in range(len(masks["loc"]))]


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
        (("z", 0.5, square(1)), "class 'cat': 1 images with detections are not in the image list, e.g. 'z'"),
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


# ---- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images with one cat each, of increasing size, all found, and a dog class with too few objects to analyze."""
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "results").mkdir()
    rows = []
    for i in range(10):
        box = "".join(
            f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), square(1, side=9 + i), strict=True)
        )
        things = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            for name in (("cat", "dog") if i == 0 else ("cat",))
        )
        (tmp_path / "Annotations" / f"{i}.xml").write_text(f"<annotation>{things}</annotation>")
        rows.append(f"{i} 0.{9 - i} 1 1 {9 + i} {9 + i}\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{i}\n" for i in range(10)))
    (tmp_path / "results" / "comp4_det_test_cat.txt").write_text("".join(rows))
    (tmp_path / "results" / "comp4_det_test_dog.txt").write_text("0 1.0000e-01 1 1 9 9\n")
    return tmp_path


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(folder / "results"), "--voc", str(folder), "--sizes", "--diagnose", "--out", str(folder / "out")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert ["cat", *["100.0", "±", "0.0"] * 5] in [line.split() for line in out.splitlines()]
    assert ["cat", "10", "0", "10", "0", "0", "0", "0"] in [line.split() for line in out.splitlines()]
    assert "Not analyzed by size (fewer than 10 objects): dog." in out
    assert "diagnosis.json" in out
    values = json.loads((folder / "out" / "diagnosis.json").read_text())
    assert values.keys() == {"cat"}
    assert values["cat"]["AP_N"] == 1
    assert (folder / "out" / "score.txt").read_text() in out


def test_command_without_diagnosis_writes_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "results"), "--voc", str(folder), "-sizes", "-out", str(folder / "out")]) == 0
    assert not (folder / "out" / "diagnosis.json").exists()
    assert json.loads((folder / "out" / "score.json").read_text())["AP_N by size"]["cat"]["XL"] == 1
    assert "AP_N % by object size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-diagnose", "-similar", "missing.txt"], "cannot read list 'missing.txt'"),
        (["-similar", "missing.txt"], "--similar needs --diagnose"),
        (["-sizes", "-objects_per_image", "0"], "--objects_per_image must be a positive number, not 0.0"),
        (["-sizes", "-objects_per_image", "nan"], "must be a positive number, not nan"),
    ],
)
def test_command_errors(folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([str(folder / "results"), "--voc", str(folder), *flags])
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 1
    assert message in capsys.readouterr().err
