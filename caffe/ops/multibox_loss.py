"""MultiBoxLoss: SSD's training loss and its gradients (layers/multibox_loss.h; SSD, Liu et al. 2016, section 2.2).

`multibox_loss` checks its arguments, once for every device, and calls an operator that autograd, `torch.compile` and
CUDA graphs understand: nothing in it waits for a GPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe import _C, log
from caffe.errors import DataError, NetError
from caffe.ops.cuda import cuda_function, launch
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.ops.operator import operator, register_autograd, register_fake


def multibox_loss(loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, options: MultiBoxLossOptions) -> Tensor:
    """The loss of a batch, a scalar; differentiable in `loc` and `conf`.

    loc: N×(P·L·4), locations encoded relative to P priors, L = options.loc_classes. conf: N×(P·num_classes), scores
    before softmax or sigmoid. Both may have further axes. prior: 1×2×(P·4), boxes in units of the image, then
    variances. label: 1×1×M×8, rows of image, class, instance, xmin, ymin, xmax, ymax, difficult; rows of image −1 have
    no box. Computed in float32, sums in double precision. On a GPU, where labels are not checked beforehand, a label
    that is not a class makes the loss NaN. Raises NetError if shapes do not fit, DataError for labels.
    """
    return multibox_loss_and_matches(loc, conf, prior, label, options)[0]


def multibox_loss_and_matches(
    loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, options: MultiBoxLossOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """`multibox_loss`, the matches and the numbers of positives and negatives (see `multibox_loss_forward`)."""
    problem = shape_problem(loc.shape, conf.shape, prior.shape, label.shape, options)
    if problem:
        raise NetError(problem)
    inputs = [t.to(loc.device, torch.float32).contiguous() for t in (loc, conf, prior.detach(), label.detach())]
    outputs: tuple[Tensor, Tensor, Tensor] = multibox_loss_forward(*inputs, options.text)
    return outputs


def shape_problem(
    loc: Sequence[int], conf: Sequence[int], prior: Sequence[int], label: Sequence[int], options: MultiBoxLossOptions
) -> str | None:
    """What is wrong with bottoms of these shapes, and what to change; None if they fit."""
    if len(prior) < 3 or prior[1] != 2 or math.prod(prior) % 8 or prior[0] != 1:
        return f"the priors are {_text(prior)}; they must be 1×2×(4·priors), as PriorBox makes them"
    if math.prod(label) % 8 or label[-1] != 8:
        return f"the labels are {_text(label)}; they must be 1×1×M×8: rows of image, class, instance, box, difficult"
    if not loc or not conf or loc[0] != conf[0]:
        return f"locations are {_text(loc)} and confidences {_text(conf)}; their first axes (the batch) must agree"
    priors = math.prod(prior) // 8
    per_image = math.prod(loc[1:])
    wanted = priors * options.loc_classes * 4
    if per_image != wanted:
        by_class = "" if options.share_location else f" × {options.num_classes} classes (share_location: false)"
        return (
            f"Number of priors must match number of location predictions: {priors} priors{by_class} × 4 coordinates "
            f"make {wanted} numbers per image, but there are {per_image}{_remedy(per_image, priors, 4)}"
        )
    per_image = math.prod(conf[1:])
    wanted = priors * options.num_classes
    if per_image == wanted:
        return None
    message = (
        f"Number of priors must match number of confidence predictions: {priors} priors × {options.num_classes} "
        f"classes make {wanted} scores per image, but there are {per_image}"
    )
    if per_image and per_image % priors == 0:
        return message + (
            f", which is {per_image // priors} classes. num_classes and the num_output of the confidence layers must "
            "come from the same label map, with the background as a class"
        )
    return message + _remedy(per_image, priors, options.num_classes)


def _remedy(numbers: int, priors: int, per_prior: int) -> str:
    """A hint for a count that no number of classes explains."""
    if numbers % per_prior:
        return ""
    return (
        f", enough for {numbers // per_prior} boxes. The num_output of each prediction layer must be "
        f"{per_prior} × the boxes of its PriorBox layer (aspect ratios, flip, max_size)"
    )


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if len(shape) else "()"


def check_values(prior: Tensor, label: Tensor, images: int, options: MultiBoxLossOptions) -> None:
    """Raises DataError for label rows or variances that cannot be trained on. Reads values: not for a GPU's tensors."""
    rows = label.reshape(-1, 8)
    classes = options.num_classes
    if not bool(torch.isfinite(rows).all()):
        row = int((~torch.isfinite(rows)).any(1).nonzero()[0])
        raise DataError(f"label row {row} is not finite: {rows[row].tolist()}")
    used = (rows[:, 0] >= 0) & (rows[:, 0] < images)
    wrong = rows[:, 1] == options.background_label_id
    if not options.map_object_to_agnostic:
        wrong |= (rows[:, 1] < 0) | (rows[:, 1] >= classes)
    wrong &= used
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        image, value = int(rows[row, 0]), f"{float(rows[row, 1]):g}"
        if rows[row, 1] == options.background_label_id:
            what = f"has label {value}, which is the background (background_label_id)"
        else:
            what = f"has label {value}; num_classes: {classes} allows 0 to {classes - 1}"
        raise DataError(
            f"a box of image {image} of the batch {what} (label row {row}; {int(wrong.sum())} such rows). The label map "
            "that the data was made with and num_classes must agree, with the background as a class"
        )
    variances = prior.reshape(2, -1)[1]
    if not bool((variances > 0).all()):
        at = int((~(variances > 0)).nonzero()[0])
        raise DataError(f"variance {at % 4} of prior {at // 4} is {float(variances[at])}; variances must be positive")


