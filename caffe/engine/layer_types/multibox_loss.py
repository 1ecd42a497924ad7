"""MultiBoxLoss: the training loss of SSD (Liu et al. 2016, section 2.2; Caffe's MultiBoxLossLayer)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe import log
from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks import refinement
from caffe.engine.layer_types.forks.focal_loss import FocalMultiBoxLoss, focus_of
from caffe.errors import NetError
from caffe.ops.multibox_loss import multibox_loss, runs_on_gpu, shape_problem
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2

_LOSS = caffe_pb2.MultiBoxLossParameter


@register
class MultiBoxLoss(Layer):
    """Bottoms: locations, confidences, priors, labels (see caffe.ops.multibox_loss). Top: the loss.

    A fifth bottom, and a sixth, are the objectness and offsets of RefineDet's first stage (see forks/refinement.py).
    With conf_loss_type FOCALLOSS (of CAFFE_SSD) the confidence loss is the focal loss (see forks/focal_loss.py).

    Priors and labels get no gradient, whatever propagate_down says; if it is false for locations or confidences, that
    part is left out of the loss.
    """

    type_name = "MultiBoxLoss"
    bottoms = (4, 6)
    tops = (1, 1)
    auto_tops = True
    is_loss = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        try:
            self.options = MultiBoxLossOptions.of_layer(self.param)
        except NetError as error:
            self.fail(str(error))
        self.focal_loss = FocalMultiBoxLoss(self.options, focus_of(self)) if self.has_focal_loss() else None
        if len(bottom) > 4 and self.focal_loss:
            self.fail("conf_loss_type FOCALLOSS takes four bottoms; a first stage works with SOFTMAX or LOGISTIC")
        if len(bottom) > 4 and (problem := refinement.loss_problem(self.options, moves=len(bottom) > 5)):
            self.fail(problem)
        if self.param.multibox_loss_param.HasField("do_neg_mining"):
            log.warning("multibox_loss_layer.cpp:42", "do_neg_mining is deprecated, use mining_type instead.")
        o = self.options
        if o.conf_loss_type == _LOSS.LOGISTIC and o.mining_type == _LOSS.NONE and bottom[0][0] > 1:
            log.warning(
                log.here(),
                f"layer '{self.name}': conf_loss_type LOGISTIC with mining_type NONE matches the objects of every image "
                "but the first to the wrong scores (as the original did; its numbers are kept). Use a mining_type.",
            )

    def has_focal_loss(self) -> bool:
        """Whether the confidence loss is the focal loss."""
        return bool(self.param.multibox_loss_param.conf_loss_type == _LOSS.FOCALLOSS)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        problem = shape_problem(bottom[0], bottom[1], bottom[2], bottom[3], self.options)
        if problem is None and len(bottom) > 4:
            offsets = bottom[5] if len(bottom) > 5 else None
            problem = refinement.shape_problem(bottom[4], offsets, bottom[0][0], bottom[2][2] // 4)
        if problem:
            self.fail(problem)
        return [()]

    def forward(self, *bottom: Tensor) -> Tensor:
        loc, conf, prior, label = bottom[:4]
        if len(bottom) > 4:
            score = self.param.multibox_loss_param.objectness_score
            return refinement.refined_loss(loc, conf, prior, label, bottom[4:], self.options, score)
        if self.focal_loss:
            return self.focal_loss(loc, conf, prior, label)
        return multibox_loss(loc, conf, prior, label, self.options)

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def takes_padding(self, index: int) -> bool:
        return index == 3

    def graph_obstacle(self) -> str | None:
        if len(self.param.bottom) > 4:
            return "leaves out boxes by their objectness"
        return None if runs_on_gpu(self.options) else "with nms_param runs on the CPU"

    def compile_obstacle(self) -> str | None:
        return self.graph_obstacle() if len(self.param.bottom) > 4 else None
