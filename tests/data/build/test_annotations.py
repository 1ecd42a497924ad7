"""Annotation readers on good, odd and hostile files."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.data.build.annotations import PARSERS, parse_json, parse_txt, parse_xml
from caffe.data.label_map import LabelMap, LabelMapItem
from caffe.errors import DataError
from tests.data.conftest import voc_object, voc_xml

MAP = LabelMap([LabelMapItem("cat", 1, "Cat"), LabelMapItem("dog", 2, "Dog"), LabelMapItem("17", 3, "Seventeen")])


def test_xml_groups_by_label_in_order_of_appearance() -> None:
    text = voc_xml(
        voc_object("dog", 8, 6, 40, 30), voc_object("cat", 0, 0, 80, 60, difficult=1), voc_object("dog", 1, 2, 3, 4)
    )
    record = parse_xml(text.encode(), MAP).groups(60, 80)
    assert [(group.group_label, [a.instance_id for a in group.annotation]) for group in record.annotation_group] == [
        (2, [0, 1]),
        (1, [0]),
    ]
    box = record.annotation_group[0].annotation[0].bbox
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == pytest.approx((0.1, 0.1, 0.5, 0.5))
    assert record.annotation_group[1].annotation[0].bbox.difficult
    assert record.type == record.BBOX
    assert record.HasField("type")


def test_xml_takes_floats_and_any_order_of_elements() -> None:
    box = "<bndbox><ymax>30.5</ymax><xmin> 8.25 </xmin><xmax>4e1</xmax><ymin>6.</ymin></bndbox>"
    text = voc_xml(f"<object>{box}<difficult>1</difficult><name> cat </name></object>")
    (only,) = parse_xml(text.encode(), MAP).boxes
    assert (only.xmin, only.ymin, only.xmax, only.ymax, only.difficult) == (8.25, 6, 40, 30.5, True)


def test_a_part_of_an_object_is_no_object() -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    text = voc_xml(voc_object("cat", 1, 2, 3, 4).replace("</object>", part + "</object>"))
    found = parse_xml(text.encode(), MAP)
    assert not found.faults
    assert len(found.boxes) == 1


def test_every_fault_of_a_file_is_named() -> None:
    text = voc_xml(
        voc_object("cow", 1, 2, 3, 4),
        voc_object("cat", 1, "two", 3, 4),
        "<object><name>dog</name></object>",
        "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>",
        voc_object("dog", 1, 2, "nan", "1_0"),
    )
    found = parse_xml(text.encode(), MAP)
    assert found.faults == [
        "object 1 ('cow'): unknown name 'cow'",
        "object 2 ('cat') has ymin 'two', which is not a number",
        "object 3 ('dog') has no bndbox",
        "object 4 has no name",
        "object 5 ('dog') has xmax 'nan', which is not a number",
        "object 5 ('dog') has ymax '1_0', which is not a number",
    ]
    assert not found.boxes


def test_size_falls_back_to_the_image() -> None:
    found = parse_xml(voc_xml(voc_object("cat", 8, 6, 40, 30), size="<size><width>0</width></size>").encode(), MAP)
    record = found.groups(120, 160)
    assert record.annotation_group[0].annotation[0].bbox.xmin == pytest.approx(0.05)
    assert found.oddities["without an image size"] == 1


def test_odd_boxes_are_kept_and_counted() -> None:
    text = voc_xml(
        voc_object("cat", 10, 10, 10, 20), voc_object("cat", 20, 10, 10, 20), voc_object("cat", -4, 10, 96, 20)
    )
    found = parse_xml(text.encode(), MAP)
    boxes = [annotation.bbox for annotation in found.groups(60, 80).annotation_group[0].annotation]
    assert found.oddities == {"boxes without area": 2, "boxes that reach beyond the image": 1}
    assert (boxes[2].xmin, boxes[2].xmax) == pytest.approx((-0.05, 1.2))


def test_json_as_coco_splits_it() -> None:
    document = {
        "image": {"height": 60, "width": 80},
        "annotation": [
            {"category_id": 17, "bbox": [8, 6, 32.5, 24], "iscrowd": 0},
            {"category_id": 17, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        ],
    }
    found = parse_json(json.dumps(document).encode(), MAP)
    assert [(box.label, box.xmax, box.ymax, box.difficult) for box in found.boxes] == [
        (3, 40.5, 30, False),
        (3, 80, 60, True),
    ]
    assert found.size == (60, 80)


def test_json_faults() -> None:
    entries = [
        {"category_id": 99, "bbox": [1, 2, 3, 4]},
        {"bbox": [1, 2, 3, 4]},
        {"category_id": 17, "bbox": [1, 2]},
        5,
    ]
    found = parse_json(json.dumps({"image": {}, "annotation": entries}).encode(), MAP)
    assert found.faults == [
        "object 1 (category_id 99): unknown name '99'",
        "object 2 has no category_id",
        "object 3 (category_id 17) has no bbox of four numbers [x, y, width, height]",
        "object 4 is not a JSON object",
    ]
    with pytest.raises(DataError, match="file for all images"):
        parse_json(b'{"images": [], "annotations": []}', MAP)


@pytest.mark.parametrize("text", ["1 0.5 0.5 0.2 0.3", "0 0.1 0.2 0.3 0.4\n15 0 0 1 1\n", "0 0.1 0.1 0.9 0.1 0.9 0.9"])
def test_shares_are_not_pixels(text: str) -> None:
    """YOLO's files, whose class numbers and number of columns may look like faults of another kind."""
    with pytest.raises(DataError, match="all coordinates are between 0 and 1.*import_annotations"):
        parse_txt(text.encode(), MAP)
    assert parse_txt(b"1 0 0 1 1\n1 0 0 2 1", MAP).faults == []


