"""The command `design_boxes`, and the generators' --boxes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.cli.design_boxes import main
from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2
from prototxt_gen.command_line import main as generate
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd512 import SSD512
from tests.conftest import ROOT
from tests.default_boxes.sets import record, train_text, write_voc


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(train_text())
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "models/labelmap_voc.prototxt", tmp_path / "models")
    return tmp_path


def make_lmdb(path: Path, images: list[list[tuple[int, float, float, float, float]]]) -> str:
    with LmdbWriter(path) as writer:
        for number, boxes in enumerate(images):
            writer.put(f"{number:08d}".encode(), record(boxes))
    return str(path)


def some_images(count: int = 40) -> list[list[tuple[int, float, float, float, float]]]:
    rng = np.random.default_rng(1)
    images = []
    for _ in range(count):
        start, side = rng.uniform(0, 0.8, 2), rng.uniform(0.08, 0.2, 2)
        images.append([(int(rng.integers(1, 3)), *start.tolist(), *(start + side).tolist())])
    return images


def test_measures_proposes_and_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_lmdb(folder / "lmdb", [*some_images(), []])
    assert main(["-net", "net.prototxt", data, "-out", "boxes"]) == 0
    shown = capsys.readouterr().out
    assert "40 objects in 41 images" in shown
    assert sorted(path.name for path in (folder / "boxes").iterdir()) == [
        "boxes.json", "reach.json", "reach.png", "reach.txt",
    ]  # fmt: skip
    assert (folder / "boxes/reach.txt").read_text() in shown
    values = json.loads((folder / "boxes/reach.json").read_text())
    assert values["proposed"]["all"]["reached"] > values["net"]["all"]["reached"]
    assert values["proposed"]["default boxes"] <= values["net"]["default boxes"] == 384
    assert sum(values["objects by class"].values()) == sum(values["objects by size"].values()) == 40
    assert (folder / "boxes/reach.png").read_bytes().startswith(b"\x89PNG")

    assert main(["-net", "net.prototxt", data, "-boxes", "boxes/boxes.json", "-out", "again"]) == 0
    again = json.loads((folder / "again/reach.json").read_text())
    assert again["boxes file"] == values["proposed"]
    assert (folder / "again/boxes.json").read_text() == (folder / "boxes/boxes.json").read_text()


def test_a_list_gives_what_its_database_gives(folder: Path) -> None:
    write_voc(folder, [[("ant", 8, 16, 24, 40), ("bee", 0, 0, 30, 12)], [], [("bee", 100, 50, 120, 60)]], (64, 128))
    boxes = [(1, 8 / 128, 16 / 64, 24 / 128, 40 / 64), (2, 0, 0, 30 / 128, 12 / 64)]
    data = make_lmdb(folder / "lmdb", [boxes, [], [(2, 100 / 128, 50 / 64, 120 / 128, 60 / 64)]])
    flags = ["-net", "net.prototxt", "-label_map_file", "labelmap.prototxt", "-nopropose"]
    assert main([*flags, ".", "-list", "list.txt", "-out", "a"]) == 0
    assert main([*flags, data, "-out", "b"]) == 0
    first, second = (json.loads((folder / name / "reach.json").read_text()) for name in ("a", "b"))
    assert first == second
    assert first["objects by class"] == {"ant": 1, "bee": 2}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[], []], "has no object to fit boxes to: no image has a box (2 images, 0 boxes)"),
        ([[(1, 0.5, 0.5, 0.5, 0.9)]], "has no object to fit boxes to: no box has an area (1 image, 1 box)"),
        ([[(1, 0.5, 0.5, float("nan"), 0.9)]], "has no object to fit boxes to: no box has an area (1 image, 1 box)"),
    ],
)
def test_data_without_objects(
    folder: Path, capsys: pytest.CaptureFixture[str], images: list[list[Any]], message: str
) -> None:
    assert main(["-net", "net.prototxt", make_lmdb(folder / "lmdb", images)]) == 1
    assert capsys.readouterr().err == f"design_boxes: database '{folder / 'lmdb'}' {message}\n"


@pytest.mark.parametrize("images", [[[(1, 0.2, 0.2, 0.4, 0.4)]], [[(1, 0.2, 0.2, 0.4, 0.4)]] * 9, [[(1, 0, 0, 1, 1)]]])
def test_one_object_one_size_and_a_whole_image(folder: Path, images: list[list[Any]]) -> None:
    assert main(["-net", "net.prototxt", make_lmdb(folder / "lmdb", images), "-out", "boxes"]) == 0
    values = json.loads((folder / "boxes/reach.json").read_text())
    assert values["objects"] == len(images)
    assert values["proposed"]["all"]["reached"] >= values["net"]["all"]["reached"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "-net is required: a prototxt such as models/MDSSD300/VOC/deploy.prototxt"),
        (["-net", "net.prototxt", "-max_boxes", "79"], "-max_boxes 79 is less than the minimum of 80 boxes"),
        (["-net", "net.prototxt", "-max_boxes", "383", "-keep_heads"], "is less than the minimum of 384 boxes"),
        (["-net", "net.prototxt", "-max_boxes", "-1"], "-max_boxes -1 is less than the minimum"),
        (["-net", "net.prototxt", "-seed", "-1"], "-seed -1: a seed must be 0 or more"),
        (["-net", "net.prototxt", "-list", "list.txt"], "-list needs -label_map_file"),
        (["-net", "net.prototxt", "-boxes", "nothing.json"], "cannot read boxes file 'nothing.json'"),
        (["-net", "nothing.prototxt"], "nothing.prototxt"),
        (["-net", "net.prototxt", "-balance", "areas"], "invalid choice: 'areas'"),
    ],
)
def test_flags_that_do_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    data = make_lmdb(folder / "lmdb", some_images(3))
    try:
        status = main([data, *flags])
    except SystemExit as end:
        status = int(end.code or 0)
    error = capsys.readouterr().err
    assert status == 1
    assert message in error
    assert error.count("\n") <= 2


# ---- the generators


def boxes_file(path: Path, net: str, **first: Any) -> str:
    """Writes a net's own boxes with some fields of the first source changed."""
    from caffe.default_boxes.boxes_file import write_boxes
    from caffe.default_boxes.net_layout import read_layout

    write_boxes(path, read_layout(ROOT / "models" / net / "VOC/deploy.prototxt"))
    document = json.loads(path.read_text())
    document["sources"][0].update(first)
    path.write_text(json.dumps(document))
    return str(path)


