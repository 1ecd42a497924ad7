"""torchvision, also where its compiled operators do not fit this PyTorch: its model definitions need only their names."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

#: torchvision's compiled operators that its Python code looks up when it is imported
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []


def torchvision() -> Any:
    """The package, or a skipped test without it."""
    pytest.importorskip("PIL")
    try:
        import torchvision
    except RuntimeError as error:  # a build for CUDA beside a PyTorch for the CPU
        if "torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        _declared.append(library)  # the operators live as long as it does
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision
    except ImportError:
        pytest.skip("torchvision is not installed")
    return torchvision
