"""DetectionOutput: location and confidence predictions to the list of detections (SSD, section 2.2; Caffe's layer).

`detection_output` returns the rows of Caffe's layer. `detection_output_static` has outputs whose shapes depend
only on the shapes of its inputs, and never waits for the device, so it can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe import _C
from caffe.ops.cuda import cuda_function, launch
from caffe.ops.operator import operator, register_fake

#: PriorBoxParameter.CodeType: how a location prediction is encoded relative to its prior
CORNER, CENTER_SIZE, CORNER_SIZE = 1, 2, 3


def detection_output(
    loc: Tensor,
    conf: Tensor,
    prior: Tensor,
    *,
    num_classes: int,
    share_location: bool = True,
    background_label_id: int = 0,
    code_type: int = CORNER,
    variance_encoded_in_target: bool = False,
    confidence_threshold: float = -torch.finfo(torch.float32).max,
    nms_threshold: float = 0.3,
    eta: float = 1.0,
    top_k: int = -1,
    keep_top_k: int = -1,
) -> Tensor:
    """The detections of a batch, K×7: image, label, score, xmin, ymin, xmax, ymax; by image, label, falling score.

    Arguments as of `detection_output_static`. If the whole batch has no detection, there is one row per image: its id,
    then six −1.
    """
    rows, counts = detection_output_static(
        loc, conf, prior, num_classes, share_location, background_label_id, code_type, variance_encoded_in_target,
        confidence_threshold, nms_threshold, eta, top_k, keep_top_k,
    )  # fmt: skip
    return trim(rows, counts)


def trim(rows: Tensor, counts: Tensor) -> Tensor:
    """The used rows, K×7, of `detection_output_static`'s result; if there are none, one row of −1 per image."""
    num, capacity, _ = rows.shape
    used = rows[torch.arange(capacity, device=rows.device) < counts[:, None]]
    if used.shape[0] > 0:
        return used
    nothing = rows.new_full((num, 7), -1.0)
    nothing[:, 0] = torch.arange(num, device=rows.device)
    return nothing


@operator("detection_output")
def detection_output_static(
    loc: Tensor,
    conf: Tensor,
    prior: Tensor,
    num_classes: int,
    share_location: bool,
    background_label_id: int,
    code_type: int,
    variance_encoded_in_target: bool,
    confidence_threshold: float,
    nms_threshold: float,
    eta: float,
    top_k: int,
    keep_top_k: int,
) -> tuple[Tensor, Tensor]:
    """The detections of each image in separate rows, N×capacity×7, and their counts, N (int32).

    loc: N×(P·L·4) coded boxes, L = 1 with `share_location`, else `num_classes`. conf: N×(P·num_classes) scores.
    prior: 1×2×(P·4), boxes and variances. Axes after the first are flattened; computed in float32.
    Negative limits (`top_k`, `keep_top_k`) mean no limit. Rows past an image's count are its id and six −1.
    capacity is keep_top_k, or the largest possible count if that is less. Has no gradient.
    Raises ValueError if shapes, devices or settings do not fit each other.
    """
    num_priors = _check(loc, conf, prior, num_classes, share_location, nms_threshold, eta, code_type)
    options = _C.DetectionOutputOptions()
    options.num, options.num_priors, options.num_classes = loc.shape[0], num_priors, num_classes
    options.share_location, options.background_label_id = share_location, background_label_id
    options.code_type, options.variance_encoded_in_target = code_type, variance_encoded_in_target
    options.confidence_threshold, options.nms_threshold, options.eta = confidence_threshold, nms_threshold, eta
    options.top_k, options.keep_top_k = top_k, keep_top_k
    loc, conf, prior = (t.detach().to(torch.float32).contiguous() for t in (loc, conf, prior))
    rows = loc.new_empty((loc.shape[0], options.capacity(), 7))
    counts = loc.new_empty((loc.shape[0],), dtype=torch.int32)
    threads = torch.get_num_threads()
    if loc.is_cuda:
        size = cuda_function("detection_output_workspace_bytes_cuda")(options)
    else:
        size = _C.detection_output_workspace_bytes_cpu(options, threads)
    workspace = loc.new_empty(size, dtype=torch.uint8)
    arguments = (
        options, loc.data_ptr(), conf.data_ptr(), prior.data_ptr(), rows.data_ptr(), counts.data_ptr(),
        workspace.data_ptr(),
    )  # fmt: skip
    if loc.is_cuda:
        launch("detection_output_cuda", loc.device, *arguments)
    else:
        _C.detection_output_cpu(*arguments, threads)
    return rows, counts


@register_fake("detection_output")
def _(
    loc: Tensor, conf: Tensor, prior: Tensor, num_classes: int, share_location: bool, background_label_id: int,
    code_type: int, variance_encoded_in_target: bool, confidence_threshold: float, nms_threshold: float, eta: float,
    top_k: int, keep_top_k: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    num_priors = prior.numel() // 8
    most = (num_classes - (0 <= background_label_id < num_classes)) * (
        num_priors if top_k < 0 else min(top_k, num_priors)
    )
    capacity = most if keep_top_k < 0 else min(keep_top_k, most)
    rows = loc.new_empty((loc.shape[0], capacity, 7), dtype=torch.float32)
    return rows, loc.new_empty((loc.shape[0],), dtype=torch.int32)


def _check(
    loc: Tensor, conf: Tensor, prior: Tensor, num_classes: int, share_location: bool, nms_threshold: float,
    eta: float, code_type: int,
) -> int:  # fmt: skip
    """The number of priors; raises ValueError if the arguments do not fit each other."""
    if not (loc.device == conf.device == prior.device):
        raise ValueError(
            f"loc is on {loc.device}, conf on {conf.device}, prior on {prior.device}: all must be on one device"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    if prior.numel() % 8:
        raise ValueError(f"prior has shape {tuple(prior.shape)}; it must be 1 x 2 x (number of priors * 4)")
    num, num_priors = loc.shape[0], prior.numel() // 8
    if conf.shape[0] != num:
        raise ValueError(f"loc has {num} images, but conf has {conf.shape[0]}")
    loc_values = num_priors * 4 * (1 if share_location else num_classes)
    for name, tensor, want in (("location", loc, loc_values), ("confidence", conf, num_priors * num_classes)):
        if tensor.numel() != num * want:
            raise ValueError(
                f"Number of priors must match number of {name} predictions: {num_priors} priors and {num_classes} "
                f"classes need {want} values per image, but there are {tensor.numel() // max(num, 1)}"
            )
    if num_priors * num_classes >= 1 << 32:
        raise ValueError(
            f"{num_priors} priors times {num_classes} classes is too many: there must be fewer than 2^32 scores"
        )
    if not nms_threshold >= 0:
        raise ValueError(f"nms_threshold is {nms_threshold:g}; it must be at least 0")
    if not 0 < eta <= 1:
        raise ValueError(f"eta is {eta:g}; it must be over 0 and at most 1")
    if code_type not in (CORNER, CENTER_SIZE, CORNER_SIZE):
        raise ValueError(f"code_type is {code_type}; it must be 1 (CORNER), 2 (CENTER_SIZE) or 3 (CORNER_SIZE)")
    return num_priors
