"""A run of the original, continued from its iteration 120 to the end with `caffe train`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe.cli import caffe
from caffe.proto.solver_state import read_solver_state
from caffe.proto.weights import read_weights
from caffe.solver.log_reader import read_training_log

CLASSES = ("RBC", "WBC", "Platelets")


@pytest.fixture
def run(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to work in; results from before are removed."""
    folder = tmp_path / "run"
    shutil.copytree(shared / "golden" / "train_run", folder, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in [*folder.glob("tiny_iter_240.*"), *folder.glob("results/*")]:
        path.unlink()
    monkeypatch.chdir(folder)
    return folder


def detections(path: Path) -> dict[str, np.ndarray]:
    """The rows of a VOC results file by image: score, xmin, ymin, xmax, ymax."""
    rows: dict[str, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        image, *numbers = line.split()
        rows.setdefault(image, []).append([float(n) for n in numbers])
    return {image: np.array(values) for image, values in rows.items()}


def test_resumed_to_the_end(run: Path, shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    golden = shared / "golden" / "train_run"
    assert caffe.main(["train", "-solver", "solver.prototxt", "-snapshot", "tiny_iter_120.solverstate"]) == 0
    (run / "ours.log").write_text(capfd.readouterr().err)
    theirs, ours = (read_training_log(path) for path in (golden / "caffe.log", run / "ours.log"))

    losses = {iteration: loss for iteration, _, loss in theirs.losses}
    assert [iteration for iteration, *_ in ours.losses] == list(range(120, 241))
    for iteration, _, loss in ours.losses:
        # The first three batches use the loaded weights; from then on rounding errors add up.
        tolerance = 1e-5 if iteration == 120 else 0.01 if iteration < 160 else 0.02
        assert loss == pytest.approx(losses[iteration], rel=tolerance), iteration
    assert [rate for iteration, _, rate in ours.rates] == [rate for i, _, rate in theirs.rates if i >= 120]
    assert ours.test[0]["NumIters"] == 200
    assert ours.test[0]["detection_eval"] == pytest.approx(theirs.test[1]["detection_eval"], rel=0.02)

    for mine, original in zip(
        read_weights(run / "tiny_iter_240.caffemodel"), read_weights(golden / "tiny_iter_240.caffemodel"), strict=True
    ):
        assert (mine.name, mine.type) == (original.name, original.type)
        for a, b in zip(mine.blobs, original.blobs, strict=True):
            assert np.linalg.norm(a - b) <= 2e-3 * np.linalg.norm(b), mine.name
    states = [read_solver_state(folder / "tiny_iter_240.solverstate") for folder in (run, golden)]
    assert states[0].learned_net == states[1].learned_net
    assert (states[0].iter, states[0].current_step) == (states[1].iter, states[1].current_step)
    assert [h.shape for h in states[0].history] == [h.shape for h in states[1].history]

    found, wanted = 0, 0
    for name in CLASSES:
        file = f"comp4_det_test_{name}.txt"
        same, all_ = _same_detections(detections(run / "results" / file), detections(golden / "results" / file))
        found, wanted = found + same, wanted + all_
    # Where two boxes are about equally good, rounding decides which one suppresses the other.
    assert found >= 0.99 * wanted


def _same_detections(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[int, int]:
    """How many detections of `theirs` with a score over 0.05 are in `mine` (to the pixel, score to 2e-3); of how many."""
    rows = [(image, row) for image, values in theirs.items() for row in values if row[0] > 0.05]
    gaps = [np.abs(mine[image] - row) / [2e-3, 1, 1, 1, 1] for image, row in rows]
    return sum(bool(gap.max(axis=1).min() <= 1) for gap in gaps), len(rows)


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
def test_scores_of_the_given_weights(run: Path, shared: Path, capfd: pytest.CaptureFixture[str], version: str) -> None:
    golden = shared / "golden" / "train_run"
    want = json.loads((golden / "detection_eval.json").read_text())[version]
    weights = str(golden / "tiny_iter_240.caffemodel")
    words = ["test", "-model", "test.prototxt", "-weights", weights, "-iterations", "3", "-ap_version", version]
    assert caffe.main(words) == 0
    err = capfd.readouterr().err
    found = {name: float(value) for name, value in re.findall(r"\] (class\d): (\S+)$", err, re.M)}
    found["mAP"] = float(re.findall(r"Test net output #0: detection_eval = (\S+)$", err, re.M)[-1])
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in want.items()}
