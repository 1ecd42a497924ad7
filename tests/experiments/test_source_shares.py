"""source_shares.py: its counts, compared with examples by hand and checked on a narrow MDSSD300."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
import torch

from caffe.proto import caffe_pb2
from experiments.small_objects.source_shares import Sources, Table, count_matches, decode, main, origins, verdicts
from prototxt_gen.command_line import main as generate
from prototxt_gen.mdssd300 import MDSSD300
from tests.prototxt_gen.sources import ROOT


def test_matches_by_source() -> None:
    sources = Sources(["a", "b", "c"], [0, 3, 5, 6])
    table: Table = defaultdict(Counter)
    # rows 0 and 1 of the labels are objects of the first image; −3 is a mined negative
    count_matches(np.array([[0, 0, -1, 0, -3, 1], [-1, -3, -3, -1, -1, -1]], np.int32), sources, table)
    assert table["a"] == Counter(positives=2, mined=2, objects=1, alone=0, single=0)
    assert table["b"] == Counter(positives=1, mined=1, objects=1, alone=0, single=0)
    assert table["c"] == Counter(positives=1, mined=0, objects=1, alone=1, single=1)
    assert sources.of_boxes(np.array([0, 2, 3, 4, 5])) == ["a", "a", "b", "b", "c"]


def test_decoding_is_the_layers() -> None:
    priors = torch.tensor([[0.2, 0.2, 0.4, 0.6], [0.1, 0.1, 0.2, 0.2]]).reshape(1, 2, 4)
    boxes = decode(torch.tensor([[[1.0, -0.5, 0.5, 0.0]]]), priors)
    width = 0.2 * np.exp(0.1)
    center = 0.3 + 0.1 * 0.2, 0.4 - 0.05 * 0.4
    expected = [center[0] - width / 2, center[1] - 0.2, center[0] + width / 2, center[1] + 0.2]
    np.testing.assert_allclose(boxes[0, 0], expected, rtol=1e-5)


def test_origin_of_equal_scores_is_told_by_the_corners() -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.1, 0.9]], np.float32)
    boxes = np.array([[0, 0, 0.1, 0.1], [0, 0, 1, 1], [0.5, 0.5, 0.6, 0.6]], np.float32)
    found = np.array([[0, 1, 0.9, 0.5, 0.5, 0.6, 0.6], [0, 1, 0.8, 0, 0, 1, 1]], np.float32)
    assert origins(found, scores, boxes).tolist() == [2, 1]
    assert origins(found[:0], scores, boxes).tolist() == []


def test_verdicts_are_vocs() -> None:
    labels = np.array(
        [[0, 1, 0, 0.1, 0.1, 0.3, 0.3, 0], [0, 1, 1, 0.6, 0.6, 0.8, 0.8, 1], [0, 2, 0, 0.1, 0.6, 0.3, 0.8, 0]],
        np.float32,
    )

    def detection(label: int, score: float, *corners: float) -> list[float]:
        return [0, label, score, *corners]

    found = np.array(
        [
            detection(1, 0.5, 0.1, 0.1, 0.3, 0.3),  # after the better one below
            detection(1, 0.9, 0.11, 0.1, 0.3, 0.3),
            detection(1, 0.8, 0.6, 0.6, 0.8, 0.8),
            detection(2, 0.7, 0.1, 0.1, 0.3, 0.3),  # another class's object
            detection(2, 0.6, 0.1, 0.6, 0.2, 0.65),  # too little overlap
            detection(3, 0.6, 0.1, 0.6, 0.2, 0.65),
        ],
        np.float32,
    )
    assert verdicts(found, labels) == ["repeated", "true", "difficult", "false", "false", "false"]
    assert verdicts(found[:0], labels) == []
    assert verdicts(found[:1], labels[:0]) == ["false"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MDSSD300 with an eighth of the channels, started from the demo's SSD, and four images with one box each."""
    monkeypatch.chdir(tmp_path)
    Path("six.prototxt").write_text("".join(f'item {{ name: "{i}" label: {i} }}\n' for i in range(7)))
    with lmdb.open("lmdb") as environment, environment.begin(write=True) as transaction:
        for index in range(4):
            image = np.full((300, 300, 3), 60, np.uint8)
            cv2.circle(image, (100, 120), 20, (30, 200, 240), -1)
            record: Any = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.channels, record.datum.height, record.datum.width, record.datum.encoded = 3, 300, 300, True
            record.datum.data = cv2.imencode(".png", image)[1].tobytes()
            box = record.annotation_group.add(group_label=1).annotation.add().bbox
            box.xmin, box.ymin, box.xmax, box.ymax = 80 / 300, 100 / 300, 120 / 300, 140 / 300
            transaction.put(f"{index:08d}_{index}".encode(), record.SerializeToString())
    Path("sizes.txt").write_text("".join(f"{i} 300 300\n" for i in range(4)))
    flags = "--width 1/8 --label_map six.prototxt --train_lmdb lmdb --test_lmdb lmdb --test_name_size sizes.txt"
    flags += " --gpus none --batch 2 --augmentation mirror --output model"
    ssd = ROOT / "demo" / "pretrain" / "ssd300_narrow.caffemodel"
    assert generate(MDSSD300, [*flags.split(), "--start_from", str(ssd)]) == 0
    return Path("model")


def test_of_a_network(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([str(model), "model/start.caffemodel", "--images", "3", "--threshold", "0.05", "--json", "out.json"]) == 0
    )
    printed = capsys.readouterr().out
    result = json.loads(Path("out.json").read_text())
    assert list(result["train"]) == ["module1", "module2", "module3", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]
    assert [row["boxes"] for row in result["train"].values()] == [22500, 5776, 2166, 600, 150, 36, 4]
    # a box of 40 pixels: Module 1's squares of 30 and 42 at every fourth pixel reach it several times
    assert result["train"]["module1"]["positives"] > result["train"]["module2"]["positives"] > 0
    assert result["train"]["module1"]["objects"] == 1
    positives, mined = (sum(row[what] for row in result["train"].values()) for what in ("positives", "mined"))
    assert mined == pytest.approx(3 * positives)
    detections = sum(sum(row.values()) for row in result["test"].values())
    assert detections > 0
    assert not list(Path().glob("results/**/*.txt"))
    assert printed.splitlines()[1].split() == [
        "source", "boxes", "positives", "mined", "objects", "alone", "single", "true", "repeated", "false",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "model/start.caffemodel"], "nowhere/train.prototxt"),
        (["model", "none.caffemodel"], "none.caffemodel: no such file"),
        (["model", "model/start.caffemodel", "--images", "0"], "--images 0: must be at least 1"),
        (["model", "model/start.caffemodel", "--train_lmdb", "gone"], "no database at 'gone'"),
    ],
)
def test_mistakes(arguments: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
