"""Batches for MultiBoxLoss, random options, and the comparison with the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from caffe.ops.multibox_loss import multibox_loss, multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2
from tests.reference import multibox_loss as reference

LOSS, CODE, NORMALIZATION = caffe_pb2.MultiBoxLossParameter, caffe_pb2.PriorBoxParameter, caffe_pb2.LossParameter
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def grid_priors(side: int, sizes: tuple[float, ...] = (0.2, 0.35)) -> np.ndarray:
    """Square boxes of each size around the cells of a grid, P×4; those at the edge cross it."""
    centers = (np.arange(side) + 0.5) / side
    return np.array(
        [[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for y in centers for x in centers for s in sizes], np.float32
    )


def truth_rows(rng: np.random.Generator, images: int, each: int, classes: int, difficult: float = 0.2) -> np.ndarray:
    """Rows of `each` random boxes per image; image 1 of three or more has none."""
    rows = []
    for n in range(images):
        for i in range(0 if n == 1 and images > 2 else each):
            size = rng.uniform(0.1, 0.5, 2)
            corner = rng.uniform(0, 1 - size)
            rows.append([n, rng.integers(1, classes), i, *corner, *(corner + size), rng.random() < difficult])
    return np.array(rows, np.float32).reshape(-1, 8) if rows else np.full((1, 8), -1, np.float32)


def batch(
    options: MultiBoxLossOptions, seed: int = 0, images: int = 3, side: int = 5, each: int = 3, spread: float = 1.0
) -> Batch:
    rng = np.random.default_rng(seed)
    boxes = grid_priors(side)
    prior = np.stack([boxes, np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), (len(boxes), 1))])
    objects = 2 if options.map_object_to_agnostic else max(options.num_classes, 2)
    label = truth_rows(rng, images, each, objects)
    loc = rng.standard_normal((images, len(boxes) * options.loc_classes * 4)) * spread * 0.5
    conf = rng.standard_normal((images, len(boxes) * options.num_classes)) * spread * 2
    return tensors(loc, conf, prior, label)


def tensors(loc: Any, conf: Any, prior: Any, label: Any) -> Batch:
    loc, conf, prior, label = (torch.from_numpy(np.asarray(a, np.float32)) for a in (loc, conf, prior, label))
    return loc, conf, prior.reshape(1, 2, -1), label.reshape(1, 1, -1, 8)


def run(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu", top_diff: float = 1.0) -> list[Tensor]:
    """Loss, gradient of the locations, gradient of the confidences, on the CPU."""
    loc, conf, prior, label = (t.to(device) for t in inputs)
    loc, conf = loc.detach().requires_grad_(), conf.detach().requires_grad_()
    loss = multibox_loss(loc, conf, prior, label, options)
    (loss * top_diff).backward()
    assert loc.grad is not None
    assert conf.grad is not None
    return [loss.detach().cpu(), loc.grad.cpu(), conf.grad.cpu()]


def check(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu") -> reference.Answer:
    """Runs op and reference on the same inputs, and checks that loss and gradients are equal."""
    loss, loc_diff, conf_diff = run(inputs, options, device)
    loc, conf, prior, label = (t.numpy() for t in inputs)
    expected = reference.multibox_loss(loc, conf, prior, label, options)
    np.testing.assert_allclose(loss.item(), expected.loss, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(loc_diff.numpy(), expected.loc_diff, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(conf_diff.numpy(), expected.conf_diff, rtol=1e-4, atol=2e-6)
    return expected


def one_class_scene(boxes: list[list[float]], truths: list[list[float]], conf: Any = None) -> Batch:
    """One image, two classes; priors as given, locations 0."""
    prior = np.stack([np.array(boxes, np.float32), np.full((len(boxes), 4), 0.1, np.float32)])
    label = [[0, 1, 0, *t, 0] for t in truths]
    return tensors(np.zeros((1, len(boxes) * 4)), np.zeros((1, len(boxes) * 2)) if conf is None else conf, prior, label)


def matches(inputs: Batch, options: MultiBoxLossOptions, device: str = "cpu") -> list[int]:
    moved = [t.to(device) for t in inputs]
    return multibox_loss_forward(*moved, options.text)[1].cpu().flatten().tolist()


A, B, FAR = [0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9], [0.45, 0.0, 0.55, 0.05]


def options_strategy() -> st.SearchStrategy[MultiBoxLossOptions]:
    @st.composite
    def build(draw: st.DrawFn) -> MultiBoxLossOptions:
        share = draw(st.booleans())
        agnostic = draw(st.sampled_from([False, False, True]))
        return MultiBoxLossOptions(
            num_classes=2 if agnostic else draw(st.sampled_from([2, 3, 21, 70])),
            share_location=share,
            loc_loss_type=draw(st.sampled_from([LOSS.L2, LOSS.SMOOTH_L1])),
            conf_loss_type=draw(st.sampled_from([LOSS.SOFTMAX, LOSS.LOGISTIC])),
            loc_weight=draw(st.sampled_from([1.0, 0.5, 2.0])),
            match_type=draw(st.sampled_from([LOSS.BIPARTITE, LOSS.PER_PREDICTION])),
            overlap_threshold=draw(st.sampled_from([0.5, 0.35])),
            use_prior_for_matching=draw(st.booleans()),
            use_difficult_gt=draw(st.booleans()),
            neg_pos_ratio=draw(st.sampled_from([3.0, 0.3, 1.5, 100.0])),
            neg_overlap=draw(st.sampled_from([0.5, 0.3, 0.0])),
            code_type=draw(st.sampled_from([CODE.CORNER, CODE.CENTER_SIZE, CODE.CORNER_SIZE])),
            encode_variance_in_target=draw(st.booleans()),
            map_object_to_agnostic=agnostic,
            ignore_cross_boundary_bbox=draw(st.booleans()),
            bp_inside=draw(st.booleans()),
            mining_type=draw(st.sampled_from([LOSS.NONE, LOSS.MAX_NEGATIVE, LOSS.HARD_EXAMPLE]))
            if share
            else LOSS.NONE,
            nms_threshold=draw(st.sampled_from([0.0, 0.0, 0.4, 0.7])),
            nms_top_k=draw(st.sampled_from([-1, 0, 5, 200])),
            use_prior_for_nms=draw(st.booleans()),
            sample_size=draw(st.sampled_from([1, 16, 64])),
            normalization=draw(
                st.sampled_from([m for m in NORMALIZATION.NormalizationMode.values() if m != NORMALIZATION.PRE_FIXED])
            ),
        )

    return build()