def test_txt() -> None:
    found = parse_txt("\ufeff1 8 6 40 30\r\n\r\n2\t1.5 2 3 4\n".encode(), MAP)
    assert [(box.label, box.xmin) for box in found.boxes] == [(1, 8), (2, 1.5)]
    assert parse_txt(b"9 1 2 3 4\n1 2 3 4\n1 a 2 3 4", MAP).faults == [
        "line 1: label 9 is not in the label map",
        "line 2: expected 'label xmin ymin xmax ymax', found '1 2 3 4'",
        "line 3: expected 'label xmin ymin xmax ymax', found '1 a 2 3 4'",
    ]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]><annotation><object><name>&j;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("xml", BOMB.encode()),
        ("xml", b'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'),
        ("xml", b"<annotation>" + b"<a>" * 100_000),
        ("xml", b"<annotation><object>"),
        ("xml", b"<html></html>"),
        ("xml", b""),
        ("xml", b'<?xml version="1.0" encoding="klingon"?><annotation>\xb5</annotation>'),
        ("json", b"[" * 100_000),
        ("json", b"null"),
        ("json", b'{"annotation": 5}'),
        ("json", b'{"image": 5, "annotation": "x"}'),
        ("json", b"\xff\xfe\x00"),
        ("txt", bytes(range(256))),
    ],
)
def test_hostile_files_give_one_error(kind: str, data: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(DataError):
        PARSERS[kind](data, MAP)
    assert time.monotonic() - start < 1


SEEDS = {
    "xml": voc_xml(voc_object("cat", 1, 2, 3, 4), voc_object("dog", 5, 6, 7, 8, difficult=1)).encode(),
    "json": b'{"image": {"height": 60, "width": 80}, "annotation": [{"category_id": 17, "bbox": [1, 2, 3, 4]}]}',
    "txt": b"1 8 6 40 30\n2 1.5 2 3 4\n",
}


@settings(max_examples=150, deadline=1000)
@given(
    kind=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=8), st.integers(0, 8)), max_size=6),
)
def test_mutated_files_give_boxes_or_one_error(kind: str, edits: list[tuple[int, bytes, int]]) -> None:
    data = SEEDS[kind]
    for place, inserted, dropped in edits:
        place %= len(data) + 1
        data = data[:place] + inserted + data[place + dropped :]
    try:
        found = PARSERS[kind](data, MAP)
    except DataError:
        return
    found.groups(60, 80).SerializeToString()
