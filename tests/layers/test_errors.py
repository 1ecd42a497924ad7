"""Invalid settings are refused with the layer's name, what was found and what is allowed."""

from __future__ import annotations

import re

import pytest
import torch

from caffe.errors import NetError
from tests.layer_harness import Shape, make_layer, run

SETUP = [
    ("Convolution", "convolution_param { kernel_size: 3 }", [(1, 2, 5, 5)], "num_output must be given"),
    ("Convolution", "convolution_param { num_output: 3 }", [(1, 2, 5, 5)], "kernel_size is given 0 times"),
    ("Convolution", "convolution_param { num_output: 3 kernel_size: 0 }", [(1, 2, 5, 5)], "at least 1, not 0×0"),
    (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 1 group: 2 }",
        [(1, 4, 5, 5)],
        "group 2 must divide both the 4 input channels and num_output 3",
    ),
    (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 kernel_h: 3 kernel_w: 3 }",
        [(1, 2, 5, 5)],
        "either kernel_size, or kernel_h and kernel_w",
    ),
    ("Convolution", "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 3 }", [(1, 2, 5)], "2 spatial axes"),
    (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 kernel_size: 3 kernel_size: 3 }",
        [(1, 2, 5, 5)],
        "given 3 times; give it once, or once for each of the 2 spatial axes",
    ),
    (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 5 dilation: 2 pad: 1 }",
        [(1, 2, 6, 9)],
        "spans 9 pixels, but spatial axis 0 of 1×2×6×9 has 6 with 1 of padding",
    ),
    ("Convolution", "convolution_param { num_output: 3 kernel_size: 1 axis: 4 }", [(1, 2, 6, 9)], "axis 4 is out of"),
    (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 1 }",
        [(1, 2, 6, 9), (1, 2, 6, 8)],
        "found 1×2×6×9 and 1×2×6×8",
    ),
    (
        "Deconvolution",
        "convolution_param { num_output: 3 kernel_size: 2 pad: 3 }",
        [(1, 2, 4, 4)],
        "leaves no pixel of spatial axis 0",
    ),
    ("Pooling", "", [(1, 2, 4, 4)], "either kernel_size, or both"),
    ("Pooling", "pooling_param { kernel_h: 2 }", [(1, 2, 4, 4)], "both kernel_h and kernel_w"),
    ("Pooling", "pooling_param { kernel_size: 2 pad_h: 1 }", [(1, 2, 4, 4)], "both pad_h and pad_w"),
    (
        "Pooling",
        "pooling_param { kernel_size: 2 stride: 1 stride_h: 1 stride_w: 2 }",
        [(1, 2, 4, 4)],
        "both stride_h and stride_w",
    ),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", [(1, 2, 4, 4)], "smaller than the kernel 2×2"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 0 }", [(1, 2, 4, 4)], "must be positive"),
    ("Pooling", "pooling_param { global_pooling: true kernel_size: 2 }", [(1, 2, 4, 4)], "leave the kernel out"),
    ("Pooling", "pooling_param { global_pooling: true stride: 2 }", [(1, 2, 4, 4)], "only stride 1 and pad 0"),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 pad: 1 }", [(1, 2, 4, 4)], "does not allow padding"),
    ("Pooling", "pooling_param { kernel_size: 2 }", [(1, 2, 4)], "4 axes .* not 1×2×4"),
    ("Pooling", "pooling_param { kernel_size: 9 stride: 2 }", [(1, 2, 4, 4)], "no window in an image of 4×4"),
    ("SPP", "", [(1, 2, 4, 4)], "pyramid_height"),
    ("SPP", "spp_param { pyramid_height: 3 }", [(1, 2, 1, 4)], "1×4 is too small for pyramid level 1"),
    ("PReLU", "", [(4,)], "at least 2 axes"),
    ("AbsVal", "top: 'b0'", [(4,)], "cannot work in place; give its top another name than 'b0'"),
    ("Flatten", "top: 'b0'", [(4, 2)], "cannot work in place"),
    ("Reshape", "top: 'b0'", [(4, 2)], "cannot work in place"),
    ("Exp", "exp_param { base: 0 }", [(4,)], "base must be positive .* not 0"),
    ("Exp", "exp_param { shift: 1000 }", [(4,)], "too large"),
    ("Log", "log_param { base: -2 }", [(4,)], "base must be positive .* not -2"),
    ("Log", "log_param { base: 1 }", [(4,)], "no logarithm to base 1"),
    ("Dropout", "dropout_param { dropout_ratio: 1 }", [(4,)], "below 1, not 1"),
    ("LRN", "lrn_param { local_size: 4 }", [(1, 2, 3, 4)], "local_size must be odd, not 4"),
    ("LRN", "", [(1, 2, 3)], "4 axes"),
    ("MVN", "", [(1, 2, 3, 4, 5)], "at most 4 axes"),
    (
        "Scale",
        "scale_param { axis: 1 num_axes: 2 }",
        [(2, 3)],
        "2 axes from axis 1 on go past the end of the bottom, 2×3",
    ),
    ("Scale", "", [(2, 3, 4), (4,)], "bottom is 2×3×4; from axis 1 on it must start with 4, the shape of the scale"),
    ("Bias", "bias_param { num_axes: -2 }", [(2, 3)], "num_axes must be at least 0"),
    ("Bias", "", [(2, 3), (3, 1)], "must start with 3×1, the shape of the bias"),
    ("Eltwise", "eltwise_param { coeff: 1 }", [(2,), (2,)], "1 coeff for 2 bottoms"),
    ("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 1 }", [(2,), (2,)], "not for a product"),
    ("Eltwise", "", [(2, 3), (3, 2)], "'b0' is 2×3 and 'b1' is 3×2"),
    ("InnerProduct", "", [(2, 3)], "num_output"),
    ("InnerProduct", "inner_product_param { num_output: 1 axis: 2 }", [(2, 3)], "axis 2 is out of range"),
    ("Embed", "embed_param { num_output: 1 }", [(2,)], "input_dim"),
    ("Concat", "", [(2, 3, 4), (2, 3, 5)], "differ only in axis 1; 'b0' is 2×3×4 and 'b1' is 2×3×5"),
    ("Concat", "", [(2, 3), (2, 3, 1)], "'b0' is 2×3 and 'b1' is 2×3×1"),
    ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [(2, 3)], "either axis or concat_dim"),
    ("Concat", "concat_param { concat_dim: 5 }", [(2, 3)], "concat_dim 5 is out of range"),
    ("Flatten", "flatten_param { axis: 2 end_axis: 0 }", [(2, 3, 4)], "end_axis 0 is before axis 2"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [(2, 3)], "at most one −1"),
    ("Reshape", "reshape_param { shape { dim: -2 } }", [(2, 3)], "may have sizes"),
    ("Reshape", "reshape_param { shape { dim: 4 dim: -1 } }", [(2, 3)], "6 elements are not divisible by 4"),
    ("Reshape", "reshape_param { shape { dim: 4 } }", [(2, 3)], "cannot reshape 2×3, 6 elements, to 4, 4"),
    ("Reshape", "reshape_param { shape { dim: 2 dim: 3 dim: 0 } }", [(2, 3)], "copies axis 2, which a bottom of 2×3"),
    ("Reshape", "reshape_param { axis: 3 }", [(2, 3)], "axis 3 is out of range"),
    ("Reshape", "reshape_param { axis: 1 num_axes: 2 }", [(2, 3)], "num_axes 2 from axis 1"),
    ("Permute", "permute_param { order: 1 order: 1 }", [(2, 3)], "must name different axes"),
    ("Permute", "permute_param { order: 2 }", [(2, 3)], "0 to 1"),
    ("Tile", "", [(2, 3)], "tiles must be given"),
    ("Tile", "tile_param { tiles: 2 axis: -3 }", [(2, 3)], "axis -3 is out of range"),
    ("ArgMax", "argmax_param { top_k: 0 }", [(2, 3)], "top_k must be at least 1"),
    ("ArgMax", "argmax_param { top_k: 4 }", [(2, 3)], "more than the 3 values along each item"),
    ("ArgMax", "argmax_param { top_k: 3 axis: 0 }", [(2, 3)], "more than the 2 values along axis 0"),
    ("Crop", "crop_param { offset: 2 }", [(1, 1, 5, 5), (1, 1, 4, 3)], "axis 2: offset 2 and size 4 go past the 5"),
    ("Crop", "crop_param { offset: 1 offset: 1 offset: 1 }", [(1, 1, 5, 5)] * 2, "3 offsets for the 2 axes from 2 on"),
    ("Crop", "", [(1, 1, 5, 5), (5, 5)], "'b1' 5×5 has fewer axes"),
    ("BatchReindex", "", [(2, 3), (2, 1)], "must have one axis, not 2×1"),
    ("Filter", "", [(2, 3), (2, 2)], "one value per item, not 2×2"),
    ("Filter", "", [(2, 3), (3,)], "'b0' 2×3 has 2 items, but the selector has 3"),
    ("Filter", "", [(2, 3), (2, 3), (2,)], "one top per bottom except the selector, the last one: 2, not 1"),
    ("SoftmaxWithLoss", "", [(2, 3, 4), (2,)], "classes along axis 1 needs 8 labels; 'b1' 2 has 2"),
    ("SoftmaxWithLoss", "", [(2, 3), (3,)], r"first axes \(the batch\) must agree"),
    ("SigmoidCrossEntropyLoss", "", [(2, 3), (2,)], "a target for each score"),
    ("EuclideanLoss", "", [(2, 3), (2, 4)], "the same size; they are 2×3 and 2×4"),
    ("SmoothL1Loss", "", [(2, 3, 2), (2, 2, 3)], "'b0' is 2×3×2 and 'b1' is 2×2×3"),
    ("HingeLoss", "", [(2, 3), (2, 2)], "one label for each of the 2 items"),
    ("InfogainLoss", "", [(2, 3), (2,)], "or as a third bottom; give one"),
    ("InfogainLoss", "", [(2, 3), (2,), (2, 2)], "must be 3×3 for 3 classes, not 2×2"),
    ("ContrastiveLoss", "", [(2, 3), (2, 4), (2,)], "the same shape N × C"),
    ("ContrastiveLoss", "", [(2, 3), (2, 3), (3,)], "a label for each of the 2 pairs"),
    ("Accuracy", "accuracy_param { top_k: 4 }", [(2, 3), (2,)], "top_k 4 is more than the 3 classes"),
    ("Accuracy", "", [(2, 3, 4), (2,)], "needs 8 labels"),
    ("HDF5Output", "", [(2, 3), (2,)], "file_name"),
    ("HDF5Output", "hdf5_output_param { file_name: '/nowhere/x.h5' }", [(2, 3), (2,)], "cannot write '/nowhere/x.h5'"),
    ("LSTM", "", [(2, 3, 4), (2, 3)], "num_output"),
    ("LSTM", "recurrent_param { num_output: 2 }", [(2, 3, 4), (3, 2)], "must be 2×3, one marker per step and stream"),
    ("LSTM", "recurrent_param { num_output: 2 }", [(2, 3), (2, 3)], "time × streams × values"),
    ("RNN", "recurrent_param { num_output: 2 }", [(2, 3, 4), (2, 3), (4, 1)], "static input must be 3 × 1"),
    ("RNN", "recurrent_param { num_output: 2 expose_hidden: true }", [(2, 3, 4), (2, 3)], "takes 3 bottoms, or 4"),
    ("LSTMUnit", "", [(1, 2, 3), (1, 2, 9), (1, 2)], "needs gate inputs 1×2×12"),
]


