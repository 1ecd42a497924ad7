"""InnerDistance of caffe-windows (NormFace, Wang et al. 2017): how far features are from the vectors of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.unit_norm import normalize_rows
from caffe.engine.layer_types.shapes import class_index, count, full_precision, labels_of, text


@register
class InnerDistance(Layer):
    """The distances of what `axis` and those after it hold from each vector: top M × N for M items and N vectors.

    distance_type L2 means the sum of squares, L1 that of magnitudes. The vectors are the blob, num_output × K, or the
    second bottom, whose first axis counts them. With `normalize` the blob's vectors are divided by their lengths before
    each pass. update_center_only, with the labels as a third bottom, lets the vector of a class learn from its own items
    alone. bias_term has no effect. `transpose`, which the fork does not compute right, is refused, and so is
    update_center_only with fewer bottoms, where it takes the labels for the vectors.
    """

    type_name = "InnerDistance"
    bottoms = (1, 3)
    fresh_tops = True
    keeps_bottoms = True

    def takes_gradient(self, index: int) -> bool:
        return index < 2

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.inner_distance_param
        if param.distance_type not in ("L1", "L2"):
            self.fail(f"distance_type must be L1 or L2, not '{param.distance_type}'")
        if param.transpose:
            self.fail("transpose is not supported: the fork takes the blob's rows for vectors all the same")
        if param.update_center_only != (len(bottom) == 3):
            self.fail("update_center_only: true and a third bottom, the labels, need each other")
        self.inputs = count(bottom[0], self.canonical_axis(param.axis, len(bottom[0])))
        if len(bottom) == 1:
            if param.num_output < 1:
                self.fail("num_output must be given and positive")
            self.add_blob((param.num_output, self.inputs), param.weight_filler)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        axis = self.canonical_axis(self.param.inner_distance_param.axis, len(bottom[0]))
        if count(bottom[0], axis) != self.inputs:
            self.fail(f"the vectors have {self.inputs} values, but {text(bottom[0])} has others from axis {axis} on")
        vectors = self.blobs[0].shape if len(bottom) == 1 else bottom[1]
        if not vectors or count(vectors, 1) != self.inputs:
            self.fail(f"'{self.param.bottom[1]}' is {text(vectors)}; its vectors must have {self.inputs} values")
        if len(bottom) == 3 and count(bottom[2]) != count(bottom[0], 0, axis):
            self.fail(f"needs one label per item; '{self.param.bottom[2]}' is {text(bottom[2])}")
        return [(*bottom[0][:axis], vectors[0])]

    def compile_obstacle(self) -> str | None:
        return "normalizes its weights in place" if self.param.inner_distance_param.normalize else None

    def constrain(self) -> None:
        """What is done to the blob before each pass."""
        if self.param.inner_distance_param.normalize and self.blobs:
            normalize_rows(self.blobs[0])

    def forward(self, *bottom: Tensor) -> Tensor:
        self.constrain()
        param = self.param.inner_distance_param
        axis = self.canonical_axis(param.axis, bottom[0].dim())
        x = full_precision(bottom[0]).reshape(count(bottom[0].shape, 0, axis), self.inputs)
        vectors = full_precision(self.blobs[0] if len(bottom) == 1 else bottom[1])
        vectors = vectors.reshape(len(vectors), self.inputs)
        if len(bottom) < 3:
            top = self._distances(x, vectors)
        else:  # the same values twice, each with the gradient of one side
            labels, _ = class_index(labels_of(bottom[2]), len(vectors))
            own = torch.arange(len(vectors), device=labels.device) == labels[:, None]
            to_vectors = self._distances(x.detach(), vectors) * own
            top = self._distances(x, vectors.detach()) + to_vectors - to_vectors.detach()
        return top.reshape(*bottom[0].shape[:axis], len(vectors)).to(bottom[0].dtype)

    def _distances(self, x: Tensor, vectors: Tensor) -> Tensor:
        if self.param.inner_distance_param.distance_type == "L1":
            return torch.cdist(x, vectors, p=1)
        # not by a product of matrices, which loses the digits of short distances
        return torch.cdist(x, vectors, compute_mode="donot_use_mm_for_euclid_dist").square()
