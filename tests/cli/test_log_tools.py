"""parse_log and plot_training_log on the original's log and on ours, and another parser on our log."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe.cli import caffe, parse_log, plot_training_log
from caffe.errors import CaffeError
from caffe.solver.log_reader import read_training_log

LOG = """\
I1122 06:50:54.000000  4298 solver.cpp:294] Solving tiny
I1122 06:50:54.500000  4298 solver.cpp:243] Iteration 0, loss = 66.1
I1122 06:50:54.500000  4298 solver.cpp:259]     Train net output #0: mbox_loss = 66.1 (* 1 = 66.1 loss)
I1122 06:50:54.500000  4298 sgd_solver.cpp:138] Iteration 0, lr = 0.0004
a line of something else, Iteration 77, loss = 5
I1122 06:51:04.250000  4298 solver.cpp:433] Iteration 10, Testing net (#0)
I1122 06:51:04.250000  4298 solver.cpp:546]     Test net output #0: detection_eval = 0.25
I1122 06:51:04.250000  4298 solver.cpp:425]     Test net output #1: l = nan (* 2 = nan loss)
I1122 06:51:05.000000  4298 solver.cpp:243] Iteration 10, loss = 4e-05
I1122 06:51:05.000000  4298 solver.cpp:259]     Train net output #0: mbox_loss = 4e-05 (* 1 = 4e-05 loss)
I1122 06:51:05.000000  4298 sgd_solver.cpp:138] Iteration 10, lr = 4e-05
"""


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(LOG)
    return path


def test_tables(log_file: Path, tmp_path: Path) -> None:
    assert parse_log.main([str(log_file), str(tmp_path)]) == 0
    with (tmp_path / "train.log.train").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["NumIters", "Seconds", "LearningRate", "mbox_loss"],
        ["0.0", "0.5", "0.0004", "66.1"],
        ["10.0", "11.0", "4e-05", "4e-05"],
    ]
    with (tmp_path / "train.log.test").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["NumIters", "Seconds", "LearningRate", "detection_eval", "l"],
        ["10.0", "10.25", "4e-05", "0.25", "nan"],
    ]


def test_the_logs_of_a_resumed_run(tmp_path: Path) -> None:
    """What the first run did after the snapshot of iteration 10 is replaced by what the second did."""
    folder = tmp_path / "log"
    folder.mkdir()
    lost = LOG.splitlines()[-3:]
    (folder / "caffe.20261122-065054.1.log").write_text(
        LOG + "\n".join(line.replace(" 10,", " 20,") for line in lost) + "\n"
    )
    second = [line.replace("1122 06:51:05", "1122 07:00:00").replace("4e-05", "5e-06") for line in lost]
    (folder / "caffe.20261122-070000.2.log").write_text("\n".join(second) + "\n")
    (folder / "metrics.csv").write_text("iteration\n")
    assert parse_log.main([f"{folder}/", str(tmp_path)]) == 0
    with (tmp_path / "log.train").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["0.0", "0.5", "0.0004", "66.1"], ["10.0", "11.0", "5e-06", "5e-06"]]
    log = read_training_log(folder)
    assert [(iteration, rate) for iteration, _, rate in log.rates] == [(0, 0.0004), (10, 5e-06)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaffeError, match=r"empty: a directory without logs, caffe\.\*\.log"):
        read_training_log(tmp_path / "empty")


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    """A month of 13, and numbers that are none."""
    bad = (
        LOG.replace("I1122 06:51:05", "I1322 06:51:05", 1)
        + "I1122 06:51:06.0  1 solver.cpp:243] Iteration 20, loss = 1.2.3\n"
    )
    (tmp_path / "train.log").write_text(bad + f"I1122 06:51:06.0  1 solver.cpp:243] Iteration {'9' * 5000}, loss = .\n")
    read = read_training_log(tmp_path / "train.log")
    assert [iteration for iteration, *_ in read.losses] == [0, 20]


def test_a_line_without_end(log_file: Path, tmp_path: Path) -> None:
    """A crash may join lines. What says "Iteration" 100,000 times is not searched from each of them to its end."""
    path = tmp_path / "joined.log"
    path.write_text(f"{LOG}I1122 06:51:06.0  1 solver.cpp:330] {'Iteration 30, Testing ' * 100_000}\n")
    found, expected = read_training_log(path), read_training_log(log_file)
    assert expected.losses
    assert (found.losses, len(found.train), len(found.test)) == (
        expected.losses, len(expected.train), len(expected.test),
    )  # fmt: skip


def test_the_originals_log(shared: Path) -> None:
    log = read_training_log(shared / "golden" / "train_run" / "caffe.log")
    assert [row["NumIters"] for row in log.train] == list(range(240))
    assert log.train[0]["mbox_loss"] == 66.1113
    assert log.train[159]["LearningRate"] == 0.0004
    assert log.train[160]["LearningRate"] == 4e-05
    assert [(row["NumIters"], row["detection_eval"]) for row in log.test] == [(100, 0.10278), (200, 0.14211)]
    assert len(log.losses) == 241


def test_our_log_is_read_by_the_documented_patterns(tiny_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tiny_run / "solver.prototxt").open("a") as file:
        file.write("test_iter: 2 test_interval: 2")
    assert caffe.main(["train", "-solver", "solver.prototxt"]) == 0
    log = capfd.readouterr().err
    number = r"[\.\deE+-]+"
    found = {
        name: re.findall(rf"^I\d{{8}} [\d:.]+ +\d+ \w+\.cpp:\d+\] {pattern}$", log, re.M)
        for name, pattern in {
            "loss": rf"Iteration (\d+), loss = {number}",
            "train": rf"    Train net output #(\d+): loss = {number} \(\* 2 = {number} loss\)",
            "lr": rf"Iteration (\d+), lr = {number}",
            "testing": r"Iteration (\d+), Testing net \(#0\)",
            "test": rf"    Test net output #(\d+): loss = {number} \(\* 2 = {number} loss\)",
            "weights": r"Snapshotting to binary proto file (\S+)",
            "state": r"Snapshotting solver state to binary proto file (\S+)",
            "done": r"(Optimization Done\.)",
        }.items()
    }
    assert found["loss"] == ["0", "2", "4"]
    assert found["lr"] == ["0", "2"]
    assert found["train"] == ["0", "0"]
    assert found["testing"] == ["0", "2", "4"]
    assert found["test"] == ["0", "0", "0"]
    assert found["weights"] == ["two_iter_2.caffemodel", "two_iter_4.caffemodel"]
    assert found["state"] == ["two_iter_2.solverstate", "two_iter_4.solverstate"]
    assert found["done"] == ["Optimization Done."] * 2


@pytest.mark.parametrize("kind", range(8))
def test_every_chart_type(log_file: Path, tmp_path: Path, kind: int) -> None:
    png = tmp_path / "chart.png"
    assert plot_training_log.main([str(kind), str(png), str(log_file), str(log_file)]) == 0
    pixels = np.asarray(Image.open(png).convert("RGB"))
    assert pixels.shape == (600, 960, 3)
    assert (pixels != 255).any()


def test_series_of_a_chart(log_file: Path) -> None:
    log = read_training_log(log_file)
    assert plot_training_log.series(log, 0) == [("detection_eval", [10.0], [0.25])]
    assert plot_training_log.series(log, 1) == [("detection_eval", [10.25], [0.25])]
    assert [name for name, *_ in plot_training_log.series(log, 2)] == ["l"]
    assert plot_training_log.series(log, 4) == [("", [0, 10], [0.0004, 4e-05])]
    assert plot_training_log.series(log, 7) == [("", [0.5, 11.0], [66.1, 4e-05])]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["9", "x.png", "train.log"], "chart type 9 does not exist"),
        (["6", "x.bmp", "train.log"], "must end in .png"),
        (["6", "x.png", "none.log"], "none.log: No such file"),
        (["6", "x.png", "empty.log"], "no 'Iteration N' line"),
        (["0", "x.png", "untested.log"], "nothing to draw"),
    ],
)
def test_one_message_for_a_wrong_call(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(log_file.parent)
    Path("empty.log").write_text("nothing here\n")
    Path("untested.log").write_text("\n".join(LOG.splitlines()[:4]))
    assert plot_training_log.main(words) == 1
    assert message in capsys.readouterr().err
    assert not list(log_file.parent.glob("*x.*"))
