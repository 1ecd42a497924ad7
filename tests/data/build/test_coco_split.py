"""COCO's file of all images, split into one per image: what it may not contain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffe.data.build.coco_split import split
from caffe.errors import DataError


def write(folder: Path, image: str = "", annotation: str = "") -> Path:
    """One image and one object, with these fields replaced or added, as JSON text."""
    entry = '{"id": 1, "file_name": "a.jpg", "height": 50, "width": 60' + (f", {image}" if image else "") + "}"
    box = '{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]' + (f", {annotation}" if annotation else "") + "}"
    path = folder / "instances.json"
    path.write_text(f'{{"images": [{entry}], "annotations": [{box}]}}')
    return path


def test_one_file_per_image(tmp_path: Path) -> None:
    found = split(write(tmp_path), tmp_path, "images", "annotations")
    assert (found.lines, found.sizes) == (["images/a.jpg annotations/a.json"], ["1 50 60"])
    written = json.loads((tmp_path / "annotations" / "a.json").read_text())
    assert written["annotation"] == [{"category_id": 1, "bbox": [1, 2, 3, 4]}]


@pytest.mark.parametrize(
    ("image", "annotation", "wanted"),
    [
        ('"id": Infinity', "", r"images\[0\] \(id inf\) has no number as id"),
        ('"id": 1e999', "", r"images\[0\] \(id inf\) has no number as id"),
        ('"id": NaN', "", r"images\[0\] \(id nan\) has no number as id"),
        ('"id": [1]', "", r"images\[0\] has no number as id"),
        ('"width": 1e999', "", r"images\[0\] \(id 1\) has no height and width, and '.*a\.jpg' does not tell"),
        ('"height": -Infinity', "", r"images\[0\] \(id 1\) has no height and width, and '.*a\.jpg' does not tell"),
        ("", '"image_id": 1e999', r"annotations\[0\] has no number as image_id"),
        ("", '"image_id": null', r"annotations\[0\] has no number as image_id"),
    ],
)
def test_numbers_that_are_none(tmp_path: Path, image: str, annotation: str, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        split(write(tmp_path, image, annotation), tmp_path, "images", "annotations")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (r"a\u0000b", "has a blank or another character"),
        (r"a\nb.jpg", "has a blank or another character"),
        (r"a\u2028b.jpg", "has a blank or another character"),
        (r"\ud800.jpg", "has half of a surrogate pair"),
        ("x" * 300, "is longer than 250 bytes"),
        ("../../a.jpg", "is not a path inside"),
        ("/etc/a.jpg", "is not a path inside"),
        ("..", "is not a path inside"),
    ],
)
def test_names_that_no_file_has(tmp_path: Path, name: str, problem: str) -> None:
    path = write(tmp_path, f'"file_name": "{name}"')
    with pytest.raises(DataError, match=f"'.*' {problem}") as caught:
        split(path, tmp_path, "images", "annotations")
    assert str(caught.value).replace("\n", "").isprintable()
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was written


@pytest.mark.parametrize("case", ["coco_23", "coco_43", "coco_46"])
def test_files_that_ended_with_a_stack_trace(shared: Path, tmp_path: Path, case: str) -> None:
    if not (shared / "cases/hostile" / case).is_dir():
        pytest.skip("needs the cases in ../shared")
    with pytest.raises(DataError, match="case.json"):
        split(shared / "cases/hostile" / case / "case.json", tmp_path, "images", "annotations")
