"""MultiBoxLoss: the training loss of SSD (Liu et al. 2016, section 2.2; Caffe's MultiBoxLossLayer)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe import log
from caffe.engine.layer import Layer, Shape, register
from caffe.errors import NetError
from caffe.ops.multibox_loss import multibox_loss, runs_on_gpu, shape_problem
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2

_LOSS = caffe_pb2.MultiBoxLossParameter


@register
class MultiBoxLoss(Layer):
    """Bottoms: locations, confidences, priors, labels (see caffe.ops.multibox_loss). Top: the loss.

    Priors and labels get no gradient, whatever propagate_down says; if it is false for locations or confidences, that
    part is left out of the loss.
    """

    type_name = "MultiBoxLoss"
    bottoms = (4, 4)
    tops = (1, 1)
    auto_tops = True
    is_loss = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        try:
            self.options = MultiBoxLossOptions.of_layer(self.param)
        except NetError as error:
            self.fail(str(error))
        if self.param.multibox_loss_param.HasField("do_neg_mining"):
            log.warning("multibox_loss_layer.cpp:42", "do_neg_mining is deprecated, use mining_type instead.")
        o = self.options
        if o.conf_loss_type == _LOSS.LOGISTIC and o.mining_type == _LOSS.NONE and bottom[0][0] > 1:
            log.warning(
                log.here(),
                f"layer '{self.name}': conf_loss_type LOGISTIC with mining_type NONE matches the objects of every image "
                "but the first to the wrong scores (as the original did; its numbers are kept). Use a mining_type.",
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
