"""The GPU benchmarks' programs, run on the CPU with narrow nets: nobody notices otherwise that one no longer runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
import torch

from caffe.engine import prepack
from caffe.proto.text import to_text
from prototxt_gen.ssd300 import SSD300
from tests.narrow import CLASSES, narrow_deploy

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
#: a program's main, given its name, flags and other values of its constants: the figures that it would write, by file
Run = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before, threads = set(sys.modules), cv2.getNumThreads()
    folder = tmp_path / "MDSSD300" / "VOC"
    folder.mkdir(parents=True)
    (folder / "deploy.prototxt").write_text(to_text(narrow_deploy(SSD300)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    written: dict[str, dict[str, Any]] = {}

    def program(name: str, *flags: str, **constants: object) -> dict[str, dict[str, Any]]:
        on_gpu = importlib.import_module("on_gpu")
        monkeypatch.setattr(on_gpu, "MODELS", tmp_path)
        monkeypatch.setattr(on_gpu, "CLASSES", CLASSES)
        monkeypatch.setattr(on_gpu, "need_gpu", lambda: None)
        monkeypatch.setattr(on_gpu, "prepack", lambda net, merging: prepack._for_gpu(net, merging))
        module: ModuleType = importlib.import_module(name)
        monkeypatch.setattr(module, "write_result", lambda where, figures: written.update({where: figures}))
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags])
        module.main()
        return written

    yield program
    cv2.setNumThreads(threads)
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == BENCHMARKS:
            del sys.modules[name]


def test_batch_1(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    written = run("gpu_batch1", "--rounds", "1", "--precisions", "fp32", "--kernels", GOALS={"MDSSD300": 500})
    figures = written["gpu_batch1"]
    for how in ("MDSSD300, fp32", "MDSSD300, fp32, CUDA graph", "MDSSD300, fp32, CUDA graph, tuned"):
        assert figures[how] > 0
        assert figures[f"{how}, separate convolutions"] > 0
        assert figures[f"{how}: boxes that differ"] == 0
    tables = written["gpu_batch1_kernels"]["MDSSD300, fp32"]
    merged, separate = (tables[way]["each"]["aten::conv2d"][1] for way in ("merged", "separate convolutions"))
    assert separate - merged == 6, "SSD300 has six sources"
    found = capfd.readouterr().out
    assert "images a second (goal on an H200: over 500)" in found
    assert "kernel\n" in found
    assert any(line.endswith("| all") for line in found.splitlines())


def test_detect_files(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--images", "3", "--batch", "2", "--workers", "1", "--rounds", "4"]
    figures = run("gpu_detect_files", *flags)["gpu_detect_files"]
    assert figures["1 threads"].keys() == {"threads alone", "all boxes", "a few boxes"}
    assert min(figures[name] for name in ("in memory, all boxes", "in memory, a few boxes")) > 0
    assert "over 2500" in capfd.readouterr().out
