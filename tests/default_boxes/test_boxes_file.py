"""The file of default boxes: writing and reading it, and the message for each kind of fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caffe.default_boxes.boxes_file import layout_with, read_boxes, write_boxes
from caffe.default_boxes.layout import Shapes
from caffe.default_boxes.net_layout import read_layout
from caffe.errors import CaffeError, DataError
from tests.conftest import ROOT
from tests.default_boxes.sets import deploy_text, small_layout, train_text

SSD300 = ROOT / "models/SSD300/VOC/deploy.prototxt"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    layout = small_layout().with_shapes(
        [Shapes((5, 8)), Shapes((20,), (33,), (0.42,), False), Shapes((35.5,), (), (2,))]
    )
    write_boxes(tmp_path / "boxes.json", layout)
    assert layout_with(small_layout(), read_boxes(tmp_path / "boxes.json")) == layout
    document = json.loads((tmp_path / "boxes.json").read_text())
    assert document["input"] == [64, 96]
    assert document["sources"][1] == {
        "name": "middle", "step": 8, "min_sizes": [20], "max_sizes": [33], "aspect_ratios": [0.42], "flip": False,
    }  # fmt: skip


@pytest.mark.parametrize("network", ["SSD321", "SSD513"])
def test_boxes_slightly_larger_than_the_input_are_read_again(network: str, tmp_path: Path) -> None:
    """As the published ones of these networks are."""
    layout = read_layout(ROOT / "models" / network / "COCO" / "deploy.prototxt")
    write_boxes(tmp_path / "boxes.json", layout)
    assert layout_with(layout, read_boxes(tmp_path / "boxes.json")) == layout


def change(tmp_path: Path, **fields: Any) -> Path:
    """Writes SSD300's own boxes with some fields of the first source changed. Returns the path of the file."""
    path = tmp_path / "boxes.json"
    write_boxes(path, read_layout(SSD300))
    document = json.loads(path.read_text())
    document["sources"][0].update(fields)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(min_sizes=[]), "has no min size"),
        (dict(min_sizes=[0]), "has min size 0; a size must be at least one pixel"),
        (dict(min_sizes=[-4]), "has min size -4"),
        (dict(min_sizes=[float("nan")]), "has min size nan"),
        (dict(max_sizes=[float("inf")]), "has max size inf"),
        (dict(min_sizes=[60], max_sizes=[30]), "has max size 30 for min size 60; it must be greater"),
        (dict(min_sizes=[30, 40]), "has 1 max sizes for 2 min sizes"),
        (
            dict(min_sizes=[301], max_sizes=[]),
            "does not fit the image: a min size of 301 pixels, and the input has 300",
        ),
        (
            dict(min_sizes=[250], max_sizes=[400]),
            "does not fit the image: sizes 250 and 400 make a box of 316.228 pixels",
        ),
        (dict(aspect_ratios=[1]), "has aspect ratio 1, which is always there"),
        (dict(aspect_ratios=[2, 0.5]), "has aspect ratio 0.5, which is there already as a reciprocal"),
        (dict(aspect_ratios=[0]), "has aspect ratio 0; ratios must be positive"),
        (dict(min_sizes="30"), "'min_sizes' must be a list of numbers"),
        (dict(min_sizes=[True]), "'min_sizes' must be a list of numbers"),
        (dict(min_sizes=[10**400]), "'min_sizes' has a number that is too large"),
        (dict(flip=1), "'flip' must be true or false"),
        (dict(step=0), "'step' must be one positive number"),
        (dict(minsize=[3]), "unknown field 'minsize'; the fields are aspect_ratios, flip"),
        (dict(name=""), "'name' must be the name of a blob"),
    ],
)
def test_faults_of_a_source(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = change(tmp_path, **fields)
    with pytest.raises(DataError) as caught:
        read_boxes(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"boxes file '{path}', source 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 10_000, "is not JSON"),
        ("\x00\xff", "is not JSON"),
        ("[]", "needs an object with 'input' and a list 'sources'"),
        ('{"input": [300, 300], "sources": []}', "has no source"),
        ('{"input": [300], "sources": [{}]}', "'input' must be [height, width]"),
        ('{"input": [300, -1], "sources": [{}]}', "'input' must be [height, width]"),
        ('{"input": [300, 300], "sources": [3]}', "source 1: not an object"),
        ('{"input": [300, 300], "sources": [{"name": "a", "step": 4}]}', "source 1 ('a'): 'min_sizes' is missing"),
    ],
)
def test_what_is_no_boxes_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=".*" + message.replace("[", r"\[").replace("(", r"\(").replace(")", r"\)")):
        read_boxes(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="cannot read boxes file .*: No such file or directory; design_boxes -out makes"
    ):
        read_boxes(tmp_path / "nothing.json")


def test_a_file_for_another_net(tmp_path: Path) -> None:
    boxes = read_boxes(change(tmp_path))
    with pytest.raises(DataError, match="is for another network .* it has 6 sources, conv4_3_norm.*has 7, module1"):
        layout_with(read_layout(ROOT / "models/MDSSD300/VOC/deploy.prototxt"), boxes)
    with pytest.raises(DataError, match="is for an input of 300 x 300 pixels .* is 512 x 512"):
        layout_with(read_layout(ROOT / "models/SSD512/VOC/deploy.prototxt"), boxes)
    with pytest.raises(DataError, match="source 'conv4_3_norm' has step 4, and in SSD300_VOC_deploy it is 8"):
        layout_with(read_layout(SSD300), read_boxes(change(tmp_path, step=4)))


def test_a_net_without_its_data(tmp_path: Path) -> None:
    (tmp_path / "train.prototxt").write_text(train_text())
    (tmp_path / "deploy.prototxt").write_text(deploy_text())
    train, deploy = (read_layout(tmp_path / f"{name}.prototxt") for name in ("train", "deploy"))
    assert train == deploy
    first, second = train.sources
    assert (first.name, first.rows, first.columns, first.step_h, first.shapes) == (
        "a", 8, 8, 8.0, Shapes((10.7,), (20,), (2,)),
    )  # fmt: skip
    assert (second.rows, second.step, second.shapes) == (4, 16.0, Shapes((24, 30), (), (2, 0.5, 3), False))
    assert train.count == 64 * 4 + 16 * 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "x" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }', "no PriorBox"),
        (train_text("mirror: true"), "does not resize its images to a fixed size"),
        (train_text("resize_param { height: 64 width: 64 resize_mode: FIT_SMALL_SIZE }"), "resize_mode FIT_SMALL_SIZE"),
    ],
)
def test_nets_without_boxes_to_measure(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(CaffeError, match=message):
        read_layout(tmp_path / "net.prototxt")
