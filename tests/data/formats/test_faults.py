"""Annotations that cannot be read: what is said, and of which file and entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffe.data.formats.reading import read_dataset
from caffe.errors import DataError
from tests.data.conftest import voc_object, voc_xml
from tests.data.formats import made


def _faults(tmp_path: Path, name: str, content: str | object) -> str:
    """What is said about a folder of two images, the second of which is annotated well in the same format."""
    for each in ("a.jpg", "b.jpg"):
        made.picture(tmp_path / each)
    made.text(tmp_path / name, content)
    try:
        return "\n".join(read_dataset(tmp_path).faults)
    except DataError as error:
        return str(error)


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.xml", "<annotation><object>", "a.xml: not well-formed XML"),
        ("a.xml", "", "a.xml: not well-formed XML"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "a.xml: document types with entities"),
        ("a.xml", voc_xml(voc_object("cat", 1, "left", 3, 4)), "a.xml: object 1 ('cat') has ymin 'left', which is not a number"),
        ("a.xml", voc_xml("<object><name>cat</name></object>"), "a.xml: object 1 ('cat') has no bndbox"),
        ("a.xml", voc_xml(voc_object("", 1, 2, 3, 4)), "a.xml: object 1 has no class name"),
        ("c.xml", voc_xml(voc_object("cat", 1, 2, 3, 4)), "c.xml: image 'c' is not in"),
        ("a.txt", "0 0.5 0.5 0.1 0.1\n0 12 30 44 50\n", "a.txt: line 2: 12 is not between 0 and 1"),
        ("a.txt", "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 wide 0.1\n", "a.txt: line 2: expected 'class cx cy width height'"),
        ("a.txt", "-1 0.5 0.5 0.1 0.1\n", "a.txt: line 1: there is no class -1"),
        ("c.txt", "0 0.5 0.5 0.1 0.1\n", "c.txt: image 'c' is not in"),
        ("a.json", "{", "a.json: not JSON"),
        ("a.json", "[" * 100_000, "a.json: not JSON"),
        ("a.json", {"shapes": [{"label": "cat", "points": [[1, 2]], "shape_type": "rectangle"}]},
         "a.json: shape 1 (rectangle 'cat') has no box of four numbers"),
        ("a.json", '{"shapes": [{"label": "\\ud800", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}]}',
         "a.json: shape 1 (rectangle '?') has a class name with characters that are not text"),
        ("a.json", {"shapes": [{"points": [[1, 2], [3, 4]], "shape_type": "rectangle"}]}, "has no class name"),
        ("all.json", {**COCO, "images": [{"file_name": "a.jpg"}]}, "images[0] has no id"),
        ("all.json", {**COCO, "images": [{"id": 1}]}, "images[0] (id 1) has no file_name"),
        ("all.json", {**COCO, "images": [*COCO["images"], {"id": 1.0, "file_name": "b.jpg"}]},
         "images[1] (id 1) has the id of an earlier image, 'a.jpg'"),
        ("all.json", {**COCO, "images": [{"id": 1, "file_name": "c.jpg"}]}, "all.json: image 'c.jpg' is not in"),
        ("all.json", {**COCO, "categories": [{"id": 2, "name": "cat"}]},
         "annotations[0] (id 4) has category_id 1; no entry of 'categories' has this id and a name"),
        ("all.json", {**COCO, "annotations": [{"id": "x", "image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}]},
         "annotations[0] (id x) has image_id 9; no entry of 'images' has this id"),
        ("all.json", {**COCO, "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, None, 4]}]},
         "annotations[0], 'cat', has no box of four numbers"),
        ("all.json", {**COCO, "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, -3, 4]}]},
         "annotations[0], 'cat', has no box of four numbers"),
        ("t.csv", "filename,xmin,ymin,xmax,ymax,class\na.jpg,1,2,three,4,cat\n", "t.csv: line 2 ('cat') has xmax 'three'"),
        ("t.csv", "filename,xmin,ymin,xmax,ymax,class\n,1,2,3,4,cat\n", "t.csv: line 2 names no image"),
        ("t.csv", "filename,xmin,ymin,xmax,ymax,class\nc.jpg,1,2,3,4,cat\n", "t.csv: image 'c.jpg' is not in"),
        ("annotations.xml", '<annotations><image name="c.jpg"/></annotations>',
         "annotations.xml: 'c.jpg': image 'c.jpg' is not in"),
        ("annotations.xml", '<annotations><image name="a.jpg"><box label="cat" xtl="1"/></image></annotations>',
         "annotations.xml: 'a.jpg': shape 1 (box 'cat') has no box of four numbers"),
        ("annotations.xml", '<annotations><track id="3" label="cat"><box frame="x"/></track></annotations>',
         "track 3 has a box with frame 'x'"),
    ],
)  # fmt: skip
def test_faults_name_file_and_entry(name: str, content: str | object, wanted: str, tmp_path: Path) -> None:
    assert wanted in _faults(tmp_path, name, content)


def test_class_numbers_beyond_the_names(tmp_path: Path) -> None:
    made.yolo_beside(tmp_path)
    made.text(tmp_path / "one.txt", "2 0.5 0.5 0.1 0.1\n")
    assert read_dataset(tmp_path).faults == [
        "one.txt: line 1: there is no class 2; classes.txt names the classes 0 to 1"
    ]  # fmt: skip
    made.text(tmp_path / "data.yaml", "names: {0: cat, x: dog}\n")
    assert "'data.yaml': the keys of 'names' are not different whole numbers" in read_dataset(tmp_path).faults[0]
    made.text(tmp_path / "data.yaml", "names: [")
    assert "'data.yaml' is not YAML" in read_dataset(tmp_path).faults[0]


def test_names_in_yaml_stay_text(tmp_path: Path) -> None:
    made.yolo_beside(tmp_path)
    made.text(tmp_path / "data.yaml", "names: [no, 1.50]\n")
    assert read_dataset(tmp_path).class_names == ["no", "1.50"]


def _many_references() -> str:
    lists = (f"{b}: &{b} [{f'*{a}, ' * 9}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    return "a: &a [x, x]\n" + "".join(lists) + "names: [*i]"


@pytest.mark.parametrize(
    "content",
    [
        _many_references(),
        "names: " + "[" * 100_000,
        "names: " + "{a: " * 100_000,
        "names: [[0, 1]]",
        "names: {0: {}}",
    ],
    ids=["nine to the power of eight names", "nested lists", "nested mappings", "a list", "a mapping"],
)
def test_yaml_that_grows(tmp_path: Path, content: str) -> None:
    made.yolo_beside(tmp_path)
    made.text(tmp_path / "data.yaml", content)
    assert re.search(
        "'data.yaml'(: 'names' has something that is not a name| is not YAML)", read_dataset(tmp_path).faults[0]
    )


def test_damaged_files_of_formats_that_are_not_used(tmp_path: Path) -> None:
    made.voc(tmp_path)
    made.text(tmp_path / "notes.json", "{")
    made.text(tmp_path / "extra.csv", 'filename,xmin,ymin,xmax,ymax\n"one.jpg,1,2,3,4\n')
    assert read_dataset(tmp_path).faults == []
    made.text(tmp_path / "labels/three.xml", "<annotation>")
    assert [fault.partition(":")[0] for fault in read_dataset(tmp_path).faults] == ["labels/three.xml"]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    made.voc(tmp_path)
    (tmp_path / "photos/one.jpg").write_bytes(b"\xff\xd8\xff")
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 1
    assert dataset.faults[0].startswith("photos/one.jpg: ")


def test_folders_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no directory"):
        read_dataset(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a directory"):
        read_dataset(tmp_path / "file")
    with pytest.raises(DataError, match=r"has no images; known endings: \.bmp"):
        read_dataset(tmp_path)
    made.picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"has 1 image, and no annotations. Files: .*\nLooked for: VOC XML, "):
        read_dataset(tmp_path)
