"""Layer types of other forks, and their options of Caffe's own types: values, gradients, corner cases, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST, TRAIN, _registry, check_types
from caffe.errors import NetError
from tests.layer_harness import Bottom, Case, Shape, constant, gradients, labels, make_layer, run, spread_out
from tests.layers.test_every_type import assert_as_reference, assert_gradient
from tests.reference import forks, losses, windows

B = Bottom
MAP = B((2, 4, 7, 9))
REGIONS = Bottom(
    (6, 5),
    lambda rng, s: np.concatenate([rng.integers(0, 2, (s[0], 1)), rng.uniform(-8, 24, (s[0], 4))], 1)[:, : s[1]],
    smooth=False,
)
REGIONS_OF_4_AXES = Bottom((6, 5, 1, 1), lambda rng, s: REGIONS.values(rng, s[:2]).reshape(s), smooth=False)
LOSSES = Bottom((8, 1), lambda rng, s: rng.uniform(0, 3, s), smooth=False)
SIDES = Bottom(
    (8, 5), lambda rng, s: np.concatenate([rng.integers(0, 3, (s[0], 1)), rng.normal(size=(s[0], 4))], 1), smooth=False
)
LABELS = Bottom((8, 1), lambda rng, s: rng.integers(0, 4, s).astype(float), smooth=False)
WEIGHTS = Bottom((8, 6), lambda rng, s: rng.integers(0, 2, s).astype(float), smooth=False)
MASK = Bottom(
    (2, 3, 3, 4),
    lambda rng, s: (
        rng.permuted(np.arange(np.prod(s) * 4) % (s[2] * s[3] * 4)).reshape(-1)[: np.prod(s)].reshape(s).astype(float)
    ),
    smooth=False,
)
EARLY = Bottom((2, 3, 3, 4), lambda rng, s: rng.integers(0, 2 * s[2] * s[3], s).astype(float), smooth=False)
FACTORS = Bottom((3, 4), lambda rng, s: rng.uniform(0, 2, s), smooth=False)
PROPOSAL = (
    "proposal_param { feat_stride: 8 base_size: 8 min_size: 4 ratio: 0.5 ratio: 2 scale: 1 scale: 2 scale: 4 %s }"
)
SCORES = Bottom((2, 12, 4, 5), lambda rng, s: rng.uniform(size=s), smooth=False)
MOVES = Bottom((2, 24, 4, 5), lambda rng, s: 0.3 * rng.normal(size=s), smooth=False)
INFO = Bottom((2, 3), lambda rng, s: np.tile([30.0, 41.0, 1.5, 0.7][: s[1]], (s[0], 1)), smooth=False)


def depthwise_reference(param: Any, bottoms: list[Any], blobs: list[Any], phase: int) -> list[Any]:
    """A convolution with a group for each channel, whatever num_output says."""
    grouped = type(param)()
    grouped.CopyFrom(param)
    grouped.convolution_param.num_output = grouped.convolution_param.group = bottoms[0].shape[1]
    return windows.convolution(grouped, bottoms, blobs, phase)


def ohem(text: str, *bottoms: Bottom, kind: str, reference: Any, **more: Any) -> Case:
    return Case(kind, f"loss_param {{ {text} }}", bottoms, reference, **more)


def proposal(options: str, info: Bottom = INFO, **more: Any) -> Case:
    resized = [(1, 12, 3, 3), (1, 24, 3, 3), (1, info.shape[1])]
    return Case("Proposal", PROPOSAL % options, [SCORES, MOVES, info], forks.proposal, resized=resized, **more)


CASES = [
    Case(
        "DepthwiseConvolution",
        "convolution_param { num_output: 4 group: 4 kernel_size: 3 pad: 1 stride: 2 }",
        [MAP],
        windows.convolution,
        resized=[(1, 4, 8, 8)],
    ),
    Case("DepthwiseConvolution", "convolution_param { num_output: 6 kernel_size: 1 }", [MAP], windows.convolution),
    Case(
        "ConvolutionDepthwise",
        "convolution_param { num_output: 4 kernel_size: 3 dilation: 2 }",
        [MAP],
        depthwise_reference,
    ),
    Case(
        "ConvolutionDepthwise",
        "convolution_param { num_output: 9 kernel_h: 2 kernel_w: 3 bias_term: false }",
        [MAP],
        depthwise_reference,
    ),
    Case("ReLU6", "", [B((4, 5), lambda rng, s: rng.uniform(-4, 12, s))], forks.relu6),
    Case(
        "ReLU6", "relu6_param { negative_slope: 0.25 }", [B((4, 5), lambda rng, s: rng.uniform(-4, 12, s))], forks.relu6
    ),
    Case("Clip", "clip_param { min: -0.5 max: 0.75 }", [MAP], forks.clip),
    Case("Swish", "", [MAP], forks.swish),
    Case("Swish", "swish_param { beta: -1.5 }", [MAP], forks.swish),
    Case("Axpy", "", [B((2, 4, 1, 1)), MAP, MAP], forks.axpy, resized=[(1, 3, 1, 1), (1, 3, 2, 2), (1, 3, 2, 2)]),
    Case("Axpy", "", [B((2, 4)), MAP, MAP], forks.axpy),
    Case(
        "ShuffleChannel",
        "shuffle_channel_param { group: 3 }",
        [B((2, 12, 2, 3))],
        forks.shuffle_channel,
        resized=[(1, 6, 4, 1)],
    ),
    Case("ShuffleChannel", "", [MAP], forks.shuffle_channel),
    Case("Reorg", "reorg_param { stride: 2 }", [B((2, 8, 4, 6))], forks.reorg, resized=[(1, 4, 2, 2)]),
    Case("Reorg", "reorg_param { stride: 3 }", [B((1, 9, 6, 3))], forks.reorg),
    Case("Reorg", "reorg_param { stride: 2 reverse: true }", [B((2, 8, 3, 5))], forks.reorg),
    Case(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }",
        [MAP, REGIONS],
        forks.roi_pooling,
        resized=[(2, 3, 5, 4), (9, 5)],
    ),
    Case(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 7 pooled_w: 7 }",
        [MAP, REGIONS_OF_4_AXES],
        forks.roi_pooling,
    ),
    Case(
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 0.25 output_dim: 3 group_size: 2 }",
        [B((2, 12, 6, 7)), REGIONS],
        forks.psroi_pooling,
        resized=[(2, 12, 5, 4), (9, 5)],
    ),
    Case(
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 3 }",
        [B((2, 9, 8, 8)), REGIONS],
        forks.psroi_pooling,
    ),
    *(
        ohem(text, B((8, 4)), LABELS, kind="SoftmaxWithLossOHEM", reference=forks.softmax_loss_ohem, tops=tops)
        for text, tops in (("", 1), ("ignore_label: 2", 3), ("normalization: PRE_FIXED pre_fixed_normalizer: 3", 3))
    ),
    ohem(
        "ignore_label: 1",
        B((2, 3, 2, 2)),
        labels(2, 1, 2, 2, classes=3),
        kind="SoftmaxWithLossOHEM",
        reference=forks.softmax_loss_ohem,
        tops=3,
    ),
    *(
        ohem(text, B((8, 6)), B((8, 6)), WEIGHTS, kind="SmoothL1LossOHEM", reference=forks.smooth_l1_loss_ohem, tops=2)
        for text in ("", "normalization: PRE_FIXED pre_fixed_normalizer: 5", "normalization: NONE", "normalize: false")
    ),
    ohem("", B((2, 4, 2, 3)), B((2, 4, 2, 3)), kind="SmoothL1LossOHEM", reference=forks.smooth_l1_loss_ohem, tops=2),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 2 }",
        [SIDES, LOSSES, LABELS, WEIGHTS],
        forks.box_annotator_ohem,
        2,
    ),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 1 ignore_label: 255 }",
        [SIDES, constant(1, 8, 1), LABELS, WEIGHTS],
        forks.box_annotator_ohem,
        2,
    ),
    Case(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 3 }",
        [labels(2, 5, 2, 3, classes=2), B((2, 1, 2, 3)), labels(2, 1, 2, 3, classes=3), labels(2, 4, 2, 3, classes=2)],
        forks.box_annotator_ohem,
        2,
    ),
    *(
        Case("Interp", f"interp_param {{ {text} }}", [MAP], forks.interp, resized=[(1, 2, 5, 5)])
        for text in (
            "height: 13 width: 17",
            "height: 1 width: 4",
            "zoom_factor: 3",
            "shrink_factor: 2",
            "shrink_factor: 2 zoom_factor: 2 pad_beg: -1 pad_end: -1",
            "height: 4 width: 3 shrink_factor: 2 zoom_factor: 5",
            "height: 50 width: 60 zoom_factor: 2",
        )
    ),
    Case("Upsample", "", [MAP], forks.upsample),
    Case("Upsample", "upsample_param { scale: 3 }", [MAP], forks.upsample, resized=[(1, 2, 3, 1)]),
    Case("Upsample", "", [B((2, 3, 3, 4)), MASK], forks.upsample, resized=[(1, 2, 4, 4)] * 2),
    Case("Upsample", "upsample_param { upsample_h: 8 upsample_w: 9 }", [B((2, 3, 3, 4)), MASK], forks.upsample),
    Case("Upsample", "upsample_param { pad_out_h: true }", [B((2, 3, 3, 4)), EARLY], forks.upsample),
    Case("Upsample", "upsample_param { scale_h: 2 scale_w: 3 }", [B((2, 3, 3, 4)), MASK], forks.upsample),
    Case("BN", "bn_param { eps: 0.1 }", [MAP], forks.bn, resized=[(1, 4, 3, 2)]),
    Case("BN", "", [B((5, 4))], forks.bn),
    Case("BN", "", [MAP], forks.bn, phase=TEST),
    Case("BN", "bn_param { frozen: true }", [MAP], forks.bn),
    Case("BN", "bn_param { bn_mode: LEARN }", [MAP], forks.bn, 3, phase=TEST),
    Case("BN", "bn_param { bn_mode: INFERENCE }", [MAP], forks.bn),
    proposal(""),
    proposal("pre_nms_topn: 40 post_nms_topn: 7 nms_thresh: 0.3", tops=2),
    proposal("nms_thresh: 0.5", B((2, 4), INFO.draw, smooth=False), tops=2),
    # Options of Caffe's own types.
    *(
        Case("Pooling", f"pooling_param {{ {text} }}", [MAP], windows.pooling, tops, resized=[(1, 2, 8, 6)])
        for text, tops in (
            ("kernel_size: 2 stride: 2 ceil_mode: false", 1),
            ("kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", 2),
            ("kernel_size: 3 stride: 4 pad: 2 round_mode: FLOOR", 1),
            ("pool: AVE kernel_size: 4 stride: 3 pad: 1 ceil_mode: false", 1),
            ("pool: AVE kernel_size: 3 stride: 2 pad: 2 round_mode: FLOOR", 1),
            ("kernel_size: 2 stride: 2 round_mode: CEIL ceil_mode: true", 1),
        )
    ),
    Case(
        "Dropout",
        "dropout_param { scale_train: false dropout_ratio: 0.3 }",
        [MAP],
        lambda p, b, w, phase: [b[0] * 0.7],
        phase=TEST,
    ),
    Case("SmoothL1Loss", "smooth_l1_loss_param { sigma: 3 }", [B((3, 4)), B((3, 4))], losses.smooth_l1),
    Case(
        "SmoothL1Loss",
        "smooth_l1_loss_param { sigma: 0.5 }",
        [B((3, 4)), B((3, 4)), FACTORS, FACTORS],
        losses.smooth_l1,
    ),
    Case(
        "SoftmaxWithLoss",
        "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 4 }",
        [B((8, 4)), LABELS],
        losses.softmax_loss,
        2,
    ),
]

#: no gradient at all
WITHOUT_GRADIENT = {"BoxAnnotatorOHEM", "Proposal"}


@pytest.mark.parametrize("resized", [False, True], ids=["", "resized"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_equals_the_reference(case: Case, resized: bool) -> None:
    assert_as_reference(case, resized)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_on_a_gpu_equals_the_reference(case: Case) -> None:
    assert_as_reference(case, resized=False, device="cuda")


@pytest.mark.parametrize("case", [c for c in CASES if c.type not in WITHOUT_GRADIENT], ids=str)
def test_gradient_equals_small_steps(case: Case) -> None:
    assert_gradient(case)


def test_every_type_of_a_fork_has_a_case() -> None:
    wing = "caffe.engine.layer_types.forks."
    types = {name for name, kind in _registry.items() if kind.__module__.startswith(wing)}
    assert types == {c.type for c in CASES} - {"Pooling", "Dropout", "SmoothL1Loss", "SoftmaxWithLoss"}


def test_roi_pooling_of_equal_values_gives_the_gradient_to_the_first() -> None:
    rng = np.random.default_rng(3)
    layer = make_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }", [(2, 3, 6, 7), (8, 5)]
    )
    x = rng.integers(0, 2, (2, 3, 6, 7)).astype(float)
    regions = REGIONS.values(rng, (8, 5))
    diff = rng.normal(size=(8, 3, 2, 3))
    found = gradients(layer, [x, regions], diff)[0].numpy()
    np.testing.assert_allclose(found, forks.roi_pooling_gradient(layer.param, [x, regions], diff), rtol=1e-12)


def test_regions_of_r_cnn_at_full_size_pass_in_parts() -> None:
    rng = np.random.default_rng(0)
    shape = (1, 64, 38, 50)
    layer = make_layer(
        "ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 spatial_scale: 0.0625 }", [shape, (200, 5)]
    )
    x = torch.from_numpy(rng.normal(size=shape))
    corners = np.sort(rng.uniform(0, 800, (200, 2, 2)), axis=1).reshape(200, 4)
    regions = np.concatenate([np.zeros((200, 1)), corners], 1)
    top = run(layer, x, torch.from_numpy(regions))[0]
    (expected,) = forks.roi_pooling(layer.param, [x.numpy(), regions], [], TEST)
    np.testing.assert_array_equal(top.numpy(), expected)


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "top"),
    [
        ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 3 }", [(1, 2, 4, 4), (0, 5)], (0, 2, 2, 3)),
        (
            "PSROIPooling",
            "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
            [(1, 8, 4, 4), (0, 5)],
            (0, 2, 2, 2),
        ),
        (
            "BoxAnnotatorOHEM",
            "box_annotator_ohem_param { roi_per_img: 2 }",
            [(0, 5), (0, 1), (0, 1), (0, 8)],
            (0, 1, 1, 1),
        ),
        ("Interp", "interp_param { zoom_factor: 2 }", [(0, 2, 4, 4)], (0, 2, 7, 7)),
        ("Upsample", "", [(0, 2, 4, 4), (0, 2, 4, 4)], (0, 2, 8, 8)),
        ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [(0, 4, 2, 2)], (0, 4, 2, 2)),
        ("Reorg", "reorg_param { stride: 2 }", [(0, 4, 2, 2)], (0, 16, 1, 1)),
        ("Axpy", "", [(0, 4, 1, 1), (0, 4, 2, 2), (0, 4, 2, 2)], (0, 4, 2, 2)),
        ("Proposal", PROPOSAL % "", [(0, 12, 2, 2), (0, 24, 2, 2), (0, 3)], (0, 5)),
    ],
)
def test_an_empty_batch(kind: str, text: str, shapes: list[Shape], top: Shape) -> None:
    tops = 2 if kind == "BoxAnnotatorOHEM" else 1
    layer = make_layer(kind, text, shapes, tops)
    assert tuple(run(layer, *(torch.zeros(s) for s in shapes))[0].shape) == top


def test_running_statistics_of_bn() -> None:
    layer = spread_out(make_layer("BN", "bn_param { momentum: 0.75 }", [(4, 3, 2, 2)]))
    assert [b.requires_grad for b in layer.blobs] == [True, True, False, False]
    assert [(p.lr_mult, p.decay_mult) for p in layer.param.param] == [(1, 1), (1, 1), (0, 0), (0, 0)]
    layer.blobs[2].data.fill_(2)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 2, 2)))
    run(layer, x)
    planes = x.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(layer.blobs[2].flatten(), 0.75 * 2 + 0.25 * planes.mean(1), rtol=1e-12)
    np.testing.assert_allclose(layer.blobs[3].flatten(), 0.25 * planes.var(1), rtol=1e-12)
    frozen = make_layer("BN", "bn_param { frozen: true slope_filler { value: 1 } }", [(4, 3, 2, 2)])
    assert not any(b.requires_grad for b in frozen.blobs)
    torch.testing.assert_close(run(frozen, x.float())[0], (x / np.sqrt(1 + 1e-5)).float())


def test_dropout_that_scales_in_testing_keeps_values_in_training() -> None:
    layer = make_layer("Dropout", "dropout_param { scale_train: false dropout_ratio: 0.25 }", [(4000,)], phase=TRAIN)
    torch.manual_seed(0)
    top = run(layer, torch.ones(4000))[0]
    assert set(top.tolist()) == {0.0, 1.0}
    assert 0.7 < float(top.mean()) < 0.8


def test_a_depthwise_convolution_is_one_for_the_faster_convolutions() -> None:
    text = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 %s }"
    for kind, group in (("DepthwiseConvolution", "group: 4"), ("ConvolutionDepthwise", "")):
        window = make_layer(kind, text % group, [(1, 4, 8, 8)]).as_convolution()
        assert window is not None
        assert (window.stride, window.pad, window.group) == ((2, 2), (1, 1), 4)


def test_a_mask_of_pooling_puts_values_back() -> None:
    pool = make_layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", [(1, 2, 5, 6)], 2)
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    pooled, mask = run(pool, x)
    layer = make_layer("Upsample", "upsample_param { upsample_h: 5 upsample_w: 6 }", [pooled.shape, mask.shape])
    top = run(layer, pooled, mask)[0]
    assert int((top != 0).sum()) == pooled.numel()
    torch.testing.assert_close(top[top != 0], x[top != 0])


BAD = [
    (
        "Pooling",
        "pooling_param { kernel_size: 2 ceil_mode: false round_mode: CEIL }",
        [(1, 2, 4, 4)],
        "contradict each other",
    ),
    ("SmoothL1Loss", "smooth_l1_loss_param { sigma: 0 }", [(1, 4)] * 2, "sigma must be positive, not 0"),
    ("Clip", "clip_param { min: 0 }", [(1, 2)], "must give max"),
    ("Axpy", "", [(1, 3, 1, 1), (1, 2, 4, 4), (1, 2, 4, 4)], "they are 1×3×1×1"),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }", [(1, 4, 2, 2)], "group 3 must divide the 4 channels"),
    ("ShuffleChannel", "shuffle_channel_param { group: 0 }", [(1, 4, 2, 2)], "at least 1, not 0"),
    ("Reorg", "", [(1, 4, 2, 2)], "must give stride"),
    ("Reorg", "reorg_param { stride: 2 }", [(1, 4, 3, 2)], "stride 2 must divide height and width; .* 1×4×3×2"),
    ("Reorg", "reorg_param { stride: 2 }", [(1, 3, 2, 2)], "a multiple of 4 channels"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 }", [(1, 2, 4, 4), (1, 5)], "positive, not 2 and 0"),
    (
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
        [(1, 2, 4, 4), (1, 4)],
        "regions of 5 values .* 'b1' is 1×4",
    ),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 2, 4), (1, 5)], "4 axes"),
    (
        "PSROIPooling",
        "psroi_pooling_param { output_dim: 2 group_size: 2 }",
        [(1, 8, 4, 4), (1, 5)],
        "must give spatial_scale",
    ),
    (
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
        [(1, 9, 4, 4), (1, 5)],
        "need 8 channels; 'b0' has 9",
    ),
    ("BoxAnnotatorOHEM", "", [(2, 5), (2, 1), (2, 1), (2, 8)], "must give roi_per_img"),
    (
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 1 }",
        [(2, 5), (3, 1), (2, 1), (2, 8)],
        "'b1' is 3×1; with 2 regions it must be 2×1×1×1",
    ),
    ("Interp", "", [(1, 2, 4, 4)], "must give height and width, zoom_factor or"),
    ("Interp", "interp_param { height: 5 }", [(1, 2, 4, 4)], "must give height and width"),
    ("Interp", "interp_param { zoom_factor: 0 }", [(1, 2, 4, 4)], "zoom_factor must be at least 1, not 0"),
    ("Interp", "interp_param { zoom_factor: 2 pad_beg: 1 }", [(1, 2, 4, 4)], "at most 0, not 1"),
    ("Interp", "interp_param { zoom_factor: 2 pad_beg: -2 pad_end: -2 }", [(1, 2, 4, 4)], "leave nothing of 4×4"),
    ("Interp", "interp_param { height: 0 width: 3 }", [(1, 2, 4, 4)], "positive, not 0×3"),
    ("Upsample", "upsample_param { scale_h: 2 }", [(1, 2, 4, 4)] * 2, "give either"),
    ("Upsample", "upsample_param { scale: 1 }", [(1, 2, 4, 4)] * 2, "larger than 1"),
    (
        "Upsample",
        "upsample_param { scale: 3 pad_out_w: true }",
        [(1, 2, 4, 4)] * 2,
        "pad_out_w needs a scale of 2, not 3",
    ),
    (
        "Upsample",
        "upsample_param { upsample_h: 8 upsample_w: 8 }",
        [(1, 2, 4, 4)],
        "without a mask .* not upsample_h, upsample_w",
    ),
    ("Upsample", "", [(1, 2, 4, 4), (1, 2, 4, 5)], "a mask of their shape; they are 1×2×4×4 and 1×2×4×5"),
    ("BN", "", [(4,)], "at least 2 axes"),
    ("BN", "bn_param { bn_mode: LEARN eps: 0.1 }", [(1, 2, 3)], "mixes SegNet's options .* with PSPNet's .eps."),
    ("Proposal", "", [(1, 12, 2, 2), (1, 24, 2, 2), (1, 3)], "must give ratio"),
    ("Proposal", PROPOSAL % "", [(1, 18, 2, 2), (1, 24, 2, 2), (1, 3)], "need scores N×12×H×W; 'b0' is 1×18×2×2"),
    ("Proposal", PROPOSAL % "", [(1, 12, 2, 2), (1, 24, 2, 3), (1, 3)], "it must be 1×24×2×2"),
    ("Proposal", PROPOSAL % "", [(1, 12, 2, 2), (1, 24, 2, 2), (1, 2)], "height, width and scale"),
]


@pytest.mark.parametrize(("kind", "text", "shapes", "message"), BAD)
def test_bad_settings(kind: str, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=f"layer 'l' .{kind}.: .*{message}"):
        make_layer(kind, text, shapes, 2 if kind == "BoxAnnotatorOHEM" else 1)


def test_values_that_point_outside() -> None:
    layer = make_layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", [(1, 2, 4, 4), (1, 5)])
    with pytest.raises(NetError, match="a region of 'b1' is in image 1; the batch has images 0 to 0"):
        run(layer, torch.zeros(1, 2, 4, 4), torch.tensor([[1.0, 0, 0, 3, 3]]))
    layer = make_layer("Upsample", "", [(1, 1, 2, 2)] * 2)
    with pytest.raises(NetError, match="the mask 'b1' has index 16, but a top of 4×4 has 16 places"):
        run(layer, torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 16.0))


def test_unknown_types_are_named_at_once_with_the_fork() -> None:
    with pytest.raises(NetError) as caught:
        check_types([("a", "ReLU"), ("b", "DWConvolution"), ("c", "Yolov3"), ("d", "Convolutoin"), ("e", "Yolov3")])
    lines = str(caught.value).splitlines()
    assert lines[0] == "layer 'b': unknown layer type 'DWConvolution'. Did you mean 'Convolution'?"
    assert lines[1].startswith("layer 'c' (and 1 more): unknown layer type 'Yolov3'. It comes from MobileNet-YOLO")
    assert lines[2] == "layer 'd': unknown layer type 'Convolutoin'. Did you mean 'Convolution'?"
    assert lines[3].startswith("docs/add_a_layer.md tells how to add a type. Known types: AbsVal,")
    for name in ("DepthwiseDeconvolution2", "ConvolutionDW", "DWConv", "DepthwiseConv"):
        with pytest.raises(NetError) as caught:
            check_types([("a", name)])
        assert "mean 'Deconvolution'" not in str(caught.value)
