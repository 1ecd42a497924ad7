"""MultiBoxLoss's options: the one place where a prototxt's fields become what the native code takes."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from caffe.errors import NetError
from caffe.proto import caffe_pb2

_LOSS = caffe_pb2.MultiBoxLossParameter
_CODE = caffe_pb2.PriorBoxParameter
_NORMALIZATION = caffe_pb2.LossParameter


@dataclass(frozen=True)
class MultiBoxLossOptions:
    """MultiBoxLossParameter's fields, `normalization` of LossParameter, and what propagate_down says.

    The enumerations are numbers of caffe.proto. with_loc, with_conf: whether a part takes part in the loss.
    background_label_id −1: no background (LOGISTIC). nms_threshold 0: no suppression before samples are taken.
    """

    num_classes: int
    share_location: bool = True
    loc_loss_type: int = _LOSS.SMOOTH_L1
    conf_loss_type: int = _LOSS.SOFTMAX
    loc_weight: float = 1.0
    with_loc: bool = True
    with_conf: bool = True
    match_type: int = _LOSS.PER_PREDICTION
    overlap_threshold: float = 0.5
    use_prior_for_matching: bool = True
    background_label_id: int = 0
    use_difficult_gt: bool = True
    neg_pos_ratio: float = 3.0
    neg_overlap: float = 0.5
    code_type: int = _CODE.CORNER
    encode_variance_in_target: bool = False
    map_object_to_agnostic: bool = False
    ignore_cross_boundary_bbox: bool = False
    bp_inside: bool = False
    mining_type: int = _LOSS.MAX_NEGATIVE
    nms_threshold: float = 0.0
    nms_top_k: int = -1
    use_prior_for_nms: bool = False
    sample_size: int = 64
    normalization: int = _NORMALIZATION.VALID
    #: all of it as JSON, which is how an operator takes it: the arguments of one are tensors, numbers or text
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", json.dumps(dict(self.values())))
        if self.num_classes < 1:
            raise NetError(f"num_classes is {self.num_classes}; it must be at least 1 (the background counts as one)")
        has_background = 0 <= self.background_label_id < self.num_classes
        if self.conf_loss_type == _LOSS.SOFTMAX and not has_background:
            raise NetError(
                f"background_label_id is {self.background_label_id}; with conf_loss_type SOFTMAX the background is one "
                f"of the num_classes: {self.num_classes} classes, 0 to {self.num_classes - 1}"
            )
        if self.normalization == _NORMALIZATION.PRE_FIXED:
            raise NetError(
                "normalization PRE_FIXED belongs to the losses of R-FCN; MultiBoxLoss takes VALID, FULL, BATCH_SIZE or NONE"
            )
        if self.mining_type != _LOSS.NONE and not self.share_location:
            raise NetError(
                f"mining_type {_LOSS.MiningType.Name(self.mining_type)} needs share_location: true; with locations by "
                "class use mining_type: NONE"
            )
        if self.mining_type == _LOSS.HARD_EXAMPLE and self.sample_size < 1:
            raise NetError(f"sample_size is {self.sample_size}; mining_type HARD_EXAMPLE needs at least 1")
        if self.map_object_to_agnostic and self.num_classes != self.background_label_id + 2:
            raise NetError(
                f"map_object_to_agnostic makes every object class {self.background_label_id + 1}, so num_classes must "
                f"be {self.background_label_id + 2}, not {self.num_classes}"
            )

    @property
    def loc_classes(self) -> int:
        """Locations predicted for each prior."""
        return 1 if self.share_location else self.num_classes

    @property
    def match_classes(self) -> int:
        """Classes that are matched one by one: those that match their own predictions."""
        return 1 if self.share_location or self.use_prior_for_matching else self.num_classes

    def values(self) -> Iterator[tuple[str, int | float]]:
        """Each option's name and value."""
        for name in _NAMES:
            yield name, getattr(self, name)

    @staticmethod
    @functools.lru_cache
    def of_text(text: str) -> MultiBoxLossOptions:
        """The inverse of `text`."""
        return MultiBoxLossOptions(**json.loads(text))

    @staticmethod
    def of_layer(layer: caffe_pb2.LayerParameter) -> MultiBoxLossOptions:
        """The options that a layer of a prototxt asks for; raises NetError where they contradict each other.

        Options are fields of its multibox_loss_param by the same names, except for those written out here.
        conf_loss_type FOCALLOSS becomes SOFTMAX.
        """
        p, loss = layer.multibox_loss_param, layer.loss_param
        if not p.HasField("num_classes"):
            raise NetError("multibox_loss_param needs num_classes: the classes of the label map, background included")
        if p.HasField("do_neg_mining") and p.do_neg_mining != (p.mining_type != _LOSS.NONE):
            raise NetError(
                f"do_neg_mining: {str(p.do_neg_mining).lower()} contradicts mining_type: "
                f"{_LOSS.MiningType.Name(p.mining_type)}; do_neg_mining is the old form, leave it out"
            )
        options: dict[str, Any] = {name: getattr(p, name) for name in _NAMES if name in p.DESCRIPTOR.fields_by_name}
        options["with_loc"], options["with_conf"] = [*layer.propagate_down, True, True][:2]
        # The focal loss has softmax's matches, negatives and background; what differs is in layer_types/forks/focal_loss.
        if p.conf_loss_type == _LOSS.FOCALLOSS:
            options["conf_loss_type"] = _LOSS.SOFTMAX
        # The field is unsigned; −1, "no background", is written as 2³² − 1.
        if p.background_label_id >= 1 << 31:
            options["background_label_id"] = p.background_label_id - (1 << 32)
        if p.HasField("nms_param"):
            options["nms_threshold"], options["nms_top_k"] = p.nms_param.nms_threshold, p.nms_param.top_k
        options["normalization"] = loss.normalization
        if not loss.HasField("normalization") and loss.HasField("normalize"):
            options["normalization"] = _NORMALIZATION.VALID if loss.normalize else _NORMALIZATION.BATCH_SIZE
        return MultiBoxLossOptions(**options)


_NAMES = [option.name for option in dataclasses.fields(MultiBoxLossOptions) if option.init]
