"""A detector that the original trained on real photographs (../shared/golden/end_to_end), scored on ours."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from caffe.cli import caffe, convert_annoset


def test_the_given_weights_score_what_the_original_says(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    golden = shared / "golden" / "end_to_end"
    for name in ("test.prototxt", "labelmap_bccd.prototxt", "test_list.txt"):
        shutil.copyfile(golden / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    words = ["-anno_type", "detection", "-label_map_file", "labelmap_bccd.prototxt", "-encoded", "-encode_type", "jpg"]
    assert convert_annoset.main([*words, f"{shared / 'data/bccd'}/", "test_list.txt", "test_lmdb"]) == 0
    weights = str(golden / "small_s1_iter_2000.caffemodel")
    words = ["-model", "test.prototxt", "-weights", weights, "-iterations", "9", "-ap_version", "11point"]
    assert caffe.main(["test", *words]) == 0
    err = capfd.readouterr().err
    found = [float(value) for value in re.findall(r"\] class\d: (\S+)$", err, re.M)]
    found += [float(re.findall(r"Test net output #0: detection_eval = (\S+)$", err, re.M)[-1])]
    runs = json.loads((golden / "reference.json").read_text())["seeds"]
    wanted = runs["1"]["mAP_and_AP_by_iteration"]["2000"]
    # The original compresses each test image as JPEG again, and versions of encoders differ in single gray levels.
    assert found == pytest.approx([wanted[name] for name in ("RBC", "WBC", "Platelets", "mAP")], abs=2e-3)
    assert found[-1] == pytest.approx(wanted["mAP"], abs=5e-4)
