"""AP against its definitions, and against what the original said of a trained net."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.detection.average_precision import AP_VERSIONS, average_precision, precision_recall
from caffe.errors import CaffeError
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
    """Right, wrong, right; three objects."""
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


def test_trained_net_scores_what_the_original_scored(shared: Path, tmp_path: Path) -> None:
    """golden/train_run: the net, its weights, its data; AP of each class in all three versions."""
    run = shared / "golden" / "train_run"
    expected = json.loads((run / "detection_eval.json").read_text())
    for name in ("lmdb_test", "labelmap_bccd.prototxt", "name_size.txt"):
        (tmp_path / name).symlink_to(run / name)
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        net = caffe.Net(str(run / "test.prototxt"), caffe.TEST, weights=str(run / expected["weights"]))
        batches = [net.forward()["detection_eval"].copy() for _ in range(expected["test_iter"])]
    finally:
        os.chdir(here)
    rows = np.concatenate([b.reshape(-1, 5) for b in batches])
    for version in AP_VERSIONS:
        found = DetectionScores(["e"], version, False)
        import torch

        found.add({"e": torch.from_numpy(rows)[None, None]})
        ours = found.average_precisions("e")
        assert found.mean("e") == pytest.approx(expected[version]["mAP"], abs=1e-4)
        for label, value in ours.items():
            assert value == pytest.approx(expected[version][f"class{label}"], abs=1e-4)
    # the same run wrote its result files
    for theirs in sorted((run / "results").iterdir()):
        ours_lines = (tmp_path / "results" / theirs.name).read_text().splitlines()
        their_lines = theirs.read_text().splitlines()
        assert len(ours_lines) == len(their_lines)