def runs_on_gpu(options: MultiBoxLossOptions) -> bool:
    """Whether a GPU's tensors are processed on the GPU; otherwise they are copied to the CPU and back."""
    return _C.multibox_loss_on_gpu(_native_options(options))


def _native_options(options: MultiBoxLossOptions) -> _C.MultiBoxLossOptions:
    native = _C.MultiBoxLossOptions()
    for name, value in options.values():
        setattr(native, name, value)
    return native


def _sizes(loc: Tensor, prior: Tensor, label: Tensor) -> _C.MultiBoxLossSizes:
    sizes = _C.MultiBoxLossSizes()
    sizes.images, sizes.priors, sizes.labels = loc.shape[0], prior.numel() // 8, label.numel() // 8
    return sizes


@operator("multibox_loss")
def multibox_loss_forward(
    loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, options: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss (scalar), each prior's match (int32, N×match_classes×P) and the numbers of positives and negatives
    (int32).

    Arguments as of `multibox_loss`, as contiguous float32, and `MultiBoxLossOptions.text`. A match is the label row that
    the prior was given, −1 for none, −3 for a prior chosen as negative.
    """
    o = MultiBoxLossOptions.of_text(options)
    if not loc.is_cuda:
        return _forward_on_cpu(loc, conf, prior, label, o)
    sizes, native = _sizes(loc, prior, label), _native_options(o)
    if not _C.multibox_loss_on_gpu(native):
        _say_that_the_cpu_computes()
        loss, match, counts = _forward_on_cpu(loc.cpu(), conf.cpu(), prior.cpu(), label.cpu(), o)
        return loss.to(loc.device), match.to(loc.device), counts.to(loc.device)
    loss, match, counts = _outputs(loc, prior, o)
    size = cuda_function("multibox_loss_workspace_bytes_cuda")(sizes, native)
    workspace = loc.new_empty(size, dtype=torch.uint8)
    launch(
        "multibox_loss_forward_cuda", loc.device, sizes, native, loc.data_ptr(), conf.data_ptr(), prior.data_ptr(),
        label.data_ptr(), loss.data_ptr(), match.data_ptr(), counts.data_ptr(), workspace.data_ptr(),
    )  # fmt: skip
    return loss, match, counts


def _forward_on_cpu(
    loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, options: MultiBoxLossOptions
) -> tuple[Tensor, Tensor, Tensor]:
    check_values(prior, label, loc.shape[0], options)
    sizes, native, threads = _sizes(loc, prior, label), _native_options(options), torch.get_num_threads()
    loss, match, counts = _outputs(loc, prior, options)
    workspace = loc.new_empty(_C.multibox_loss_workspace_bytes_cpu(sizes, native, threads), dtype=torch.uint8)
    _C.multibox_loss_forward_cpu(
        sizes, native, loc.data_ptr(), conf.data_ptr(), prior.data_ptr(), label.data_ptr(), loss.data_ptr(),
        match.data_ptr(), counts.data_ptr(), workspace.data_ptr(), threads,
    )  # fmt: skip
    return loss, match, counts


@functools.cache
def _say_that_the_cpu_computes() -> None:
    log.warning(
        log.here(),
        "MultiBoxLoss with nms_param (suppression before samples are taken) runs on the CPU: every iteration waits for "
        "its predictions to be copied. Without nms_param it runs on the GPU.",
    )


def _outputs(loc: Tensor, prior: Tensor, options: MultiBoxLossOptions) -> tuple[Tensor, Tensor, Tensor]:
    match = loc.new_empty((loc.shape[0], options.match_classes, prior.numel() // 8), dtype=torch.int32)
    return loc.new_empty(()), match, loc.new_empty(2, dtype=torch.int32)


@register_fake("multibox_loss")
def _(loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, options: str) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(loc, prior, MultiBoxLossOptions.of_text(options))


@operator("multibox_loss_backward")
def multibox_loss_backward(
    top_diff: Tensor,
    loc: Tensor,
    conf: Tensor,
    prior: Tensor,
    label: Tensor,
    match: Tensor,
    counts: Tensor,
    options: str,
) -> tuple[Tensor, Tensor]:
    """The gradients of `loc` and `conf`, given that of the loss (scalar) and forward's matches."""
    sizes, native = _sizes(loc, prior, label), _native_options(MultiBoxLossOptions.of_text(options))
    loc_diff, conf_diff = torch.empty_like(loc), torch.empty_like(conf)
    arguments = (
        sizes, native, loc.data_ptr(), conf.data_ptr(), prior.data_ptr(), label.data_ptr(), match.data_ptr(),
        counts.data_ptr(), top_diff.data_ptr(), loc_diff.data_ptr(), conf_diff.data_ptr(),
    )  # fmt: skip
    if loc.is_cuda:
        launch("multibox_loss_backward_cuda", loc.device, *arguments)
    else:
        _C.multibox_loss_backward_cpu(*arguments, torch.get_num_threads())
    return loc_diff, conf_diff


@register_fake("multibox_loss_backward")
def _(
    top_diff: Tensor,
    loc: Tensor,
    conf: Tensor,
    prior: Tensor,
    label: Tensor,
    match: Tensor,
    counts: Tensor,
    options: str,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(loc), torch.empty_like(conf)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.options = inputs
    _, match, counts = output
    ctx.mark_non_differentiable(match, counts)
    ctx.save_for_backward(*tensors, match, counts)


def _backward(ctx: Any, top_diff: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    loc, conf, *others = ctx.saved_tensors
    loc_diff, conf_diff = multibox_loss_backward(top_diff.contiguous(), loc, conf, *others, ctx.options)
    return loc_diff, conf_diff, None, None, None


register_autograd("multibox_loss", _backward, _setup_context)
