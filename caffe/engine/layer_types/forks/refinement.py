"""RefineDet (Zhang et al. 2018): default boxes that a first stage has moved, in MultiBoxLoss and DetectionOutput.

The first stage (the paper's anchor refinement module) predicts for each default box whether it is an object at all, and
an offset; the second starts from the boxes that these offsets give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Shape
from caffe.engine.layer_types.shapes import can_inspect, count, text
from caffe.ops.multibox_loss import check_values, multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2

_LOSS, _CODE, _NORMALIZATION = caffe_pb2.MultiBoxLossParameter, caffe_pb2.PriorBoxParameter, caffe_pb2.LossParameter


def decode(prior: Tensor, variance: Tensor, code: Tensor, code_type: int, encoded: bool) -> Tensor:
    """The boxes that `code` gives, … × 4 corners, in the order of operations of layers/box.h.

    prior: the boxes that it starts from, … × 4; variance: the same shape. `encoded`: variances are in the code.
    """
    if not encoded:
        code = code * variance
    if code_type == _CODE.CORNER:
        return prior + code
    size = prior[..., 2:] - prior[..., :2]
    if code_type == _CODE.CORNER_SIZE:
        return prior + code * torch.cat([size, size], dim=-1)
    center = code[..., :2] * size + (prior[..., :2] + prior[..., 2:]) * 0.5
    half = code[..., 2:].exp() * size * 0.5
    return torch.cat([center - half, center + half], dim=-1)


def moved_boxes(prior: Tensor, offset: Tensor, code_type: int, encoded: bool) -> Tensor:
    """The first stage's boxes, N × P × 4. prior: 1×2×(P·4), boxes and variances; offset: N×(P·4)."""
    boxes, variance = prior.detach().reshape(2, -1, 4)
    return decode(boxes, variance, offset.detach().reshape(len(offset), len(boxes), 4), code_type, encoded)


def shape_problem(objectness: Shape, offset: Shape | None, images: int, priors: int) -> str | None:
    """What is wrong with the first stage's predictions; None if they are N×(P·2) and N×(P·4)."""
    for name, shape, values in (("objectness", objectness, 2), ("offsets", offset, 4)):
        if shape is not None and (not shape or shape[0] != images or count(shape, 1) != priors * values):
            return (
                f"the first stage's {name} are {text(shape)}; with {images} images and {priors} priors they must be "
                f"{images}×{priors * values}"
            )
    return None


def loss_problem(options: MultiBoxLossOptions, moves: bool) -> str | None:
    """Why there is no loss of this kind with a first stage; None if there is."""
    if not options.share_location:
        return "a first stage (more than four bottoms) needs share_location: true"
    if options.mining_type == _LOSS.HARD_EXAMPLE or options.nms_threshold > 0:
        return "a first stage (more than four bottoms) works with mining_type MAX_NEGATIVE or NONE, without nms_param"
    if moves and not options.use_prior_for_matching:
        return "boxes that a first stage has moved (six bottoms) need use_prior_for_matching: true"
    return None


def refined_loss(
    loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor, first_stage: Sequence[Tensor],
    options: MultiBoxLossOptions, objectness_score: float,
) -> Tensor:  # fmt: skip
    """MultiBoxLoss with a first stage: N×(P·2) scores (background, object), and N×(P·4) offsets if they move the boxes.

    Objects are matched with the moved boxes, and locations are relative to them. A box that has no object and whose
    score is below `objectness_score` is not used as a negative. The first stage gets no gradient.
    """
    images, priors = len(loc), prior.numel() // 8
    if can_inspect(label):
        check_values(prior, label, images, options)
    loc, conf = loc.float().reshape(images, priors, 4), conf.float().reshape(images, priors, options.num_classes)
    boxes, variance = prior.detach().float().reshape(2, priors, 4)
    moved = boxes.expand(images, -1, -1)
    if len(first_stage) > 1:
        moved = moved_boxes(prior.float(), first_stage[1].float(), options.code_type, options.encode_variance_in_target)
    likely = first_stage[0].detach().reshape(images, priors, 2)[:, :, 1] >= objectness_score
    rows = label.detach().to(loc.device).float().reshape(-1, 8)
    single = dataclasses.replace(options, normalization=_NORMALIZATION.NONE)
    only_matches = dataclasses.replace(single, mining_type=_LOSS.NONE)

    total, positives = loc.new_zeros(()), loc.new_zeros((), dtype=torch.int64)
    for image in range(images):
        own = rows.clone()
        own[:, 0] = torch.where(rows[:, 0] == image, 0.0, -1.0)
        inputs = [loc[image], conf[image], moved[image], variance]
        if options.mining_type != _LOSS.NONE:
            _, match, _ = multibox_loss_forward(*_batch_of_one(*(t.detach() for t in inputs)), own, only_matches.text)
            used = likely[image] | (match >= 0).any(dim=1)[0]
            inputs = [t[used] for t in inputs]
        loss, _, counts = multibox_loss_forward(*_batch_of_one(*inputs), own, single.text)
        total, positives = total + loss, positives + counts[0]
    return total / normalizer(options.normalization, images, priors, positives)


def _batch_of_one(loc: Tensor, conf: Tensor, boxes: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An image's predictions and boxes, P × values each, as the operator takes them."""
    return loc.reshape(1, -1).contiguous(), conf.reshape(1, -1).contiguous(), torch.stack([boxes, variance])[None]


def normalizer(mode: int, images: int, priors: int, positives: Tensor) -> Tensor | float:
    """The divisor of a batch's summed loss, at least 1."""
    if mode == _NORMALIZATION.VALID:
        return positives.clamp(min=1)
    sizes: dict[int, int] = {_NORMALIZATION.FULL: images * priors, _NORMALIZATION.BATCH_SIZE: images}
    return float(max(sizes.get(mode, 1), 1))


def refined_predictions(
    loc: Tensor, conf: Tensor, prior: Tensor, first_stage: Sequence[Tensor], num_classes: int,
    objectness_score: float, code_type: int, encoded: bool,
) -> tuple[Tensor, Tensor, Tensor, bool]:  # fmt: skip
    """Locations, confidences, priors and whether variances are in the code, for a DetectionOutput without a first stage.

    A box whose objectness is below `objectness_score` has score 1 for class 0 and 0 for the others. With offsets as a
    second tensor of `first_stage` the locations are the boxes themselves, as CORNER codes from priors of zeros.
    """
    images, priors = len(loc), prior.numel() // 8
    conf = conf.reshape(images, priors, num_classes)
    background = conf.new_zeros(num_classes)
    background[0] = 1
    unlikely = first_stage[0].reshape(images, priors, 2)[:, :, 1:] < objectness_score
    conf = torch.where(unlikely, background, conf)
    if len(first_stage) < 2:
        return loc, conf, prior, encoded
    moved = moved_boxes(prior.float(), first_stage[1].float(), code_type, encoded)
    variance = prior.float().reshape(2, -1, 4)[1]
    boxes = decode(moved, variance, loc.float().reshape(images, priors, 4), code_type, encoded)
    return boxes.reshape(images, -1), conf, torch.zeros_like(prior), True
