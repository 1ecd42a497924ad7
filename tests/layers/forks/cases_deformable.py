"""Deformable convolutions: cases for the tests of every type, bottoms of no items, and settings that are refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.layer_harness import Array, Bottom, Case, Shape
from tests.reference.deformable import deformable_convolution

PLAIN, MODULATED = "DeformableConvolution", "ModulatedDeformableConvolution"
FIELD = {PLAIN: "deformable_convolution_param", MODULATED: "modulated_deformable_convolution_param"}


def offsets(rng: np.random.Generator, shape: Shape) -> Array:
    """Some are beyond the image, none near a whole number, where the top has kinks."""
    return np.round(rng.normal(scale=2, size=shape)) + rng.uniform(0.1, 0.9, shape)


def deformable(
    text: str, image: Shape, groups: int, taps: int, top: Shape, kind: str = PLAIN, resized: Sequence[Shape] = ()
) -> Case:
    bottoms = [Bottom(image), Bottom((image[0], groups * taps * 2, *top), offsets)]
    if kind == MODULATED:
        bottoms.append(Bottom((image[0], groups * taps, *top)))
    return Case(
        kind, f"{FIELD[kind]} {{ {text} }}", bottoms, deformable_convolution, resized=resized or None
    )  # fmt: skip


SQUARE = "num_output: 3 kernel_size: 3 pad: 1 deformable_group: 1"
OBLONG = (
    "num_output: 4 kernel_h: 2 kernel_w: 3 pad_h: 2 pad_w: 1 stride_h: 1 stride_w: 2 dilation: 2 dilation: 1 group: 2"
)
CASES = [
    *(
        case
        for kind in (PLAIN, MODULATED)
        for case in (
            deformable(
                SQUARE, (2, 2, 4, 5), 1, 9, (4, 5), kind,
                [(3, 2, 6, 3), (3, 18, 6, 3), (3, 9, 6, 3)][: 2 if kind == PLAIN else 3],
            ),
            deformable(f"{OBLONG} deformable_group: 4", (1, 8, 4, 6), 4, 6, (6, 3), kind),
            deformable(f"{OBLONG} bias_term: false deformable_group: 1", (2, 4, 4, 5), 1, 6, (6, 3), kind),
            deformable("num_output: 2 kernel_size: 1", (2, 4, 1, 1), 2, 1, (1, 1), kind),
        )
    ),
    deformable("num_output: 2 kernel_size: 2 engine: CAFFE", (1, 8, 3, 3), 4, 4, (2, 2)),
]  # fmt: skip

EMPTY: list[tuple[str, str, list[Shape], Shape]] = [
    (PLAIN, f"{FIELD[PLAIN]} {{ {SQUARE} }}", [(0, 2, 4, 5), (0, 18, 4, 5)], (0, 3, 4, 5)),
    (MODULATED, f"{FIELD[MODULATED]} {{ {SQUARE} }}", [(0, 2, 4, 5), (0, 18, 4, 5), (0, 9, 4, 5)], (0, 3, 4, 5)),
]


def bad(options: str, image: Shape, moves: Shape, message: str) -> tuple[str, str, list[Shape], str]:
    return (PLAIN, f"{FIELD[PLAIN]} {{ {options} }}", [image, moves], message)


BAD: list[tuple[str, str, list[Shape], str]] = [
    bad("kernel_size: 3", (1, 2, 4, 4), (1, 18, 2, 2), "num_output must be given and positive"),
    bad("num_output: 3", (1, 2, 4, 4), (1, 18, 2, 2), "kernel_size is given 0 times"),
    bad("num_output: 3 kernel_size: 3", (1, 2, 4), (1, 18, 2, 2), "4 axes .* they are 1×2×4 and 1×18×2×2"),
    bad("num_output: 3 kernel_size: 3 axis: 2", (1, 2, 4, 4), (1, 18, 2, 2), "with axis: 2"),
    bad("num_output: 3 kernel_size: 5", (1, 2, 4, 4), (1, 50, 1, 1), "the kernel spans 5 pixels"),
    bad("num_output: 3 kernel_size: 3 pad: 2", (1, 2, 0, 4), (1, 18, 2, 6), "not empty, not 1×2×0×4"),
    bad(SQUARE, (1, 2, 4, 4), (1, 18, 2, 2), "'b1' is 1×18×2×2; .* top of 4×4 it must be 1×18×4×4"),
    bad(SQUARE, (1, 2, 4, 4), (2, 18, 4, 4), "it must be 1×18×4×4"),
    bad("num_output: 3 kernel_size: 3", (1, 2, 5, 5), (1, 17, 3, 3), "deformable_group 0 must divide the 2 input"),
    bad("num_output: 3 kernel_size: 3 deformable_group: 4", (1, 2, 5, 5), (1, 72, 3, 3), "deformable_group 4 must div"),
    bad("num_output: 3 kernel_size: 3 group: 2", (1, 2, 5, 5), (1, 18, 3, 3), "group 2 must divide"),
    (
        MODULATED,
        f"{FIELD[MODULATED]} {{ {SQUARE} }}",
        [(1, 2, 4, 4), (1, 18, 4, 4), (1, 18, 4, 4)],
        "'b2' is 1×18×4×4; .* it must be 1×9×4×4",
    ),
]
