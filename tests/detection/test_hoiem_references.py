"""Hoiem's analysis beside the authors' own program and beside a slow transcription of the definitions."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.detection import hoiem, voc
from tests.detection.made import Box, detections_of, made, truth_of
from tests.reference import hoiem as reference

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
