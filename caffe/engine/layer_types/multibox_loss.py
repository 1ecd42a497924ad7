"""MultiBoxLoss: the training loss of SSD (Liu et al. 2016, section 2.2; Caffe's MultiBoxLossLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from caffe import log
from caffe.engine.layer import Layer, Shape, register
from caffe.errors import NetError
from caffe.ops.multibox_loss import MultiBoxLossOptions, multibox_loss, runs_on_gpu, shape_problem
from caffe.proto import caffe_pb2

_LOSS = caffe_pb2.MultiBoxLossParameter
_NORMALIZATION = caffe_pb2.LossParameter


def options_of(param: Any) -> MultiBoxLossOptions:
    """A LayerParameter's options; raises NetError where they contradict each other."""
    p, loss = param.multibox_loss_param, param.loss_param
    if not p.HasField("num_classes"):
        raise NetError("multibox_loss_param needs num_classes: the classes of the label map, background included")
    if p.HasField("do_neg_mining") and p.do_neg_mining != (p.mining_type != _LOSS.NONE):
        raise NetError(
            f"do_neg_mining: {str(p.do_neg_mining).lower()} contradicts mining_type: "
            f"{_LOSS.MiningType.Name(p.mining_type)}; do_neg_mining is the old form, leave it out"
        )
    normalization = loss.normalization
    if not loss.HasField("normalization") and loss.HasField("normalize"):
        normalization = _NORMALIZATION.VALID if loss.normalize else _NORMALIZATION.BATCH_SIZE
    down = list(param.propagate_down) or [True, True]
    background = p.background_label_id
    return MultiBoxLossOptions(
        num_classes=p.num_classes,
        share_location=p.share_location,
        loc_loss_type=p.loc_loss_type,
        conf_loss_type=p.conf_loss_type,
        loc_weight=p.loc_weight,
        with_loc=down[0],
        with_conf=down[1],
        match_type=p.match_type,
        overlap_threshold=p.overlap_threshold,
        use_prior_for_matching=p.use_prior_for_matching,
        # The field is unsigned; −1, "no background", is written as 2³² − 1.
        background_label_id=background - (1 << 32) if background >= 1 << 31 else background,
        use_difficult_gt=p.use_difficult_gt,
        neg_pos_ratio=p.neg_pos_ratio,
        neg_overlap=p.neg_overlap,
        code_type=p.code_type,
        variance_in_target=p.encode_variance_in_target,
        map_object_to_agnostic=p.map_object_to_agnostic,
        ignore_cross_boundary_bbox=p.ignore_cross_boundary_bbox,
        bp_inside=p.bp_inside,
        mining_type=p.mining_type,
        nms_threshold=p.nms_param.nms_threshold if p.HasField("nms_param") else 0.0,
        nms_top_k=p.nms_param.top_k if p.HasField("nms_param") else -1,
        use_prior_for_nms=p.use_prior_for_nms,
        sample_size=p.sample_size,
        normalization=normalization,
    )


@register
class MultiBoxLoss(Layer):
    """Bottoms: locations, confidences, priors, labels (see caffe.ops.multibox_loss). Top: the loss.

    Priors and labels get no gradient, whatever propagate_down says of them; where it is false for locations or
    confidences, that part is left out of the loss.
    """

    type_name = "MultiBoxLoss"
    bottoms = (4, 4)
    tops = (1, 1)
    auto_tops = True
    is_loss = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        try:
            self.options = options_of(self.param)
        except NetError as error:
            self.fail(str(error))
        if self.param.multibox_loss_param.HasField("do_neg_mining"):
            log.warning("multibox_loss_layer.cpp:42", "do_neg_mining is deprecated, use mining_type instead.")
        o = self.options
        if o.conf_loss_type == _LOSS.LOGISTIC and o.mining_type == _LOSS.NONE and bottom[0][0] > 1:
            log.warning(
                log.here(),
                f"layer '{self.name}': conf_loss_type LOGISTIC with mining_type NONE gives the objects of every image "
                "but the first to the wrong scores (so did the original; its numbers are kept). Use a mining_type.",
            )

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        problem = shape_problem(bottom[0], bottom[1], bottom[2], bottom[3], self.options)
        if problem:
            self.fail(problem)
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        loc, conf, prior, label = bottom
        return multibox_loss(loc, conf, prior, label, self.options)

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def takes_padding(self, index: int) -> bool:
        return index == 3

    def graph_obstacle(self) -> str | None:
        return None if runs_on_gpu(self.options) else "with nms_param runs on the CPU"

    def compile_obstacle(self) -> str | None:
        return None
