"""PriorBox: the default boxes of one prediction layer (layers/prior_box.h)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe import _C
from caffe.ops.cuda import launch
from caffe.ops.operator import operator, register_fake


def prior_box_sizes(
    min_sizes: Sequence[float], max_sizes: Sequence[float] = (), aspect_ratios: Sequence[float] = (), flip: bool = True
) -> Tensor:
    """Widths and heights in pixels of the boxes at each position, K×2 on the CPU, in the layer's order.

    max_sizes: none, or one for each of min_sizes. Both are truncated to whole pixels. Ratios equal to 1 or to an
    earlier one are dropped, with `flip` also those equal to the reciprocal of an earlier one.
    """
    if len(max_sizes) not in (0, len(min_sizes)):
        raise ValueError(f"{len(max_sizes)} max_sizes for {len(min_sizes)} min_sizes: give none, or one for each")
    if any(not ratio > 0 for ratio in aspect_ratios):
        raise ValueError(f"aspect ratios must be positive, not {list(aspect_ratios)}")
    smallest, largest, ratios = (torch.tensor(v, dtype=torch.float32) for v in (min_sizes, max_sizes, aspect_ratios))
    arguments = (
        smallest.data_ptr(), largest.data_ptr() if len(max_sizes) else 0, len(min_sizes), ratios.data_ptr(),
        len(aspect_ratios), flip,
    )  # fmt: skip
    sizes = torch.empty(_C.prior_box_sizes(*arguments, 0), 2)
    _C.prior_box_sizes(*arguments, sizes.data_ptr())
    return sizes


@operator("prior_box")
def prior_box(
    sizes: Tensor,
    layer_height: int,
    layer_width: int,
    image_height: int,
    image_width: int,
    step_h: float,
    step_w: float,
    offset: float,
    clip: bool,
    variances: Sequence[float],
) -> Tensor:
    """The default boxes, 1×2×(layer_height·layer_width·K·4), float32 on the device of `sizes`.

    The first channel holds xmin, ymin, xmax, ymax in units of the image by row, column and size, the second their
    variances. sizes: K×2 from `prior_box_sizes`. Steps and image in pixels, offset in steps. variances: one or four.
    Source: SSD (Liu et al. 2016), section 2.2; Caffe's PriorBoxLayer.
    """
    if sizes.dim() != 2 or sizes.shape[1] != 2 or sizes.dtype != torch.float32:
        raise ValueError(f"sizes is {sizes.dtype} of shape {tuple(sizes.shape)}; it must be float32, K x 2")
    if len(variances) not in (1, 4):
        raise ValueError(f"{len(variances)} variances; give one or four")
    if image_height < 1 or image_width < 1:
        raise ValueError(f"the image is {image_height} x {image_width} pixels")
    sizes = sizes.contiguous()
    grid = _C.PriorBoxGrid()
    grid.layer_height, grid.layer_width = layer_height, layer_width
    grid.image_height, grid.image_width = image_height, image_width
    grid.step_h, grid.step_w, grid.offset, grid.clip = step_h, step_w, offset, clip
    grid.variance = list(variances) if len(variances) == 4 else [variances[0]] * 4
    priors = sizes.new_empty((1, 2, layer_height * layer_width * sizes.shape[0] * 4))
    arguments = grid, sizes.data_ptr(), sizes.shape[0], priors.data_ptr()
    if sizes.is_cuda:
        launch("prior_box_cuda", sizes.device, *arguments)
    else:
        _C.prior_box_cpu(*arguments)
    return priors


@register_fake("prior_box")
def _(
    sizes: Tensor, layer_height: int, layer_width: int, image_height: int, image_width: int, step_h: float,
    step_w: float, offset: float, clip: bool, variances: Sequence[float],
) -> Tensor:  # fmt: skip
    return sizes.new_empty((1, 2, layer_height * layer_width * sizes.shape[0] * 4))
