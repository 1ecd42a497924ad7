"""MultiBoxLoss's GPU code against the CPU's: on an emulated device, and on a GPU."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caffe.ops.multibox_loss import multibox_loss, multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from tests.cuda_on_cpu import device as emulator
from tests.ops.multibox_scenes import (
    CODE,
    LOSS,
    Batch,
    batch,
    options_strategy,
    run,
    tensors,
)


def tied_batch() -> Batch:
    """Boxes, objects and scores from small pools: nearly all have equals."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 3, (150, 2)) / 4
    prior = np.stack([np.concatenate([corners, corners + 0.5], 1), np.full((150, 4), 0.1)])
    corners = rng.integers(0, 3, (20, 2)) / 4
    image, zeros = np.sort(rng.integers(0, 2, (20, 1)), 0), np.zeros((20, 1))
    label = np.concatenate([image, zeros + 1, zeros, corners, corners + 0.5, zeros], 1)
    return tensors(np.zeros((2, 600)), rng.integers(0, 3, (2, 450)), prior, label)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mining", [LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
@pytest.mark.parametrize(
    "scene", ["random", "ties", "predictions matched", "classes matched", "over the boundary", "NaN"]
)
def test_emulated_gpu_decides_as_the_cpu(monkeypatch: pytest.MonkeyPatch, scene: str, mining: int, seed: int) -> None:
    """Equal to the box, and gradients to the bit, in any order of threads."""
    options = MultiBoxLossOptions(3, mining_type=mining, code_type=CODE.CENTER_SIZE, neg_pos_ratio=1.5)
    options = replace(options, conf_loss_type=LOSS.LOGISTIC if seed else LOSS.SOFTMAX)
    if scene in ("predictions matched", "classes matched"):
        by_class = scene == "classes matched"
        options = replace(
            options,
            use_prior_for_matching=False,
            share_location=not by_class,
            mining_type=LOSS.NONE if by_class else mining,
        )
    if scene == "over the boundary":
        options = replace(options, ignore_cross_boundary_bbox=True)
    inputs = tied_batch() if scene == "ties" else batch(options, seed, images=3, side=9, each=10)
    if scene == "NaN":
        inputs[1][:, ::31] = math.nan
    decided = multibox_loss_forward(*inputs, options.text)
    loss, *gradients = run(inputs, options)
    emulator.use(monkeypatch, seed=seed + 7)
    for ours, theirs in zip(multibox_loss_forward(*inputs, options.text)[1:], decided[1:], strict=True):
        assert torch.equal(ours, theirs)
    emulated, *emulated_gradients = run(inputs, options)
    torch.testing.assert_close(emulated, loss, rtol=1e-6, atol=0, equal_nan=True)
    for ours, theirs in zip(emulated_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("value", [3.0, -2.0, 0.0])
def test_emulated_gpu_answers_a_label_that_is_no_class_with_nan(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    label[0, 0, 1, 1] = value
    emulator.use(monkeypatch, seed=1)
    assert math.isnan(run((loc, conf, prior, label), options)[0])


def both(inputs: Batch, options: MultiBoxLossOptions) -> None:
    """The GPU decides as the CPU does, to the box, and its sums differ only by rounding."""
    decided = multibox_loss_forward(*inputs, options.text)
    on_gpu = multibox_loss_forward(*(t.cuda() for t in inputs), options.text)
    for ours, theirs in zip(on_gpu[1:], decided[1:], strict=True):
        assert torch.equal(ours.cpu(), theirs)
    for ours, theirs in zip(run(inputs, options, "cuda"), run(inputs, options), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.gpu
@settings(max_examples=100, deadline=None, derandomize=True)
@given(options_strategy(), st.integers(0, 1000), st.integers(1, 4), st.integers(2, 12), st.integers(0, 40))
def test_gpu_random_options(options: MultiBoxLossOptions, seed: int, images: int, side: int, each: int) -> None:
    both(batch(options, seed, images, side, each), options)


@pytest.mark.gpu
@pytest.mark.parametrize("mining", [LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE])
def test_gpu_many_ties(mining: int) -> None:
    both(tied_batch(), MultiBoxLossOptions(3, mining_type=mining))


@pytest.mark.gpu
def test_gpu_hundreds_of_equal_objects() -> None:
    options = MultiBoxLossOptions(2, code_type=CODE.CENTER_SIZE)
    loc, conf, prior, label = batch(options, images=1, side=30, each=1)
    both((loc, conf, prior, label.expand(1, 1, 300, 8).contiguous()), options)


@pytest.mark.gpu
@pytest.mark.parametrize(("images", "side"), [(2, 212), (64, 40)], ids=["90,000 boxes", "64 images"])
def test_gpu_sizes(images: int, side: int) -> None:
    options = MultiBoxLossOptions(21, code_type=CODE.CENTER_SIZE)
    both(batch(options, images=images, side=side, each=6), options)


@pytest.mark.gpu
def test_gpu_repeats_itself() -> None:
    options = MultiBoxLossOptions(21)
    inputs = batch(options, images=8, side=40, each=10)
    first = run(inputs, options, "cuda")
    for _ in range(5):
        for ours, before in zip(run(inputs, options, "cuda"), first, strict=True):
            assert torch.equal(ours, before)


@pytest.mark.gpu
def test_gpu_graph_capture() -> None:
    """A captured step, replayed on other numbers with padding for fewer objects, equals a fresh one."""
    options = MultiBoxLossOptions(5, code_type=CODE.CENTER_SIZE)
    static = loc, conf, prior, label = [t.cuda() for t in batch(options, seed=1, each=4)]
    loc.requires_grad_()
    conf.requires_grad_()

    def step() -> list[Tensor]:
        loss = multibox_loss(loc, conf, prior, label, options)
        return [loss, *torch.autograd.grad(loss, (loc, conf))]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    for seed in (2, 3):
        loc, conf, prior, label = batch(options, seed=seed, each=seed - 1)
        padded = torch.full_like(static[3].cpu(), -1.0)
        padded[:, :, : label.shape[2]] = label
        with torch.no_grad():
            for to, new in zip(static, (loc, conf, prior, padded), strict=True):
                to.copy_(new)
        graph.replay()
        for ours, expected in zip(outputs, run((loc, conf, prior, padded), options), strict=True):
            torch.testing.assert_close(ours.detach().cpu(), expected, rtol=1e-6, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("value", [3.0, -2.0, 0.0])
def test_gpu_labels_that_are_no_class_make_the_loss_nan(value: float) -> None:
    options = MultiBoxLossOptions(3)
    loc, conf, prior, label = batch(options)
    label[0, 0, 1, 1] = value
    assert math.isnan(run((loc, conf, prior, label), options, "cuda")[0])
