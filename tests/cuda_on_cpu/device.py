"""Makes the ops take their CUDA path with tensors in host memory, on the emulated device."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import platform
import sys
from types import SimpleNamespace

import pytest
import torch

import caffe.ops
from tests.cuda_on_cpu import build


def use(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Until `monkeypatch` is undone. `seed`: the order in which threads run."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the emulated device is written for Linux on x86-64")
    module = build.load()
    module.set_seed(seed)
    for info in pkgutil.iter_modules(caffe.ops.__path__):
        op = importlib.import_module(f"caffe.ops.{info.name}")
        if hasattr(op, "_C"):
            monkeypatch.setattr(op, "_C", module)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True), raising=False)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *device: SimpleNamespace(cuda_stream=0))