@pytest.mark.parametrize(("kind", "text", "shapes", "message"), SETUP, ids=[f"{k}-{m}" for k, _, _, m in SETUP])
def test_a_layer_that_does_not_fit_says_why(kind: str, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message) as caught:
        make_layer(kind, "name: 'odd' " + text, shapes)
    assert str(caught.value).startswith(f"layer 'odd' ({kind}): ")


RESIZED = [
    (
        "Convolution",
        "convolution_param { num_output: 1 kernel_size: 1 }",
        (1, 2, 4, 4),
        (1, 3, 4, 4),
        "take 2 channels",
    ),
    ("Convolution", "convolution_param { num_output: 1 kernel_size: 1 }", (1, 2, 4, 4), (1, 2, 4), "blobs with 4 axes"),
    (
        "InnerProduct",
        "inner_product_param { num_output: 1 }",
        (1, 6),
        (1, 7),
        "take 6 inputs, but the bottom 1×7 has 7",
    ),
    ("BatchNorm", "", (1, 2, 4), (1, 3, 4), "statistics for 2 channels, but the bottom is 1×3×4"),
    ("PReLU", "", (1, 2, 4), (1, 3, 4), "slopes for 2 channels, but the bottom is 1×3×4"),
    ("Scale", "", (1, 2, 4), (1, 3, 4), "must start with 2"),
    ("Permute", "", (1, 2, 4), (1, 3), "blobs of 3 axes"),
]


