"""Normalize against the slow reference, the original's answers and its own numerical derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe.ops.normalize import normalize, normalize_backward, normalize_with_norm
from tests.golden.cases import case_files
from tests.reference import normalize as reference

# One position, one channel, more positions than a block of the CPU code, counts that no vector width divides, no axes
# after the channels, five axes.
SHAPES = [(1, 1, 1, 1), (2, 5, 3, 4), (3, 17, 1, 1), (1, 3, 19, 31), (2, 33), (2, 4, 7), (2, 3, 2, 3, 4), (1, 1, 5, 5)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    difference = np.linalg.norm(actual.detach().double().cpu().numpy() - expected)
    return float(difference) / max(float(np.linalg.norm(expected)), 1e-30)


def case(shape: tuple[int, ...], shared: bool, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.rand(() if shared else (shape[1],)) * 20 + 0.5
    x, dy = torch.randn(shape), torch.randn(shape)
    x = x + x.sign()  # away from 0, where a group of one channel divides rounding errors by almost zero
    return x.to(device, dtype), dy.to(device, dtype), scale.to(device, wide)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_the_reference(
    channels_last: bool, shared: bool, across_spatial: bool, dtype: torch.dtype, device: str
) -> None:
    for shape in SHAPES:
        x, dy, scale = case(shape, shared, dtype, device)
        if channels_last:
            if len(shape) != 4:
                continue
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        scale.requires_grad_()
        y = normalize(x, scale, across_spatial, 1e-10)
        y.backward(dy)
        assert x.grad is not None
        assert scale.grad is not None
        dy_array, x_array, scale_array = (t.detach().double().cpu().numpy() for t in (dy, x, scale))
        dx, dscale = reference.backward(dy_array, x_array, scale_array, across_spatial, 1e-10)
        assert y.dtype == x.dtype
        assert y.stride() == x.stride()
        assert relative_error(y, reference.forward(x_array, scale_array, across_spatial, 1e-10)) < TOLERANCE[dtype]
        # With one channel per group, dx is a difference of equal numbers and only its smallness can be compared.
        scale_of_dx = max(float(np.linalg.norm(dx)), float(np.linalg.norm(dy_array * scale_array.max())))
        assert np.linalg.norm(x.grad.double().cpu().numpy() - dx) < TOLERANCE[dtype] * scale_of_dx
        assert relative_error(scale.grad, dscale) < TOLERANCE[dtype] * 10


def test_answers_of_the_original(device: str) -> None:
    files = case_files("normalize")
    assert len(files) >= 4
    for file in files:
        data = np.load(file)
        text = str(data["prototxt"])
        x = torch.from_numpy(data["x"]).to(device).requires_grad_()
        scale = torch.from_numpy(data["scale"]).to(device)
        scale = (scale[0] if "channel_shared: true" in text else scale).requires_grad_()
        y = normalize(x, scale, "across_spatial: true" in text, 1e-10)
        y.backward(torch.from_numpy(data["top_diff"]).to(device))
        assert x.grad is not None
        assert scale.grad is not None
        assert relative_error(y, data["y"]) < 1e-6, file.name
        assert relative_error(x.grad, data["x_diff"]) < 1e-6, file.name
        assert relative_error(scale.grad, data["scale_diff"].reshape(scale.shape)) < 1e-5, file.name


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_gradient_is_the_derivative_for_equal_scales(shared: bool, across_spatial: bool, device: str) -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, device=device, requires_grad=True)
    scale = torch.full(() if shared else (3,), 7.0, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: normalize(x, s, across_spatial, 1e-3), (x, scale))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_compiled_without_gradients(shared: bool, across_spatial: bool, dtype: torch.dtype) -> None:
    """Compilation decomposes it; the numbers stay the same."""
    for shape in ((2, 5, 3, 4), (3, 7)):
        x, _, scale = case(shape, shared, dtype, "cpu")
        torch._dynamo.reset()
        compiled = torch.compile(normalize, backend="eager", fullgraph=True, dynamic=False)
        found = compiled(x, scale, across_spatial)
        assert found.dtype == dtype
        torch.testing.assert_close(found, normalize(x, scale, across_spatial))


def test_op_is_registered_as_pytorch_wants_it() -> None:
    x, _, scale = case((2, 3, 4, 5), False, torch.float64, "cpu")
    x.requires_grad_()
    scale.fill_(3.0).requires_grad_()
    torch.library.opcheck(torch.ops.caffe.normalize.default, (x, scale, False, 1e-10))
    torch.library.opcheck(
        torch.ops.caffe.normalize.default, (x.detach().to(memory_format=torch.channels_last), scale, True, 1e-10)
    )


def test_gradient_is_the_same_for_any_number_of_threads() -> None:
    x, dy, scale = case((3, 64, 40, 40), False, torch.float32, "cpu")
    answers = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y, norm = normalize_with_norm(x, scale, False, 1e-10)
            answers.append((y, norm, *normalize_backward(dy, x, scale, norm, False, 1e-10)))
    finally:
        torch.set_num_threads(before)
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            assert torch.equal(one, two)


def test_sizes_of_zero(device: str) -> None:
    for shape in [(0, 3, 2, 2), (2, 3, 0, 2), (2, 0, 2, 2)]:
        for across_spatial in (False, True):
            x = torch.zeros(shape, device=device, requires_grad=True)
            scale = torch.ones(shape[1], device=device, requires_grad=True)
            y = normalize(x, scale, across_spatial)
            y.sum().backward()
            assert x.grad is not None
            assert scale.grad is not None
            assert y.shape == x.shape == x.grad.shape
            assert torch.equal(scale.grad, torch.zeros_like(scale))


def test_zeros_stay_zero_and_a_scale_of_zero_has_a_gradient(device: str) -> None:
    x = torch.zeros(1, 4, 2, 2, device=device, requires_grad=True)
    scale = torch.zeros(4, device=device, requires_grad=True)
    y = normalize(x, scale)
    y.backward(torch.ones_like(y))
    assert torch.equal(y, torch.zeros_like(y))
    assert scale.grad is not None
    assert torch.isfinite(scale.grad).all()


def test_a_tensor_that_is_not_dense() -> None:
    x = torch.randn(2, 6, 4, 8)[:, ::2, :, 1::2]
    scale = torch.ones(3)
    assert torch.equal(normalize(x, scale), normalize(x.contiguous(), scale))


@pytest.mark.parametrize(
    ("x", "scale", "message"),
    [
        (torch.zeros(3), torch.ones(3), "two axes or more"),
        (torch.zeros(1, 3, 2, 2), torch.ones(4), r"must be \(\) or \(3,\)"),
        (torch.zeros(1, 3, 2, 2), torch.ones(3, dtype=torch.float64), "scale is torch.float64"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.int32), torch.ones(3), "x is torch.int32"),
    ],
)
def test_arguments_that_do_not_fit(x: Tensor, scale: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize(x, scale)
