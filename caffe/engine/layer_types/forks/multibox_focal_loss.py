"""MultiBoxFocalLoss of chuanqi305/FocalLoss."""

from __future__ import annotations

from caffe.engine.layer import register
from caffe.engine.layer_types.multibox_loss import MultiBoxLoss
from caffe.proto import caffe_pb2


@register
class MultiBoxFocalLoss(MultiBoxLoss):
    """MultiBoxLoss with the focal loss in the place of conf_loss_type SOFTMAX. With LOGISTIC it is MultiBoxLoss."""

    type_name = "MultiBoxFocalLoss"
    bottoms = (4, 4)

    def has_focal_loss(self) -> bool:
        return bool(self.param.multibox_loss_param.conf_loss_type != caffe_pb2.MultiBoxLossParameter.LOGISTIC)
