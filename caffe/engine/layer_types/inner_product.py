"""InnerProduct (fully connected) and Embed (the same for one-hot inputs, given as indices)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.unit_norm import normalize_rows
from caffe.engine.layer_types.shapes import can_inspect, count, text


@register
class InnerProduct(Layer):
    """All from `axis` on, as a vector, times the weights (num_output × inputs; `transpose`: swapped), plus bias.

    Of caffe-windows: with `normalize` each row of the weights is divided by its length before each pass; and the weights
    may be a second bottom, whose first axis counts the outputs, and the bias a third.
    """

    type_name = "InnerProduct"
    bottoms = (1, 3)
    fresh_tops = True
    keeps_bottoms = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.inner_product_param
        if param.transpose and (param.normalize or len(bottom) > 1):
            self.fail("transpose goes neither with normalize nor with weights as a second bottom")
        if len(bottom) > 2 and not param.bias_term:
            self.fail("has a bias as third bottom, but bias_term: false")
        if len(bottom) == 1 and param.num_output < 1:
            self.fail("num_output must be given and positive")
        self.inputs = count(bottom[0], self.canonical_axis(param.axis, len(bottom[0])))
        outputs = param.num_output
        if len(bottom) == 1:
            shape = (outputs, self.inputs)
            self.add_blob(shape[::-1] if param.transpose else shape, param.weight_filler)
        elif bottom[1]:
            outputs = bottom[1][0]
        if param.bias_term and len(bottom) < 3:
            self.add_blob((outputs,), param.bias_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        param = self.param.inner_product_param
        axis = self.canonical_axis(param.axis, len(bottom[0]))
        inputs = count(bottom[0], axis)
        if inputs != self.inputs:
            self.fail(
                f"the weights take {self.inputs} inputs, but the bottom {text(bottom[0])} has {inputs} from axis "
                f"{axis} on"
            )
        outputs = param.num_output
        if len(bottom) > 1:
            if not bottom[1] or count(bottom[1], 1) != inputs:
                self.fail(f"needs weights for {inputs} inputs; '{self.param.bottom[1]}' is {text(bottom[1])}")
            outputs = bottom[1][0]
            bias = bottom[2] if len(bottom) > 2 else self.blobs[0].shape if self.blobs else (outputs,)
            if count(bias) != outputs:
                self.fail(f"has weights for {outputs} outputs, but a bias of {text(bias)}")
        return [(*bottom[0][:axis], outputs)]

    def compile_obstacle(self) -> str | None:
        return "normalizes its weights in place" if self.param.inner_product_param.normalize else None

    def constrain(self) -> None:
        """What is done to the weights before each pass."""
        if self.param.inner_product_param.normalize and len(self.param.bottom) == 1:
            normalize_rows(self.blobs[0])

    def forward(self, *bottom: Tensor) -> Tensor:
        self.constrain()
        x = bottom[0]
        param = self.param.inner_product_param
        vectors = x.flatten(self.canonical_axis(param.axis, x.dim()))
        if len(bottom) == 1:
            weight = self.blobs[0].t() if param.transpose else self.blobs[0]
            return F.linear(vectors, weight, self.blobs[1] if len(self.blobs) > 1 else None)
        bias = bottom[2].flatten() if len(bottom) > 2 else self.blobs[0] if self.blobs else None
        return F.linear(vectors, bottom[1].flatten(1), bias)


@register
class Embed(Layer):
    """Row x of the weights (input_dim × num_output) for every index x, + bias; the new axis comes last."""

    type_name = "Embed"

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.embed_param
        if param.num_output < 1 or param.input_dim < 1:
            self.fail("num_output and input_dim must be given and positive")
        self.add_blob((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_blob((param.num_output,), param.bias_filler)

    def takes_gradient(self, index: int) -> bool:
        return False

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        return [(*bottom[0], self.param.embed_param.num_output)]

    def forward(self, *bottom: Tensor) -> Tensor:
        index = bottom[0].detach().long()
        rows = len(self.blobs[0])
        if can_inspect(index) and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < rows:
            self.fail(f"indices run from {int(index.min())} to {int(index.max())}; input_dim allows 0 to {rows - 1}")
        top = F.embedding(index, self.blobs[0])
        return top + self.blobs[1] if len(self.blobs) > 1 else top
