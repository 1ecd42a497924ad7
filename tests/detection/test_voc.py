"""VOC scoring by hand: what counts as found, difficult objects, typical lists and files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from caffe.cli.score_voc import main
from caffe.detection import report, voc
from caffe.detection.pairs import overlaps_of_pairs
from caffe.errors import DataError
from tests.detection.made import made


def detections(*rows: tuple[str, float, float, float, float, float]) -> voc.Detections:
    table = np.array([r[1:] for r in rows], np.float64).reshape(-1, 5)
    return voc.Detections(tuple(r[0] for r in rows), table[:, 0], table[:, 1:])


def objects(*boxes: tuple[float, float, float, float], difficult: tuple[int, ...] = ()) -> voc.Objects:
    return voc.Objects(np.array(boxes, np.float64), np.array([i in difficult for i in range(len(boxes))]))


def xml(*things: tuple[str, int, tuple[float, ...]]) -> str:
    body = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, difficult, b in things
    )
    return f"<annotation><size><width>100</width><height>100</height></size>{body}</annotation>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a list with CRLF endings and VOC's second column, results for two classes."""
    for sub in ("Annotations", "ImageSets/Main", "results"):
        (tmp_path / sub).mkdir(parents=True)
    (tmp_path / "Annotations" / "a.xml").write_text(xml(("cat", 0, (1, 1, 10, 10)), ("cat", 1, (50, 50, 80, 80))))
    (tmp_path / "Annotations" / "b.xml").write_text(xml(("cat", 0, (1.5, 1, 20, 20)), ("dog", 0, (30, 30, 60, 60))))
    (tmp_path / "ImageSets/Main/test.txt").write_bytes(b"a  1\r\nb -1\r\n")
    (tmp_path / "results/comp4_det_test_cat.txt").write_text(
        "a 0.9 1 1 10 10\na 0.8 50 50 80 80\na 0.7 1 1 10 10\nb 0.6 1 1 20 20\nb 0.5 60 60 90 90\n"
    )
    (tmp_path / "results/comp4_det_test_dog.txt").write_text("")
    return tmp_path


def test_right_wrong_twice_and_difficult(folder: Path) -> None:
    truth = voc.read_ground_truth(folder / "Annotations", folder / "ImageSets/Main/test.txt")
    found = voc.read_detections(folder / "results/comp4_det_test_cat.txt")
    matches = voc.match(found, truth.objects["cat"])
    assert matches.true_positive.tolist() == [True, False, False, True, False]
    assert matches.false_positive.tolist() == [False, False, True, False, True]
    score = voc.score_class("cat", found, truth, eleven_points=False)
    assert (score.objects, score.detections) == (2, 5)
    assert score.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert score.average_precision == pytest.approx((1 + 2 / 3) / 2)
    points = voc.score_class("cat", found, truth, eleven_points=True)
    assert points.average_precision == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


@pytest.mark.parametrize("seed", range(4))
def test_matching_by_definition(seed: int) -> None:
    """Crowded images with equal overlaps and scores, against a loop over the detections."""
    truth, found = made(seed, 80, ties=True)
    for name, of_class in found.items():
        matches = voc.match(of_class, truth.objects[name])
        expected = []
        taken = set()
        for i in sorted(range(len(of_class.scores)), key=lambda i: -of_class.scores[i]):
            image, box = of_class.images[i], of_class.boxes[i]
            inside = truth.objects[name].get(image)
            shared = [float(overlaps_of_pairs(box, o)) for o in inside.boxes] if inside else []
            best = max(range(len(shared)), key=shared.__getitem__, default=-1)
            if best < 0 or shared[best] < 0.5:
                expected.append("false")
            elif inside is not None and inside.difficult[best]:
                expected.append("neither")
            else:
                expected.append("false" if (image, best) in taken else "true")
                taken.add((image, best))
        assert set(expected) == {"true", "false", "neither"}
        kinds = zip(matches.true_positive.tolist(), matches.false_positive.tolist(), strict=True)
        assert ["true" if t else "false" if f else "neither" for t, f in kinds] == expected


def test_memory_of_long_result_files(tmp_path: Path) -> None:
    path = tmp_path / "comp4_det_test_cat.txt"
    count = 40_000
    path.write_text("".join(f"image{i % 50:06} 0.5 1 1 {i % 90 + 2} 10\n" for i in range(count)))
    tracemalloc.start()
    try:
        found = voc.read_detections(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(found.images), found.boxes.shape) == (count, (count, 4))
    assert peak < 80 * count


def test_boxes_hold_their_border_pixels() -> None:
    """10 × 10 pixels in 10 × 20 is half: the minimum that counts as found."""
    truth = {"a": objects((1, 1, 10, 20))}
    assert voc.match(detections(("a", 1, 1, 1, 10, 10)), truth).true_positive.tolist() == [True]
    assert voc.match(detections(("a", 1, 1, 1, 10, 9)), truth).true_positive.tolist() == [False]


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "results"), "--voc", str(folder), "--sizes", "--out", str(folder / "score")]) == 0
    out = capsys.readouterr().out
    assert "2 images, 11-point AP" in out
    assert ["cat", "2", "5", "100.0", "84.8"] in [line.split() for line in out.splitlines()]
    values = json.loads((folder / "score/score.json").read_text())
    assert values["AP"] == pytest.approx({"cat": (6 + 10 / 3) / 11, "dog": 0})
    assert values["mAP"] == pytest.approx((6 + 10 / 3) / 22)
    for name in ("precision_recall.png", "precision_recall_cat.png"):
        assert (folder / "score" / name).read_bytes().startswith(b"\x89PNG")


def test_command_with_a_label_map(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "map").write_text(
        'item { name: "bg" label: 0 } item { name: "cow" label: 1 } item { name: "cat" label: 2 }'
    )
    arguments = [str(folder / "results"), "--voc", str(folder), "--label_map_file", str(folder / "map")]
    assert main(arguments) == 1
    assert "has no comp4_det_test_cow.txt" in capsys.readouterr().err
    (folder / "results/comp4_det_test_cow.txt").write_text("")
    assert main(arguments) == 0
    assert "The ground truth has no 'cow'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("results/comp4_det_test_cat.txt", "a 0.9 1 1 10\n", "line 1: 'a 0.9 1 1 10' is not `image score xmin"),
        ("results/comp4_det_test_cat.txt", "a nan 1 1 10 10\n", "not finite"),
        (
            "results/comp4_det_test_cat.txt",
            "z 0.9 1 1 10 10\n",
            "class 'cat': 1 image .* not in the image list, e.g. 'z'",
        ),
        ("Annotations/b.xml", "<annotation>", r"b\.xml: not well-formed XML"),
        ("ImageSets/Main/test.txt", "a\nmissing\n", r"missing\.xml: cannot read"),
    ],
)
def test_errors(folder: Path, path: str, content: str, message: str) -> None:
    def score() -> None:
        truth = voc.read_ground_truth(folder / "Annotations", folder / "ImageSets/Main/test.txt")
        found = voc.read_detections(folder / "results/comp4_det_test_cat.txt")
        voc.score_class("cat", found, truth, eleven_points=False)

    (folder / path).write_text(content)
    with pytest.raises(DataError, match=message):
        score()


def test_no_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--voc", str(folder)]) == 1
    assert "no result files comp4_det_test_<class>.txt" in capsys.readouterr().err


def test_tables_align() -> None:
    scores = [voc.ClassScore("aeroplane", 0.5, np.array([1.0]), np.array([0.25]), 4, 1)]
    assert report.voc_table(scores).splitlines()[2] == "aeroplane        4           1      25.0  50.0"
