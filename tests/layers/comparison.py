"""A layer beside its reference: tops, and gradients by small steps."""

from __future__ import annotations

import numpy as np
import torch

from caffe.engine.layer_types.recurrent import Recurrent
from tests.layer_harness import Case, run, spread_out


def drawn(case: Case, shapes: list[tuple[int, ...]] | None = None) -> list[np.ndarray]:
    """Values for the bottoms of a case, of its own shapes unless others are given."""
    rng = np.random.default_rng(1)
    shapes = shapes or [b.shape for b in case.bottoms]
    return [b.values(rng, shape) for b, shape in zip(case.bottoms, shapes, strict=True)]


def assert_as_reference(case: Case, resized: bool, device: str = "cpu") -> None:
    """Checks the layer's tops; `resized`: for other shapes than those of its set-up."""
    arrays = drawn(case, case.other_shapes() if resized else None)
    layer = spread_out(case.layer())
    if case.type == "BatchNorm":
        for blob, value in zip(layer.blobs, (0.7, 2.1, 1.4), strict=True):
            blob.data.fill_(value)
    blobs = [b.detach().numpy().copy() for b in layer.blobs]
    shapes = layer.reshape([a.shape for a in arrays])
    tops = run(layer.to(device), *(torch.from_numpy(a).to(device) for a in arrays))
    expected = case.reference(layer.param, arrays, blobs, case.phase)
    assert len(tops) == len(expected) == case.tops
    for top, answer, shape in zip(tops, expected, shapes, strict=True):
        if not layer.dynamic_axes:  # sizes that are known only when it has run
            assert tuple(shape) == top.shape
        np.testing.assert_allclose(top.detach().cpu().numpy(), answer, rtol=1e-6, atol=1e-9)


def assert_gradient(case: Case) -> None:
    """Checks the layer's gradients, of bottoms and of blobs, by small steps."""
    layer = spread_out(case.layer())
    bottoms = [torch.from_numpy(a) for a in drawn(case)]
    for i, (bottom, tensor) in enumerate(zip(case.bottoms, bottoms, strict=True)):
        tensor.requires_grad_(bottom.smooth and layer.takes_gradient(i))
    learned = [b for b in layer.blobs if b.requires_grad]
    wanted = [t for t in (*bottoms, *learned) if t.requires_grad]
    assert wanted

    def differentiable_tops(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if isinstance(layer, Recurrent):
            layer.reset()
        return tuple(top for top in run(layer, *bottoms) if top.requires_grad)

    # ContrastiveLoss divides by a distance + 1e-4, which its loss does not have
    rtol = 1e-3 if case.type == "ContrastiveLoss" else 1e-5
    assert torch.autograd.gradcheck(differentiable_tops, wanted, eps=1e-6, atol=3e-10, rtol=rtol, fast_mode=True)
