"""Of caffe-windows (NormFace, AMSoftmax): cases, bottoms of no items, settings that are refused."""

from __future__ import annotations

from caffe.engine.layer import TEST
from tests.layer_harness import Bottom, Case, Shape, labels, positive
from tests.reference import faces

B = Bottom
MAP = B((2, 3, 4, 5))
FACTOR = B((2, 1, 4, 5))
#: distances, some of them equal, as a loss's bottom
DISTANCES = Bottom((7, 4), lambda rng, s: rng.integers(0, 12, s) / 8)
OTHERS = Bottom((7, 4), lambda rng, s: rng.uniform(0, 2, s))
CLASSES = labels(7, classes=4)

CONTRASTIVE = (
    "",
    "positive_margin: 0.25 negative_margin: 0.75 positive_weight: 2 negative_weight: 0.5",
    "positive_outlier_thresh: 0.8 exp_negative_weight: true",
    "max_negative_only: true",
    "max_negative_only: true max_positive_only: true exp_negative_weight: true",
    "positive_first: true positive_upper_bound: 0.6",
    "positive_first: true positive_upper_bound: 0.6 max_negative_only: true max_positive_only: true",
    "normalize_negative: 1 negative_margin: 2",
    "normalize_negative: 50 negative_margin: 2",
    "normalize_negative: 0.5 negative_margin: 2 positive_first: true exp_negative_weight: true",
)
TRIPLET = (
    "",
    "margin: 0.5 negative_weight: 2 positive_weight: 0.5",
    "add_center_loss: false margin: 0.05",
    "hardest_only: true",
    "hardest_only: true add_center_loss: false positive_first: true positive_upper_bound: 0.7",
    "positive_first: true positive_upper_bound: 0.7",
)


def contrastive(options: str, *bottoms: Bottom, tops: int = 2) -> Case:
    text = f"general_contrastive_loss_param {{ {options} }}"
    return Case("GeneralContrastiveLoss", text, bottoms, faces.general_contrastive_loss, tops)


def triplet(options: str, *bottoms: Bottom, tops: int = 2) -> Case:
    text = f"general_triplet_loss_param {{ {options} }}"
    return Case("GeneralTripletLoss", text, bottoms, faces.general_triplet_loss, tops)


CASES = [
    Case("Normalize", "normalize_param { }", [MAP], faces.unit_norm, resized=[(1, 2, 3, 3)]),
    Case("Normalize", "normalize_param { normalize_type: 'L1' }", [B((4, 6))], faces.unit_norm),
    Case("Normalize", "softmax_param { normalize_type: 'L2' }", [B((4, 6, 2))], faces.unit_norm),
    Case("Normalize", "normalize_param { bp_norm: true }", [MAP], faces.unit_norm, 2, resized=[(1, 2, 3, 3)]),
    Case("Normalize", "normalize_param { bp_norm: true normalize_type: 'L1' }", [MAP], faces.unit_norm, 2),
    Case("Flip", "", [MAP], faces.flip, resized=[(1, 2, 3, 3)]),
    Case("Flip", "flip_param { flip_width: false flip_height: true }", [MAP], faces.flip),
    Case("Flip", "flip_param { flip_height: true }", [B((2, 3, 4))], faces.flip),
    Case("Flip", "", [B((2, 3))], faces.flip),
    Case("InnerDistance", "inner_distance_param { num_output: 5 }", [B((3, 2, 2))], faces.inner_distance),
    Case(
        "InnerDistance",
        "inner_distance_param { num_output: 5 distance_type: 'L1' axis: 2 normalize: true }",
        [B((3, 2, 4))],
        faces.inner_distance,
    ),
    Case("InnerDistance", "", [B((3, 4)), B((5, 4, 1, 1))], faces.inner_distance),
    Case(
        "InnerDistance", "inner_distance_param { distance_type: 'L1' }", [B((3, 4)), B((5, 2, 2))], faces.inner_distance
    ),
    Case(
        "InnerDistance",
        "inner_distance_param { update_center_only: true }",
        [B((3, 4)), B((5, 4), smooth=False), labels(3, classes=5)],
        faces.inner_distance,
    ),
    Case("InnerProduct", "inner_product_param { num_output: 3 normalize: true }", [B((4, 5))], faces.inner_product),
    Case("InnerProduct", "inner_product_param { bias_term: false }", [B((4, 5)), B((3, 5, 1, 1))], faces.inner_product),
    Case("InnerProduct", "inner_product_param { axis: 2 }", [B((4, 2, 6)), B((3, 2, 3)), B((3,))], faces.inner_product),
    Case("ChannelScale", "", [MAP, FACTOR], faces.channel_scale, resized=[(3, 1, 2, 2), (3, 2, 2)]),
    Case("ChannelScale", "", [B((4, 3)), B((4,))], faces.channel_scale),
    Case(
        "ChannelScale",
        "channel_scale_param { global_scale: true }",
        [MAP, FACTOR],
        faces.channel_scale,
        2,
        phase=TEST,
    ),
    Case(
        "ChannelScale",
        "channel_scale_param { global_scale: true min_global_scale: 0.3 max_global_scale: 0.75 }",
        [MAP, FACTOR],
        faces.channel_scale,
        2,
    ),
    Case("ChannelScale", "channel_scale_param { do_forward: false }", [MAP, FACTOR], faces.channel_scale),
    Case(
        "LabelSpecificAdd",
        "label_specific_add_param { bias: -0.35 }",
        [B((6, 4)), labels(6, classes=4)],
        faces.label_specific_add,
    ),
    Case(
        "LabelSpecificAdd",
        "label_specific_add_param { bias_base: 0.25 bias_gamma: -0.125 bias_power: 2 bias_min: -0.5 iteration: 3 }",
        [B((6, 2, 2)), labels(6, 1, classes=4)],
        faces.label_specific_add,
        2,
    ),
    Case(
        "LabelSpecificAdd",
        "label_specific_add_param { bias: -0.35 transform_test: true }",
        [B((6, 4)), labels(6, classes=4)],
        faces.label_specific_add,
        2,
        phase=TEST,
    ),
    *(contrastive(options, DISTANCES, CLASSES) for options in CONTRASTIVE),
    contrastive("", DISTANCES, CLASSES, OTHERS, tops=1),
    contrastive("add_intra_mae: true max_negative_margin: 0.001", OTHERS, CLASSES),
    *(triplet(options, DISTANCES, CLASSES) for options in TRIPLET),
    triplet("", DISTANCES, CLASSES, positive(7, 1), tops=1),
]

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    ("Normalize", "normalize_param { }", [(0, 3)], (0, 3, 1, 1)),
    ("Flip", "", [(0, 3, 2, 2)], (0, 3, 2, 2)),
    ("InnerDistance", "inner_distance_param { num_output: 5 }", [(0, 3)], (0, 5)),
    ("InnerProduct", "inner_product_param { bias_term: false }", [(0, 3), (4, 3)], (0, 4)),
    ("ChannelScale", "", [(0, 3, 2, 2), (0, 1, 2, 2)], (0, 3, 2, 2)),
    ("ChannelScale", "channel_scale_param { global_scale: true }", [(0, 3, 2, 2), (0, 1, 2, 2)], (0, 3, 2, 2)),
    ("LabelSpecificAdd", "", [(0, 3), (0,)], (0, 3)),
    ("GeneralContrastiveLoss", "", [(0, 3), (0,)], ()),
    ("GeneralContrastiveLoss", f"general_contrastive_loss_param {{ {CONTRASTIVE[6]} }}", [(0, 3), (0,)], ()),
    ("GeneralTripletLoss", "general_triplet_loss_param { hardest_only: true }", [(0, 3), (0,)], ()),
]