def run_generator(network: Any, *flags: str) -> int:
    return generate(network, ["--output", "out", *flags])


@pytest.mark.parametrize("network", [SSD300, MDSSD300], ids=lambda network: network.name)
def test_generators_place_the_files_boxes(folder: Path, capsys: pytest.CaptureFixture[str], network: Any) -> None:
    fields = dict(min_sizes=[10, 15, 20], max_sizes=[], aspect_ratios=[0.42], flip=False)
    own = boxes_file(folder / "own.json", network.name)
    assert run_generator(network, "--boxes", own) == 0
    assert "start from scratch" not in capsys.readouterr().out
    same = (folder / "out/deploy.prototxt").read_text().partition("\n")[2]
    assert run_generator(network) == 0
    assert same == (folder / "out/deploy.prototxt").read_text().partition("\n")[2]

    other = boxes_file(folder / "other.json", network.name, **fields)
    capsys.readouterr()
    assert run_generator(network, "--boxes", other) == 0
    name = network.sources[0].blob
    assert (
        f"heads that start from scratch, because their number of boxes differs: {name} (4 boxes to 6);"
        in capsys.readouterr().out
    )
    net = text_format.Parse((folder / "out/deploy.prototxt").read_text(), caffe_pb2.NetParameter())
    layers = {layer.name: layer for layer in net.layer}
    prior = layers[f"{name}_mbox_priorbox"].prior_box_param
    assert (list(prior.min_size), list(prior.max_size), prior.flip) == ([10, 15, 20], [], False)
    assert list(prior.aspect_ratio) == pytest.approx([0.42])
    assert layers[f"{name}_mbox_loc"].convolution_param.num_output == 24
    assert layers[f"{name}_mbox_conf"].convolution_param.num_output == 6 * 21


@pytest.mark.parametrize(
    ("network", "net", "fields", "message"),
    [
        (MDSSD300, "SSD300", {}, "is for another network ('SSD300_VOC_deploy'): it has 6 sources"),
        (SSD512, "SSD300", {}, "is for an input of 300 x 300 pixels"),
        (SSD300, "SSD300", dict(min_sizes=[0]), "has min size 0; a size must be at least one pixel"),
        (SSD300, "SSD300", dict(step=4), "source 'conv4_3_norm' has step 4, and in SSD300 it is 8"),
    ],
)
def test_generators_refuse_files_that_do_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], network: Any, net: str, fields: dict[str, Any], message: str
) -> None:
    assert run_generator(network, "--boxes", boxes_file(folder / "boxes.json", net, **fields)) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_one_source_of_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = boxes_file(folder / "boxes.json", "SSD300")
    assert run_generator(SSD300, "--boxes", boxes, "--scales", "linear") == 1
    assert "both give the default boxes; give one" in capsys.readouterr().err
