"""InnerProduct (fully connected) and Embed (the same for one-hot inputs, given as indices)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.shapes import can_inspect, count, text


@register
class InnerProduct(Layer):
    """All from `axis` on, as a vector, times the weights (num_output × inputs; `transpose`: swapped), plus bias."""

    type_name = "InnerProduct"
    fresh_tops = True
    keeps_bottoms = True

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.inner_product_param
        if param.num_output < 1:
            self.fail("num_output must be given and positive")
        self.inputs = count(bottom[0], self.canonical_axis(param.axis, len(bottom[0])))
        shape = (param.num_output, self.inputs)
        self.add_blob(shape[::-1] if param.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_blob((param.num_output,), param.bias_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        param = self.param.inner_product_param
        axis = self.canonical_axis(param.axis, len(bottom[0]))
        inputs = count(bottom[0], axis)
        if inputs != self.inputs:
            self.fail(
                f"the weights take {self.inputs} inputs, but the bottom {text(bottom[0])} has {inputs} from axis "
                f"{axis} on"
            )
        return [(*bottom[0][:axis], param.num_output)]

    def forward(self, *bottom: Tensor) -> Tensor:
        (x,) = bottom
        param = self.param.inner_product_param
        weight = self.blobs[0].t() if param.transpose else self.blobs[0]
        vectors = x.flatten(self.canonical_axis(param.axis, x.dim()))
        return F.linear(vectors, weight, self.blobs[1] if len(self.blobs) > 1 else None)


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
