"""The demo's data set: what the demo promises of it, and that it is reproducible."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from caffe.data.label_map import LabelMap
from demo import scenes
from demo.objects import PAINTERS
from tests.pictures import read_picture

Many = list[tuple[np.ndarray, list[scenes.Thing]]]


@pytest.fixture(scope="module")
def many() -> Many:
    return [scenes.scene(3, "trainval", index) for index in range(80)]


def test_every_kind_and_size_is_there(many: Many) -> None:
    things = [thing for _, found in many for thing in found]
    assert {thing.name for thing in things} == set(PAINTERS)
    assert len(PAINTERS) >= 5
    sides = [max(t.box[2] - t.box[0], t.box[3] - t.box[1]) for t in things]
    assert min(sides) < 16
    assert max(sides) > 140
    assert any(thing.difficult for thing in things)
    assert any(thing.truncated for thing in things)
    assert any(thing.shown < 0.9 and not thing.truncated for thing in things)  # behind another


def test_boxes_fit_what_shows(many: Many) -> None:
    for image, things in many:
        height, width = image.shape[:2]
        for thing in things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            rows, columns = np.nonzero(thing.visible)
            assert y0 <= rows.min()
            assert rows.max() < y1
            assert x0 <= columns.min()
            assert columns.max() < x1


def test_a_scene_depends_on_seed_split_and_index_alone(many: Many) -> None:
    np.testing.assert_array_equal(scenes.scene(3, "trainval", 7)[0], many[7][0])
    for other in (scenes.scene(4, "trainval", 7), scenes.scene(3, "test", 7), many[8]):
        assert other[0].shape != many[7][0].shape or (other[0] != many[7][0]).any()


def test_written_as_voc_writes_it(many: Many, tmp_path: Path) -> None:
    scenes.write(tmp_path, 3, {"trainval": 3, "test": 2})
    names = (tmp_path / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    assert len(names) == 3
    assert len((tmp_path / "ImageSets" / "Main" / "test.txt").read_text().split()) == 2
    for name, (image, things) in zip(names, many, strict=False):
        root = ET.parse(tmp_path / "Annotations" / f"{name}.xml").getroot()
        assert read_picture(tmp_path / "JPEGImages" / root.findtext("filename", "")).shape == image.shape
        boxes = [
            tuple(int(o.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax"))
            for o in root.iter("object")
        ]
        assert boxes == [(t.box[0] + 1, t.box[1] + 1, t.box[2], t.box[3]) for t in things]
        assert [o.findtext("name") for o in root.iter("object")] == [t.name for t in things]
        assert [o.findtext("difficult") == "1" for o in root.iter("object")] == [t.difficult for t in things]
    labels = LabelMap.read(tmp_path / "labelmap.prototxt")
    assert [item.label for item in labels.items] == list(range(len(PAINTERS) + 1))
