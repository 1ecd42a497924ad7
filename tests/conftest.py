"""Fixtures that many tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from caffe.engine import acceleration
from caffe.runtime import runtime

ROOT = Path(__file__).resolve().parent.parent
# The generators are programs of the checkout, not part of the installed package. Last, so that an installed caffe wins.
sys.path.append(str(ROOT))


def pytest_configure() -> None:
    # Test nets are tiny and pytest-xdist runs as many workers as there are cores.
    torch.set_num_threads(1)
    os.environ.pop("GLOG_minloglevel", None)  # tests read the log


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # If asked for by name (`-m gpu`), they fail without a GPU instead of being skipped.
    if torch.cuda.is_available() or "gpu" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference answers and real photographs beside the checkout; the test is skipped if they are missing."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("needs the reference answers in ../shared")
    return folder


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """What tests, and commands that ran in this process, have left is undone: the seed, what was chosen by
    caffe.engine.acceleration, and environment variables.
    """
    torch.manual_seed(0)
    runtime.python_layers = runtime.layers_write = True
    environment, seed = dict(os.environ), runtime.seed
    yield
    acceleration.use()
    runtime.seed = seed
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


@pytest.fixture
def nets_on_gpu() -> Iterator[None]:
    """Nets are made on the GPU; the mode is restored afterwards."""
    runtime.mode_gpu = True
    yield
    runtime.mode_gpu = False


@pytest.fixture(params=["cpu", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where an op's tensors go: "emulated" runs its CUDA code on the CPU (tests/cuda_on_cpu), with threads in odd order."""
    if request.param != "emulated":
        return str(request.param)
    from tests.cuda_on_cpu.device import use

    use(monkeypatch, seed=5)
    return "cpu"
