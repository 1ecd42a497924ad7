"""What training writes beside the log: metrics, TensorBoard events, test pictures; and that none of it ends a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from caffe.solver import test_pictures
from caffe.solver.metrics import MetricsFile, TensorBoard, read_rows
from caffe.solver.solver import Solver
from caffe.solver.watchers import Displayed, Tested, Watcher, Watchers
from tests.pictures import read_picture


def test_a_row_for_each_display_and_test(solver_param: Any, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    param = solver_param("test_iter: 2 test_interval: 3 display: 2 snapshot: 4")
    Solver(param, watchers=[MetricsFile("log")]).solve()
    columns, rows = read_rows("log/metrics.csv")
    assert columns[6:] == ["loss"] or columns == [
        "iteration", "seconds", "phase", "loss", "learning_rate", "images_per_second",
    ]  # fmt: skip
    assert [(row["iteration"], row["phase"]) for row in rows] == [
        ("0", "test"), ("0", "train"), ("2", "train"), ("3", "test"), ("4", "train"), ("6", "test"),
    ]  # fmt: skip
    assert all(float(row["loss"]) > 0 for row in rows)
    assert {row["learning_rate"] for row in rows if row["phase"] == "train"} == {"0.05"}
    assert all(float(row["images_per_second"]) > 0 for row in rows if row["phase"] == "train")
    whole = [(row["iteration"], row["phase"], row["loss"]) for row in rows]

    resumed = Solver(param, watchers=[MetricsFile("log")])
    resumed.solve("line_iter_4.solverstate")
    again = [(row["iteration"], row["phase"], row["loss"]) for row in read_rows("log/metrics.csv")[1]]
    assert again[:4] == whole[:4], "what the first run wrote before the snapshot"
    assert [each[:2] for each in again] == [each[:2] for each in whole]

    Solver(param, watchers=[MetricsFile("log")]).solve()
    assert len(read_rows("log/metrics.1.csv")[1]) == len(whole), "a new start keeps the old file"


def test_the_best_score_survives_a_resume(solver_param: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").mkdir()
    param = solver_param("test_iter: 2 test_interval: 2 snapshot: 4")
    Solver(param, watchers=[MetricsFile("log")]).solve()
    path = tmp_path / "log/metrics.csv"
    columns, rows = read_rows(path)
    (test,) = [row for row in rows if row["iteration"] == "2" and row["phase"] == "test"]
    # The loss only falls in so short a run, so the highest of the first tests would be unremarkable.
    test["loss"] = "987.5"
    lines = [",".join(columns), *(",".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    capfd.readouterr()

    Solver(param, watchers=[MetricsFile("log")]).solve("line_iter_4.solverstate")
    assert "Highest loss in testing: 987.5, after 2 iterations." in capfd.readouterr().err

    Solver(param, watchers=[MetricsFile("log")]).solve()
    assert "987.5" not in capfd.readouterr().err, "a new start does not know the earlier run"


def test_earlier_tests_of_several_nets(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path)
    first.begins(0, 4)
    first.displayed(Displayed(0, 3.5, 0.1, {"mbox_loss": 3.25}))
    first.tested(Tested(5, 0, {"detection_eval": 0.75}, {"cat": 0.75}))
    first.tested(Tested(5, 1, {"detection_eval": 0.25}, {"cat": 0.25}))
    first.tested(Tested(9, 0, {"detection_eval": 0.875}))
    resumed = MetricsFile(tmp_path)
    resumed.begins(8, 4)
    assert resumed.earlier_tests() == [Tested(5, 0, {"detection_eval": 0.75}), Tested(5, 1, {"detection_eval": 0.25})]


def test_classes_become_columns(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path)
    file.begins(0, 4)
    file.displayed(Displayed(0, 3.5, 0.1, {"mbox_loss": 3.25}))
    file.tested(Tested(1, 0, {"detection_eval": 0.5}, {"cat, or\n dog": 0.75}))
    file.displayed(Displayed(10, 2.5, 0.1, {"mbox_loss": 2.25}))
    columns, rows = read_rows(tmp_path / "metrics.csv")
    assert columns[6:] == ["mbox_loss", "detection_eval", "AP cat, or\n dog"]
    assert [row["AP cat, or\n dog"] for row in rows] == ["", "0.75", ""]
    assert [row["mbox_loss"] for row in rows] == ["3.25", "", "2.25"]


class Failing(Watcher):
    """Fails at the second display."""

    name = "the failing one"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def displayed(self, row: Displayed) -> None:
        self.seen.append(row.iteration)
        if row.iteration:
            raise OSError(28, "No space left on device")


def test_a_watcher_that_fails_is_left_out(
    solver_param: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failing, other = Failing(), Failing()
    monkeypatch.setattr(other, "displayed", lambda row: other.seen.append(row.iteration))
    solver = Solver(solver_param("max_iter: 5"), watchers=[failing, other])
    solver.solve()
    assert solver.iter == 5
    assert failing.seen == [0, 1]
    assert other.seen == [0, 1, 2, 3, 4]
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W")]
    assert warning.endswith("the failing one: No space left on device. Training goes on without it")


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "iteration,seconds,phase,loss,learning_rate,images_per_second\nx,1,,,,\n"]
)
def test_other_files_are_not_metrics(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(CaffeError, match="metrics.csv"):
        read_rows(tmp_path / "metrics.csv")


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path / "events")
    board.displayed(Displayed(10, 2.5, 0.1, {"mbox_loss": 2.25}))
    board.tested(Tested(20, 0, {"detection_eval": 0.5}, {"cat": 0.75}))
    board.ends()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found == {
        "train/loss": [(10, 2.5)], "train/learning_rate": [(10, pytest.approx(0.1))], "train/mbox_loss": [(10, 2.25)],
        "test/detection_eval": [(20, 0.5)], "test_AP/cat": [(20, 0.75)],
    }  # fmt: skip


def detection_net() -> Any:
    """What the pictures ask of a net: a data layer that subtracts a mean, and a DetectionOutput."""
    data, output = caffe_pb2.LayerParameter(), caffe_pb2.LayerParameter()
    data.transform_param.mean_value.extend([104, 117, 123])
    source = SimpleNamespace(type_name="AnnotatedData", param=data)
    layers = [source, SimpleNamespace(type_name="DetectionOutput", param=output)]
    return SimpleNamespace(
        steps=[SimpleNamespace(layer=layer, tops=[top]) for layer, top in zip(layers, ("data", "found"), strict=True)],
        source_layers=[source],
        blobs={"data": SimpleNamespace(shape=(2, 3, 60, 80)), "found": SimpleNamespace(shape=(1, 1, 1, 7))},
    )


def test_pictures_of_a_test(tmp_path: Path) -> None:
    net = detection_net()
    pictures = test_pictures.TestPictures(tmp_path, 3)
    images = torch.zeros(2, 3, 60, 80)
    rows = torch.tensor(
        [[0, 1, 0.9, 0.25, 0.25, 0.75, 0.75], [1, 2, 0.1, 0.0, 0.5, 0.5, 1.0], [-1, -1, -1, -1, -1, -1, -1.0]]
    )
    watchers = Watchers([pictures])
    for _ in range(3):
        wanted = watchers.wanted_blobs(net, 0)
        blobs = {"data": images, "found": rows[None, None]}
        watchers.test_batch(net, 0, blobs)
    assert wanted == [], "three images are complete after two batches"
    pictures.tested(Tested(500, 0, {}))
    sheet: Any = read_picture(tmp_path / "test_pictures/iter_500.jpg")
    assert sheet.shape == (60, 3 * 80 + 2 * 6, 3)
    # The mean is added again, and the box of the first and third image is drawn over it.
    assert np.abs(sheet[56, 72].astype(int) - (104, 117, 123)).max() < 12
    changed = np.abs(sheet[30, :].astype(int) - (104, 117, 123)).max(axis=1) > 25
    assert changed[17:23].any()
    assert changed[57:63].any()
    assert not changed[27:53].any()
    assert watchers.wanted_blobs(net, 0) == ["data", "found"], "the next test starts anew"


def test_nets_without_detections_have_no_pictures(tmp_path: Path) -> None:
    net = detection_net()
    net.steps.pop()
    pictures = test_pictures.TestPictures(tmp_path, 3)
    assert pictures.wanted_blobs(net, 0) == ()
    pictures.tested(Tested(1, 0, {}))
    assert list(tmp_path.iterdir()) == []


def test_pace_between_displays_leaves_out_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations 1 to 9 are trained before a test of 100 seconds, and 10 after it; each takes 2 seconds."""
    clock = [0.0]
    monkeypatch.setattr("caffe.solver.metrics.time.monotonic", lambda: clock[0])
    file = MetricsFile(tmp_path)
    file.begins(0, 8)
    for iteration in range(11):
        if iteration == 10:
            clock[0] += 100
            file.tested(Tested(10, 0, {"detection_eval": 0.5}, seconds=100.0))
        clock[0] += 2
        if iteration % 10 == 0:
            file.displayed(Displayed(iteration, 1.0, 0.1, {}))
    rows = read_rows(file.path)[1]
    assert [row["images_per_second"] for row in rows] == ["4", "", "4"]