_TWO: list[Shape] = [(2, 3), (2, 2)]
BAD: list[tuple[str, str, list[Shape], str]] = [
    ("Normalize", "normalize_param { normalize_type: 'L3' }", [(2, 3)], "normalize_type must be L1 or L2, not 'L3'"),
    ("Normalize", "normalize_param { } norm_param { }", [(2, 3)], "norm_param and normalize_param .* give one"),
    ("Normalize", "normalize_param { }", [(2, 3, 1, 1, 1)], "needs a bottom of 1 to 4 axes, not 2×3×1×1×1"),
    ("Flip", "", [(2, 3, 1, 1, 1)], "at most 4 axes .* not 2×3×1×1×1"),
    ("InnerDistance", "", [(2, 3)], "num_output must be given and positive"),
    ("InnerDistance", "inner_distance_param { distance_type: 'L0' }", [(2, 3)], "must be L1 or L2, not 'L0'"),
    ("InnerDistance", "inner_distance_param { transpose: true }", [(2, 3)], "transpose is not supported"),
    ("InnerDistance", "inner_distance_param { update_center_only: true }", _TWO, "third bottom, .* need each other"),
    ("InnerDistance", "", _TWO, "'b1' is 2×2; its vectors must have 3 values"),
    ("InnerDistance", "", [(2, 3), ()], r"'b1' is \(\); its vectors must have 3 values"),
    ("InnerDistance", "inner_distance_param { update_center_only: true }", [*_TWO[:1] * 2, (3,)], "one label per item"),
    ("InnerProduct", "", _TWO, "needs weights for 3 inputs; 'b1' is 2×2"),
    ("InnerProduct", "", [(2, 3), (4, 3), (3,)], "has weights for 4 outputs, but a bias of 3"),
    ("InnerProduct", "inner_product_param { bias_term: false }", [(2, 3), (4, 3), (4,)], "but bias_term: false"),
    (
        "InnerProduct",
        "inner_product_param { num_output: 1 transpose: true normalize: true }",
        [(2, 3)],
        "transpose goes",
    ),
    ("Scale", "scale_param { min_value: 0 }", [(2, 3), (3,)], "for a learned factor, not for a second bottom"),
    ("ChannelScale", "", _TWO, "needs N×C×H×W and a factor for each position, .* they are 2×3 and 2×2"),
    ("ChannelScale", "top: 'a' top: 'b'", [(2, 3), (2,)], "has a second top only with global_scale: true"),
    (
        "ChannelScale",
        "channel_scale_param { global_scale: true } param { lr_mult: 1 }",
        [(2, 3), (2,)],
        "its blob is a statistic, not a learned weight",
    ),
    ("LabelSpecificAdd", "", _TWO, "needs one label per item; 'b1' is 2×2 for 2×3"),
    ("GeneralContrastiveLoss", "", _TWO, "needs one label per item; 'b1' is 2×2 for 2×3"),
    ("GeneralContrastiveLoss", "", [(2, 3), (2,), (2,)], "'b2' is 2; it must have as many values as 2×3"),
    ("GeneralTripletLoss", "", [(2, 3), (2,), (3,)], "needs one factor per item; 'b2' is 3 for 2×3"),
    (
        "SoftmaxWithLoss",
        "softmax_param { normalize_type: 'L2' }",
        [(2, 3), (2,)],
        "'L2' is not supported; .* be Softmax",
    ),
]
