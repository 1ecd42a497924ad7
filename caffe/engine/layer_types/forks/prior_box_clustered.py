"""PriorBoxClustered of OpenVINO's Caffe: default boxes whose widths and heights are given one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe.engine.layer import register
from caffe.engine.layer_types.prior_box import PriorBox


@register
class PriorBoxClustered(PriorBox):
    """As PriorBox, with the boxes from `width` and `height` of prior_box_param, in pixels that may be fractions.

    Each pair is one box. Clusters of objects' sizes give them. min_size, max_size, aspect_ratio and flip have no effect.
    """

    type_name = "PriorBoxClustered"

    def box_sizes(self) -> Tensor:
        param = self.param.prior_box_param
        if not param.width or len(param.width) != len(param.height):
            self.fail(
                f"needs width and height, as many of one as of the other, not {len(param.width)} and {len(param.height)}"
            )
        self.check_positive("width", "height")
        if param.denser_prior_boxes:
            self.fail("denser_prior_boxes is for PriorBox layers")
        return torch.tensor([list(param.width), list(param.height)], dtype=torch.float32).t().contiguous()
