"""Training goes on without its side outputs: a log folder that is full or gone, a standard error that nobody reads."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, running

pytestmark = pytest.mark.usefixtures("tiny_run")


def train(*flags: str, max_iter: int = 4, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    """`caffe train` of the tiny net, for so many iterations."""
    solver = Path("solver.prototxt")
    solver.write_text(solver.read_text().replace("max_iter: 4", f"max_iter: {max_iter}"))
    return running(
        [sys.executable, "-m", "caffe.cli.caffe", "train", "-solver", "solver.prototxt", *flags],
        env=dict(PYTHONPATH=f"{ROOT}:{Path.cwd()}", OMP_NUM_THREADS="1"),
        **options,
    )


def the_log() -> str:
    (path,) = Path("log").glob("caffe.2*.log")
    return path.read_text()


def snapshots() -> list[str]:
    return sorted(path.name for path in Path().glob("*.solverstate"))


def test_log_files_that_may_not_grow() -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))

    with train("-log_dir", "log", stderr=subprocess.PIPE, before=limit) as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    (warning,) = [line for line in err.splitlines() if line.startswith("W")]
    assert "log/caffe.2" in warning
    assert "not written: File too large. The run goes on without this log file" in warning
    assert "Optimization Done." in err
    assert snapshots() == ["two_iter_2.solverstate", "two_iter_4.solverstate"]


def test_a_log_folder_that_is_removed() -> None:
    with train("-log_dir", "log", max_iter=1000000, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Iteration 2, loss" in line:
                break
        while Path("log").exists():  # meanwhile, training may write metrics.csv again
            shutil.rmtree("log", ignore_errors=True)
        # that of metrics.csv may come first
        warnings = []
        for line in process.stderr:
            if line.startswith("W"):
                warnings.append(line)
            if "not written: it was removed. The run goes on without this log file" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert "Optimization stopped early." in err
    warnings += [line for line in err.splitlines() if line.startswith("W")]
    assert sum("it was removed" in line for line in warnings) == 1
    others = [line for line in warnings if "it was removed" not in line]
    assert len(others) <= 1
    assert all("metrics.csv: No such file or directory. Training goes on without it" in line for line in others)


def test_a_reader_of_standard_error_that_leaves() -> None:
    """As in `caffe train 2>&1 | head`, or when a terminal is closed."""
    with train("-log_dir", "log", max_iter=200, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Iteration 2, loss" in line:
                break
        process.stderr.close()
        assert process.wait() == 0
    log = the_log()
    assert log.count("standard error: not written: [Errno 32] Broken pipe. The run goes on without it") == 1
    assert "Iteration 198, loss" in log
    assert "two_iter_200.solverstate" in snapshots()


def test_a_full_standard_error() -> None:
    with open("/dev/full", "w") as full, train("-log_dir", "log", stderr=full) as process:
        assert process.wait() == 0
    assert the_log().count("standard error: not written: [Errno 28] No space left on device") == 1
    assert "Optimization Done." in the_log()


def test_a_closed_standard_error() -> None:
    """The next file to be opened must not take its place: an interrupt's message would go there."""
    with train("-log_dir", "log", max_iter=1000000, before=lambda: os.close(2)) as process:
        while not Path("two_iter_2.solverstate").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert "Optimization stopped early." in the_log()
    assert not [path for path in Path().rglob("*") if path.is_file() and b"press Ctrl-C" in path.read_bytes()]


def test_an_error_that_nobody_reads() -> None:
    with open("/dev/full", "w") as full, train("-weights", "none.caffemodel", stderr=full) as process:
        assert process.wait() == 1


RESULTS_NET = """
name: "found"
layer { name: "image" type: "DummyData" top: "image" dummy_data_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 1 dim: 4 } } }
layer { name: "loc" type: "DummyData" top: "loc" dummy_data_param { shape { dim: 1 dim: 4 } } }
layer { name: "conf" type: "DummyData" top: "conf"
  dummy_data_param { shape { dim: 1 dim: 2 } data_filler { type: "constant" value: 0.5 } } }
layer { name: "y" type: "InnerProduct" bottom: "image" top: "y"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
layer { name: "prior" type: "PriorBox" bottom: "image" bottom: "image" top: "prior" include { phase: TEST }
  prior_box_param { min_size: 4 step: 8 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "cell" type: "Slice" bottom: "prior" top: "one" top: "others" include { phase: TEST }
  slice_param { axis: 2 slice_point: 4 } }
layer { name: "others" type: "Silence" bottom: "others" include { phase: TEST } }
layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "one" top: "found"
  include { phase: TEST }
  detection_output_param { num_classes: 2 keep_top_k: 5 confidence_threshold: 0.1 nms_param { nms_threshold: 0.45 }
    save_output_param { output_directory: "results" output_name_prefix: "det_" output_format: "VOC"
      label_map_file: "labelmap.prototxt" name_size_file: "sizes.txt" } } }
layer { name: "silence" type: "Silence" bottom: "found" include { phase: TEST } }
"""
RESULTS_SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 6 snapshot_prefix: "found" solver_mode: CPU
test_iter: 2 test_interval: 2
"""


def test_a_results_folder_that_takes_nothing() -> None:
    """One warning that names the file, the earlier results whole, no false hint, and all iterations."""
    Path("net.prototxt").write_text(RESULTS_NET)
    Path("solver.prototxt").write_text(RESULTS_SOLVER)
    Path("labelmap.prototxt").write_text(
        'item { name: "background" label: 0 } item { name: "cell" label: 1 display_name: "cell" }'
    )
    Path("sizes.txt").write_text("first 80 80\nsecond 80 80\n")
    Path("results").mkdir()
    Path("results/det_cell.txt").write_text("earlier\n")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    with train(stderr=subprocess.PIPE, before=limit) as process:
        _, err = process.communicate()
    # the last snapshot does not fit either, and that is an error
    assert err.splitlines()[-1].startswith("caffe train: found_iter_6.caffemodel: not written: File too large")
    assert process.returncode == 1
    assert "Iteration 6, Testing net" not in err
    assert err.count("Training goes on without these results") == 1
    assert "results/det_cell.txt: not written: File too large" in err
    assert "images passed" not in err
    assert Path("results/det_cell.txt").read_text() == "earlier\n"
    assert "Traceback" not in err

    with train(stderr=subprocess.PIPE) as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert Path("results/det_cell.txt").read_text().startswith("first 0.5 ")