@pytest.mark.parametrize(("kind", "text", "first", "second", "message"), RESIZED, ids=[r[0] for r in RESIZED])
def test_a_bottom_that_changes_beyond_the_weights_is_refused(
    kind: str, text: str, first: Shape, second: Shape, message: str
) -> None:
    layer = make_layer(kind, text, [first])
    with pytest.raises(NetError, match=message):
        layer.reshape([second])


@pytest.mark.parametrize(
    ("text", "tops", "message"),
    [
        ("", 4, "axis 1 of 2×6 cannot be cut into 4 equal parts"),
        ("slice_param { slice_point: 1 }", 3, "3 tops need 2 slice_point, not 1"),
        ("slice_param { slice_point: 3 slice_point: 2 }", 3, "must increase, from over 0 to below 6"),
        ("slice_param { slice_point: 6 }", 2, "below 6"),
        ("slice_param { slice_dim: 1 axis: 1 }", 2, "either axis or slice_dim"),
    ],
)
def test_slices_that_do_not_fit(text: str, tops: int, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer("Slice", text, [(2, 6)], tops)


def test_a_mask_is_for_max_pooling() -> None:
    with pytest.raises(NetError, match="MAX pooling only"):
        make_layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", [(1, 1, 4, 4)], tops=2)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss", "Accuracy"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class(kind: str, label: int) -> None:
    layer = make_layer(kind, "", [(2, 3), (2,)])
    message = f"label {label} in 'b1' is not one of the 3 classes (0 to 2)"
    with pytest.raises(NetError, match=re.escape(message)):
        run(layer, torch.full((2, 3), 0.5), torch.tensor([0.0, label]))


def test_indices_out_of_range() -> None:
    embed = make_layer("Embed", "embed_param { num_output: 1 input_dim: 4 }", [(2,)])
    with pytest.raises(NetError, match="indices run from 1 to 4; input_dim allows 0 to 3"):
        run(embed, torch.tensor([1.0, 4.0]))
    reindex = make_layer("BatchReindex", "", [(3, 1), (2,)])
    with pytest.raises(NetError, match="indices run from -1 to 0; the batch allows 0 to 2"):
        run(reindex, torch.zeros(3, 1), torch.tensor([-1.0, 0.0]))


def test_both_forms_of_a_rectangular_window_mean_the_same() -> None:
    one = "convolution_param { num_output: 1 kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1 }"
    other = "convolution_param { num_output: 1 kernel_size: [3, 1] pad: [1, 0] stride: [2, 1] }"
    a, b = (make_layer("Convolution", text, [(1, 1, 4, 4)]) for text in (one, other))
    assert a.geometry == b.geometry
