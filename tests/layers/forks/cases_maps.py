"""Layers of maps: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.layer import TEST
from tests.layer_harness import Bottom, Case, Shape
from tests.reference import forks, values, windows

B = Bottom
MAP = B((2, 4, 7, 9))
MASK = Bottom(
    (2, 3, 3, 4),
    lambda rng, s: (
        rng.permuted(np.arange(np.prod(s) * 4) % (s[2] * s[3] * 4)).reshape(-1)[: np.prod(s)].reshape(s).astype(float)
    ),
    smooth=False,
)
EARLY = Bottom((2, 3, 3, 4), lambda rng, s: rng.integers(0, 2 * s[2] * s[3], s).astype(float), smooth=False)


def depthwise_reference(param: Any, bottoms: list[Any], blobs: list[Any], phase: int) -> list[Any]:
    """A convolution with a group for each channel, whatever num_output says."""
    grouped = type(param)()
    grouped.CopyFrom(param)
    grouped.convolution_param.num_output = grouped.convolution_param.group = bottoms[0].shape[1]
    return windows.convolution(grouped, bottoms, blobs, phase)


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
    Case("SeLu", "", [MAP], forks.selu),
    Case("SeLu", "selu_param { lambda: 0.5 alpha: 3 }", [MAP], forks.selu),
    Case("SeLuDropout", "", [MAP], values.identity, phase=TEST),
    Case("Switch", "", [MAP, Bottom((1, 2, 3, 4), smooth=False), B((2, 4, 9, 7))], forks.last, resized=[(1, 2)] * 3),
    Case("Switch", "", [MAP], forks.last),
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
        "Interp",
        "interp_param { use_blob_size: true zoom_factor: 2 pad_beg: -1 }",
        [MAP, Bottom((1, 2, 5, 11), smooth=False)],
        forks.interp,
        resized=[(1, 2, 5, 5), (2, 1, 3, 4)],
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
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("Interp", "interp_param { zoom_factor: 2 }", [(0, 2, 4, 4)], (0, 2, 7, 7)),
    ("Upsample", "", [(0, 2, 4, 4), (0, 2, 4, 4)], (0, 2, 8, 8)),
    ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [(0, 4, 2, 2)], (0, 4, 2, 2)),
    ("Reorg", "reorg_param { stride: 2 }", [(0, 4, 2, 2)], (0, 16, 1, 1)),
    ("SeLuDropout", "", [(0, 4)], (0, 4)),
    ("Switch", "", [(0, 4), (0, 4)], (0, 4)),
    ("Axpy", "", [(0, 4, 1, 1), (0, 4, 2, 2), (0, 4, 2, 2)], (0, 4, 2, 2)),
]

BAD: list[tuple[str, str, list[Shape], str]] = [
    (
        "Pooling",
        "pooling_param { kernel_size: 2 ceil_mode: false round_mode: CEIL }",
        [(1, 2, 4, 4)],
        "contradict each other",
    ),
    ("SeLuDropout", "selu_dropout_param { dropout_ratio: 1 }", [(1, 2)], "at least 0 and below 1, not 1"),
    ("Switch", "", [(1, 2, 3), (1, 6)], "needs bottoms with as many axes, .* not 1×2×3, 1×6"),
    ("Switch", "", [(1, 2, 3), (1, 2, 4)], "the first and last with as many values, not 1×2×3, 1×2×4"),
    ("Clip", "clip_param { min: 0 }", [(1, 2)], "must give max"),
    ("Axpy", "", [(1, 3, 1, 1), (1, 2, 4, 4), (1, 2, 4, 4)], "they are 1×3×1×1"),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }", [(1, 4, 2, 2)], "group 3 must divide the 4 channels"),
    ("ShuffleChannel", "shuffle_channel_param { group: 0 }", [(1, 4, 2, 2)], "at least 1, not 0"),
    ("Reorg", "", [(1, 4, 2, 2)], "must give stride"),
    ("Reorg", "reorg_param { stride: 2 }", [(1, 4, 3, 2)], "stride 2 must divide height and width; .* 1×4×3×2"),
    ("Reorg", "reorg_param { stride: 2 }", [(1, 3, 2, 2)], "a multiple of 4 channels"),
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
]
