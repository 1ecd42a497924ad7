"""AP against its definitions, and against the original's values for a trained net."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe.detection.average_precision import AP_VERSIONS, average_precision, precision_recall
from caffe.errors import CaffeError, NetError
from caffe.solver.scores import DetectionScores
from tests.reference import average_precision as reference


@pytest.mark.parametrize("version", AP_VERSIONS)
@pytest.mark.parametrize("seed", range(8))
def test_definition(version: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    scores = np.round(rng.random(count), 1)
    true = rng.random(count) < 0.5
    objects = int(true.sum() + rng.integers(0, 4)) or 1
    ours = average_precision(scores, true, objects, version)
    theirs = reference.average_precision(scores.tolist(), true.tolist(), objects, version)
    # at 7 of 10 objects the single-precision recall is under 0.7, so a point may fall
    assert ours == pytest.approx(theirs, abs=1e-6 if version != "11point" or objects % 10 else 0.1)


def test_by_hand() -> None:
    """Correct, wrong, correct; three objects."""
    scores, true = [0.9, 0.8, 0.7], [True, False, True]
    precision, recall = precision_recall(scores, true, 3)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3])
    assert average_precision(scores, true, 3, "Integral") == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(scores, true, 3, "MaxIntegral") == pytest.approx(1 / 3 + 2 / 9)
    assert average_precision(scores, true, 3, "11point") == pytest.approx((4 + 3 * 2 / 3) / 11)


def test_nothing_to_find_and_nothing_found() -> None:
    assert average_precision([], [], 5, "11point") == 0
    assert average_precision([0.5], [False], 0, "MaxIntegral") == 0
    with pytest.raises(CaffeError, match=r"'12point'; known: 11point, MaxIntegral, Integral"):
        average_precision([0.5], [True], 1, "12point")


def link_run(run: Path, folder: Path) -> Path:
    """A writable copy of a run's files, without its results."""
    for path in run.iterdir():
        if path.name != "results":
            (folder / path.name).symlink_to(path)
    return folder


def test_trained_net_scores_what_the_original_scored(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """golden/train_run: the net, its weights, its data; AP of each class in all three versions."""
    run = shared / "golden" / "train_run"
    expected = json.loads((run / "detection_eval.json").read_text())
    monkeypatch.chdir(link_run(run, tmp_path))
    net = caffe.Net(str(run / "test.prototxt"), caffe.TEST, weights=str(run / expected["weights"]))
    batches = [net.forward()["detection_eval"].copy() for _ in range(expected["test_iter"])]
    rows = np.concatenate([b.reshape(-1, 5) for b in batches])
    for version in AP_VERSIONS:
        found = DetectionScores(["e"], version, False)
        found.add({"e": torch.from_numpy(rows)[None, None]})
        ours = found.average_precisions("e")
        assert found.mean("e") == pytest.approx(expected[version]["mAP"], abs=1e-4)
        for label, value in ours.items():
            assert value == pytest.approx(expected[version][f"class{label}"], abs=1e-4)


def test_a_list_in_another_order_than_the_database(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shared / "golden" / "train_run"
    monkeypatch.chdir(link_run(run, tmp_path))
    lines = (run / "name_size.txt").read_text().splitlines()
    (tmp_path / "name_size.txt").unlink()
    (tmp_path / "name_size.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(NetError, match=r"layer 'detection_out' .*: image 1 of name_size_file 'name_size.txt' is 'Bloo"):
        caffe.Net("test.prototxt", caffe.TEST)


def test_result_files_of_the_original_run(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """golden/train_run resumed at 120: its test at iteration 200 wrote the result files. Boxes to the pixel.

    The JPEG decoder here is of another version than the original's, so in its eighty iterations some pixels differ by
    a gray level. That changes scores by up to 0.0016, and moves one box in twelve to the next pixel.
    """
    run = shared / "golden" / "train_run"
    monkeypatch.chdir(link_run(run, tmp_path))
    monkeypatch.setenv("GLOG_minloglevel", "3")
    solver = caffe.get_solver("solver.prototxt")
    solver.restore("tiny_iter_120.solverstate")
    solver.step(81)  # a test comes before its iteration
    for file in sorted((run / "results").iterdir()):
        theirs = [line.split() for line in file.read_text().splitlines()]
        ours = [line.split() for line in (tmp_path / "results" / file.name).read_text().splitlines()]
        boxes = {(image, *box): float(score) for image, score, *box in ours}
        same = [
            abs(boxes[(image, *box)] - float(score)) < 2e-3 for image, score, *box in theirs if (image, *box) in boxes
        ]
        assert all(same)
        assert len(same) >= 0.9 * len(theirs)
        assert abs(len(ours) - len(theirs)) <= 3
