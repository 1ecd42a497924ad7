"""Configurations of every layer type of the SSD branch, with their references."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.layer import TEST
from tests.layer_harness import Bottom, Case, constant, labels, positive, probabilities
from tests.reference import arrangement, losses, recurrence, values, windows

B = Bottom
IMAGE = B((2, 4, 7, 6))
WEIGHTS = Bottom((3, 2, 2), lambda rng, s: rng.integers(0, 2, size=s).astype(float), smooth=False)
SMALL = B((2, 3, 4, 5))
MARKERS = Bottom((3, 2), lambda rng, s: (rng.uniform(size=s) > 0.3).astype(float), smooth=False)
#: an image with another size and another batch
LARGER = [(3, 4, 10, 9)]


def conv(text: str, *bottoms: Bottom, kind: str = "Convolution", **more: Any) -> Case:
    reference = {"Convolution": windows.convolution, "Deconvolution": windows.deconvolution, "Im2col": windows.im2col}
    return Case(kind, f"convolution_param {{ {text} }}", bottoms or [IMAGE], reference[kind], **more)


def pool(text: str, bottom: Bottom = IMAGE, **more: Any) -> Case:
    more.setdefault("resized", LARGER)
    return Case("Pooling", f"pooling_param {{ {text} }}", [bottom], windows.pooling, **more)


def one(kind: str, text: str = "", bottom: Bottom = SMALL, **more: Any) -> Case:
    reference = getattr(values, kind.lower())
    return Case(kind, f"{kind.lower()}_param {{ {text} }}" if text else "", [bottom], reference, **more)


def softmax_loss(text: str, *, axis: str = "", tops: int = 1, label: Bottom | None = None) -> Case:
    return Case(
        "SoftmaxWithLoss",
        f"loss_param {{ {text} }} {axis}",
        [SMALL, label or labels(2, 1, 4, 5, classes=3)],
        losses.softmax_loss,
        tops,
    )


CASES = [
    conv("num_output: 6 kernel_size: 3", resized=LARGER),
    conv("num_output: 6 kernel_size: 3 pad: 1 stride: 2", resized=LARGER),
    conv("num_output: 6 kernel_size: 3 pad: 6 dilation: 6", resized=LARGER),
    conv("num_output: 4 kernel_h: 3 kernel_w: 1 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1 group: 2 bias_term: false"),
    conv(
        "num_output: 8 kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 pad: 1 pad: 0 dilation: 2 dilation: 1 group: 4"
    ),
    conv("num_output: 3 kernel_size: 1", IMAGE, IMAGE, tops=2),
    conv("num_output: 3 kernel_size: 3 axis: 2", B((2, 2, 3, 5, 4))),
    conv("num_output: 3 kernel_size: 3 stride: 2 axis: -2", B((2, 4, 9)), resized=[(1, 4, 6)]),
    conv("num_output: 2 kernel_size: 2 pad: 1", B((1, 2, 3, 4, 2))),
    conv("num_output: 3 kernel_size: 1", B((2, 4))),
    conv("num_output: 6 kernel_size: 3 pad: 3 stride: 2", kind="Deconvolution", resized=LARGER),
    conv("num_output: 6 kernel_size: 2 stride: 2", kind="Deconvolution"),
    conv("num_output: 4 kernel_size: 4 pad: 1 stride: 2 group: 4 bias_term: false", kind="Deconvolution"),
    conv("num_output: 2 kernel_size: 3 dilation: 2 pad: 2 group: 2", kind="Deconvolution"),
    conv("num_output: 2 kernel_size: 3 stride: 2", B((2, 4, 5)), kind="Deconvolution"),
    conv("kernel_size: 3 pad: 1 stride: 2", kind="Im2col", resized=LARGER),
    conv("kernel_h: 2 kernel_w: 3 dilation: 2 pad: 1", kind="Im2col"),
    conv("kernel_size: 3 pad: 1", B((2, 3, 6)), kind="Im2col"),
    pool("kernel_size: 2 stride: 2"),
    pool("kernel_size: 3 stride: 2 pad: 1"),
    pool("kernel_size: 3 stride: 2", tops=2),
    pool("kernel_size: 3 stride: 2 pad: 2", tops=2),
    pool("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 0 pad_w: 1"),
    pool("kernel_size: 1 stride: 2", B((2, 4, 6, 6)), tops=2),
    pool("kernel_size: 8 stride: 4", resized=[(2, 4, 8, 7)]),
    pool("global_pooling: true"),
    pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    pool("pool: AVE kernel_size: 3 stride: 2 pad: 2"),
    pool("pool: AVE kernel_size: 2 stride: 2"),
    pool("pool: AVE kernel_size: 1 stride: 3", B((2, 4, 6, 6))),
    pool("pool: AVE kernel_h: 4 kernel_w: 2 stride_h: 3 stride_w: 1 pad_h: 1 pad_w: 1"),
    pool("pool: AVE global_pooling: true"),
    pool("pool: STOCHASTIC kernel_size: 3 stride: 2", positive(2, 4, 7, 6), phase=TEST),
    Case("SPP", "spp_param { pyramid_height: 3 }", [IMAGE], windows.spp, resized=LARGER),
    Case("SPP", "spp_param { pyramid_height: 2 pool: AVE }", [IMAGE], windows.spp, resized=LARGER),
    Case("SPP", "spp_param { pyramid_height: 1 }", [IMAGE], windows.spp, resized=LARGER),
    one("ReLU"),
    one("ReLU", "negative_slope: 0.1"),
    one("PReLU"),
    one("PReLU", "channel_shared: true"),
    one("PReLU", bottom=B((4, 3))),
    one("ELU"),
    one("ELU", "alpha: 0.7"),
    one("Sigmoid"),
    one("TanH"),
    one("BNLL"),
    one("AbsVal"),
    one("Power"),
    one("Power", "power: 2 scale: 0.5 shift: 1.5"),
    one("Power", "power: 3 scale: -2"),
    one("Power", "power: 0.5 scale: -1 shift: 3", positive(2, 3)),
    one("Power", "power: -1.5 scale: 2", positive(2, 3)),
    one("Power", "power: 0 scale: 2 shift: 1"),
    one("Power", "power: 2 scale: 0 shift: 3"),
    one("Power", "scale: -3 shift: -1"),
    one("Exp"),
    one("Exp", "scale: 0.3 shift: 0.5"),
    one("Exp", "base: 2 scale: -1 shift: 2"),
    one("Exp", "base: 0.5"),
    one("Log", bottom=positive(2, 3)),
    one("Log", "base: 2 scale: 3 shift: 1", positive(2, 3)),
    one("Log", "base: 10 scale: -1 shift: 3", positive(2, 3)),
    Case("Dropout", "", [SMALL], values.identity, phase=TEST),
    Case("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }", [IMAGE], windows.lrn, resized=LARGER),
    Case("LRN", "lrn_param { local_size: 7 alpha: 2 beta: 0.5 k: 3 }", [IMAGE], windows.lrn),
    Case(
        "LRN",
        "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 2 k: 5 }",
        [IMAGE],
        windows.lrn,
        resized=LARGER,
    ),
    Case("BatchNorm", "", [IMAGE], values.batch_norm, resized=LARGER),
    Case("BatchNorm", "batch_norm_param { eps: 0.1 }", [B((5, 3))], values.batch_norm),
    Case("BatchNorm", "batch_norm_param { use_global_stats: true }", [SMALL], values.batch_norm),
    Case("BatchNorm", "", [SMALL], values.batch_norm, phase=TEST),
    Case("BatchNorm", "batch_norm_param { use_global_stats: false }", [SMALL], values.batch_norm, phase=TEST),
    Case("MVN", "", [SMALL], values.mvn, resized=[(1, 2, 3, 4)]),
    Case("MVN", "mvn_param { normalize_variance: false }", [SMALL], values.mvn),
    Case("MVN", "mvn_param { across_channels: true }", [SMALL], values.mvn),
    Case("MVN", "mvn_param { across_channels: true normalize_variance: false }", [B((3, 5))], values.mvn),
    Case("Scale", "", [SMALL], values.scale, resized=[(1, 3, 6, 2)]),
    Case("Scale", "scale_param { bias_term: true axis: 1 num_axes: 2 }", [SMALL], values.scale),
    Case("Scale", "scale_param { axis: -2 num_axes: -1 bias_term: true }", [SMALL], values.scale),
    Case("Scale", "scale_param { num_axes: 0 bias_term: true }", [SMALL], values.scale),
    Case("Scale", "scale_param { axis: 0 }", [SMALL, B((2, 3))], values.scale),
    Case(
        "Scale", "scale_param { axis: 2 bias_term: true }", [SMALL, B((4,))], values.scale, resized=[(3, 1, 4, 2), (4,)]
    ),
    Case("Scale", "", [SMALL, B(())], values.scale, resized=[(1, 2), ()]),
    Case("Bias", "", [SMALL], values.bias, resized=[(1, 3, 6, 2)]),
    Case("Bias", "bias_param { axis: 2 num_axes: -1 }", [SMALL], values.bias),
    Case("Bias", "bias_param { num_axes: 0 }", [SMALL], values.bias),
    Case("Bias", "bias_param { axis: 0 }", [SMALL, B((2, 3, 4))], values.bias),
    Case("Eltwise", "", [SMALL, SMALL], values.eltwise),
    Case("Eltwise", "eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }", [SMALL] * 3, values.eltwise),
    Case("Eltwise", "eltwise_param { operation: PROD }", [SMALL] * 3, values.eltwise),
    Case("Eltwise", "eltwise_param { operation: PROD stable_prod_grad: false }", [SMALL] * 2, values.eltwise),
    Case("Eltwise", "eltwise_param { operation: MAX }", [SMALL] * 3, values.eltwise),
    Case("InnerProduct", "inner_product_param { num_output: 5 }", [SMALL], values.inner_product),
    Case(
        "InnerProduct",
        "inner_product_param { num_output: 2 bias_term: false transpose: true }",
        [SMALL],
        values.inner_product,
    ),
    Case(
        "InnerProduct",
        "inner_product_param { num_output: 2 axis: -1 transpose: true }",
        [SMALL],
        values.inner_product,
        resized=[(1, 2, 5)],
    ),
    Case("Embed", "embed_param { num_output: 3 input_dim: 5 }", [labels(4, 2, classes=5)], values.embed),
    Case("Embed", "embed_param { num_output: 3 input_dim: 5 bias_term: false }", [labels(4, classes=5)], values.embed),
    Case("Concat", "", [SMALL, B((2, 1, 4, 5)), SMALL], arrangement.concat),
    Case("Concat", "concat_param { axis: -1 }", [SMALL, B((2, 3, 4, 2))], arrangement.concat),
    Case(
        "Concat",
        "concat_param { concat_dim: 0 }",
        [SMALL, B((1, 3, 4, 5))],
        arrangement.concat,
        resized=[(1, 3, 2, 2)] * 2,
    ),
    Case("Concat", "", [SMALL], arrangement.concat),
    Case("Slice", "", [B((2, 6, 2))], arrangement.slice_, 3, resized=[(3, 9, 1)]),
    Case("Slice", "slice_param { axis: -1 slice_point: 1 slice_point: 3 }", [SMALL], arrangement.slice_, 3),
    Case("Slice", "slice_param { slice_dim: 0 }", [SMALL], arrangement.slice_, 2, resized=[(4, 3, 4, 5)]),
    Case("Slice", "", [SMALL], arrangement.slice_),
    Case("Flatten", "", [SMALL], arrangement.flatten, resized=[(1, 2, 6, 2)]),
    Case("Flatten", "flatten_param { axis: 0 end_axis: -2 }", [SMALL], arrangement.flatten),
    Case("Flatten", "flatten_param { axis: 2 end_axis: 2 }", [SMALL], arrangement.flatten),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }", [SMALL], arrangement.reshaped_to(-1, 30, 2)),
    Case(
        "Reshape",
        "reshape_param { shape { dim: 6 dim: 2 } axis: 1 num_axes: 2 }",
        [SMALL],
        arrangement.reshaped_to(-1, 6, 2, 5),
    ),
    Case(
        "Reshape",
        "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }",
        [SMALL],
        arrangement.reshaped_to(-1, 3, 4, 5, 1),
    ),
    Case(
        "Reshape",
        "reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }",
        [SMALL],
        arrangement.reshaped_to(-1, 12, 5),
    ),
    Case(
        "Reshape",
        "reshape_param { shape { dim: -1 dim: 0 dim: 5 } axis: 1 }",
        [SMALL],
        arrangement.reshaped_to(-1, 3, 4, 5),
    ),
    Case(
        "Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", [SMALL], arrangement.permute, resized=LARGER
    ),
    Case("Permute", "permute_param { order: 3 }", [SMALL], arrangement.permute),
    Case("Tile", "tile_param { tiles: 3 }", [SMALL], arrangement.tile, resized=LARGER),
    Case("Tile", "tile_param { axis: -1 tiles: 2 }", [SMALL], arrangement.tile),
    Case("Reduction", "", [SMALL], arrangement.reduction, resized=LARGER),
    Case("Reduction", "reduction_param { operation: ASUM axis: 1 coeff: 2 }", [SMALL], arrangement.reduction),
    Case("Reduction", "reduction_param { operation: SUMSQ axis: -1 }", [SMALL], arrangement.reduction),
    Case("Reduction", "reduction_param { operation: MEAN axis: 2 coeff: -3 }", [SMALL], arrangement.reduction),
    Case("ArgMax", "", [SMALL], arrangement.argmax),
    Case("ArgMax", "argmax_param { out_max_val: true top_k: 3 }", [B((4, 5))], arrangement.argmax),
    Case("ArgMax", "argmax_param { axis: 1 }", [SMALL], arrangement.argmax, resized=LARGER),
    Case("ArgMax", "argmax_param { axis: -1 top_k: 2 out_max_val: true }", [SMALL], arrangement.argmax),
    Case("Crop", "", [IMAGE, B((2, 1, 5, 4))], arrangement.crop, resized=[(1, 4, 6, 6), (1, 4, 6, 6)]),
    Case("Crop", "crop_param { axis: 1 offset: 1 }", [IMAGE, SMALL], arrangement.crop),
    Case("Crop", "crop_param { axis: -2 offset: 3 offset: 1 }", [IMAGE, SMALL], arrangement.crop),
    Case("BatchReindex", "", [SMALL, labels(5, classes=2)], arrangement.batch_reindex, resized=[(2, 1), (1,)]),
    Case("Filter", "", [B((6, 2)), B((6, 1, 3)), labels(6, 1, 1, classes=2)], arrangement.filter_, 2),
    Case("Threshold", "threshold_param { threshold: 0.5 }", [SMALL], values.threshold),
    Case("Silence", "", [SMALL, B((1,))], arrangement.nothing, 0),
    Case("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", [], arrangement.parameter),
    Case("Softmax", "", [SMALL], values.softmax, resized=LARGER),
    Case("Softmax", "softmax_param { axis: -1 }", [SMALL], values.softmax),
    softmax_loss(""),
    softmax_loss("ignore_label: 1"),
    softmax_loss("ignore_label: 1 normalization: FULL"),
    softmax_loss("normalization: BATCH_SIZE", tops=2),
    softmax_loss("ignore_label: 0 normalization: NONE"),
    softmax_loss("normalize: false ignore_label: 2"),
    softmax_loss("normalize: true normalization: NONE"),
    softmax_loss("ignore_label: -1", axis="softmax_param { axis: -1 }", tops=2, label=labels(2, 3, 4, classes=5)),
    softmax_loss("ignore_label: 2", label=constant(2, 2, 4, 5)),
    Case("SigmoidCrossEntropyLoss", "", [SMALL, probabilities(2, 3, 4, 5)], losses.sigmoid_cross_entropy),
    *(
        Case(
            "SigmoidCrossEntropyLoss",
            f"loss_param {{ {text} }}",
            [B((2, 3, 2)), labels(2, 3, 2, classes=3)],
            losses.sigmoid_cross_entropy,
        )
        for text in ("ignore_label: 2", "normalize: true ignore_label: 2", "normalization: FULL", "normalization: NONE")
    ),
    Case("EuclideanLoss", "", [SMALL, SMALL], losses.euclidean),
    Case("EuclideanLoss", "", [B((4, 6)), B((4, 3, 2))], losses.euclidean),
    Case("SmoothL1Loss", "", [B((3, 2, 2)), B((3, 2, 2))], losses.smooth_l1),
    Case("SmoothL1Loss", "", [B((3, 2, 2)), B((3, 2, 2)), WEIGHTS], losses.smooth_l1),
    Case("HingeLoss", "", [B((4, 5)), labels(4, classes=5)], losses.hinge),
    Case("HingeLoss", "hinge_loss_param { norm: L2 }", [B((4, 5, 1, 1)), labels(4, 1, 1, 1, classes=5)], losses.hinge),
    Case("MultinomialLogisticLoss", "", [probabilities(4, 5), labels(4, classes=5)], losses.multinomial_logistic),
    Case(
        "InfogainLoss",
        "",
        [probabilities(4, 5), labels(4, classes=5), Bottom((1, 1, 5, 5), smooth=False)],
        losses.infogain,
        resized=[(2, 5), (2,), (5, 5)],
    ),
    Case("ContrastiveLoss", "", [B((5, 3)), B((5, 3)), labels(5, classes=2)], losses.contrastive),
    Case(
        "ContrastiveLoss",
        "contrastive_loss_param { margin: 3 }",
        [B((8, 3)), B((8, 3)), labels(8, classes=2)],
        losses.contrastive,
    ),
    Case(
        "ContrastiveLoss",
        "contrastive_loss_param { margin: 7 legacy_version: true }",
        [B((5, 3, 1, 1)), B((5, 3, 1, 1)), labels(5, 1, 1, 1, classes=2)],
        losses.contrastive,
    ),
    Case("Accuracy", "", [SMALL, labels(2, 4, 5, classes=3)], losses.accuracy, 2),
    Case(
        "Accuracy",
        "accuracy_param { top_k: 2 ignore_label: 1 axis: -1 }",
        [B((6, 4)), labels(6, classes=4)],
        losses.accuracy,
        2,
    ),
    Case(
        "LSTMUnit",
        "",
        [B((1, 2, 3)), B((1, 2, 12)), Bottom((1, 2), lambda rng, s: np.arange(2.0)[None], smooth=False)],
        recurrence.lstm_unit,
        2,
        resized=[(1, 2, 3), (1, 2, 12), (1, 2)],
    ),
    *(
        case
        for kind, reference, states in (("RNN", recurrence.rnn, 1), ("LSTM", recurrence.lstm, 2))
        for case in (
            Case(kind, "recurrent_param { num_output: 3 }", [B((3, 2, 4)), MARKERS], reference),
            Case(
                kind,
                "recurrent_param { num_output: 3 }",
                [B((3, 2, 2, 2)), MARKERS, B((2, 5))],
                reference,
                resized=[(4, 1, 4), (4, 1), (1, 5)],
            ),
            Case(
                kind,
                "recurrent_param { num_output: 3 expose_hidden: true }",
                [B((3, 2, 4)), MARKERS, *[Bottom((1, 2, 3), smooth=False)] * states],
                reference,
                1 + states,
                resized=[(4, 3, 4), (4, 3), *[(1, 3, 3)] * states],
            ),
        )
    ),
]
