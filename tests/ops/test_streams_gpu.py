"""The four layers on several streams of a GPU at once: each call has its own memory, so the results are the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from caffe.ops.detection_output import CENTER_SIZE, detection_output_static
from caffe.ops.multibox_loss import multibox_loss_backward, multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.ops.normalize import normalize_backward, normalize_with_norm
from caffe.ops.prior_box import prior_box, prior_box_sizes
from tests.ops.multibox_scenes import batch
from tests.ops.test_detection_output import scene

STREAMS = 4
ROUNDS = 5


class Work:
    """One call of each layer, forward and backward, on a seed's inputs, which are already on the device."""

    def __init__(self, seed: int, device: str) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x, self.dy = (torch.randn(4, 64, 38, 38, generator=generator).to(device) for _ in range(2))
        self.scale = torch.full((64,), 20.0, device=device)
        self.sizes = prior_box_sizes([30.0], [60.0 + seed], [2.0], True).to(device)
        self.options = MultiBoxLossOptions(5).text
        self.boxes = [t.to(device) for t in batch(MultiBoxLossOptions(5), seed, images=4, side=40, each=10)]
        self.one = torch.ones((), device=device)
        self.predictions = [t.to(device) for t in scene(seed, 4, 5000, 5)]

    def __call__(self) -> list[Tensor]:
        y, norm = normalize_with_norm(self.x, self.scale, False, 1e-10)
        dx, dscale = normalize_backward(self.dy, self.x, self.scale, norm, False, 1e-10)
        prior = prior_box(self.sizes, 75, 75, 300, 300, 4.0, 4.0, 0.5, False, [0.1, 0.1, 0.2, 0.2])
        loss, match, counts = multibox_loss_forward(*self.boxes, self.options)
        gradients = multibox_loss_backward(self.one, *self.boxes, match, counts, self.options)
        rows, kept = detection_output_static(*self.predictions, 5, True, 0, CENTER_SIZE, False, 0.3, 0.45, 1.0, 400, -1)
        return [y, dx, dscale, prior, loss, match, *gradients, rows, kept]


def at_once(device: str, stream: Callable[[], AbstractContextManager[object]]) -> list[list[Tensor]]:
    """Does the work of several seeds, first alone and then each on a stream; compares, and returns the results."""
    works = [Work(seed, device) for seed in range(STREAMS)]
    expected = [[t.cpu() for t in work()] for work in works]
    for _ in range(ROUNDS):
        found = []
        for work in works:
            with stream():
                found.append(work())
        if device == "cuda":
            torch.cuda.synchronize()
        for ours, theirs in zip(found, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one.cpu(), other)
    return expected


@pytest.mark.gpu
def test_streams() -> None:
    at_once("cuda", lambda: torch.cuda.stream(torch.cuda.Stream()))


def test_what_is_compared() -> None:
    """On the CPU, where there are no streams: no result is empty, and seeds have different ones."""
    first, second, *_ = at_once("cpu", nullcontext)
    for one, other in zip(first, second, strict=True):
        assert one.numel()
        assert not torch.equal(one, other)
