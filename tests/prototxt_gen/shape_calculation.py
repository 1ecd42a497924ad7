"""The sizes of a net's blobs, its parameters and multiply-adds, by arithmetic only: a check of the engine's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]


@dataclass
class Sizes:
    blobs: dict[str, Shape] = field(default_factory=dict)
    #: shapes of each layer's weights, biases and scales
    parameters: dict[str, list[Shape]] = field(default_factory=dict)
    #: of convolutions and deconvolutions
    multiply_adds: int = 0

    def count_parameters(self) -> int:
        return sum(math.prod(shape) for shapes in self.parameters.values() for shape in shapes)


def calculate(net: Any, batch: int, size: int) -> Sizes:
    """All sizes of a generated net on `batch` images of size × size."""
    sizes = Sizes()
    blobs = sizes.blobs
    for layer in net.layer:
        bottoms = [blobs[name] for name in layer.bottom]
        if layer.type in ("Input", "AnnotatedData"):
            tops: list[Shape] = [(batch, 3, size, size)]
            if len(layer.top) > 1:
                tops.append((1, 1, 1, 8))
        elif layer.type in ("Convolution", "Deconvolution"):
            tops = [_convolution(layer, bottoms[0], sizes)]
        elif layer.type == "Pooling":
            p = layer.pooling_param
            n, c, h, w = bottoms[0]
            tops = [(n, c, *(_pooled(s, p.kernel_size, p.stride, p.pad) for s in (h, w)))]
        elif layer.type == "Normalize":
            sizes.parameters[layer.name] = [(bottoms[0][1],)]
            tops = bottoms
        elif layer.type == "Eltwise":
            assert bottoms[0] == bottoms[1], f"{layer.name}: {bottoms[0]} against {bottoms[1]}"
            tops = bottoms[:1]
        elif layer.type == "Permute":
            tops = [tuple(bottoms[0][axis] for axis in layer.permute_param.order)]
        elif layer.type == "Flatten":
            axis = layer.flatten_param.axis
            tops = [(*bottoms[0][:axis], math.prod(bottoms[0][axis:]))]
        elif layer.type == "PriorBox":
            p = layer.prior_box_param
            boxes = len(p.min_size) * (1 + len(p.aspect_ratio) * (2 if p.flip else 1)) + len(p.max_size)
            tops = [(1, 2, bottoms[0][2] * bottoms[0][3] * boxes * 4)]
        elif layer.type == "Concat":
            axis = layer.concat_param.axis
            tops = [(*bottoms[0][:axis], sum(b[axis] for b in bottoms), *bottoms[0][axis + 1 :])]
        elif layer.type == "Reshape":
            n, _, classes = layer.reshape_param.shape.dim
            assert (n, bottoms[0][1] % classes) == (0, 0)
            tops = [(bottoms[0][0], bottoms[0][1] // classes, classes)]
        elif layer.type in ("BatchNorm", "Scale"):
            channels: Shape = bottoms[0][1:2]
            sizes.parameters[layer.name] = [channels] * 2 + ([] if layer.type == "Scale" else [(1,)])
            tops = bottoms
        elif layer.type in ("ReLU", "Softmax"):
            tops = bottoms
        else:
            assert layer.type in ("MultiBoxLoss", "DetectionOutput", "DetectionEvaluate"), layer.type
            tops = [()]
        blobs.update(zip(layer.top, tops, strict=True))
    return sizes


def _convolution(layer: Any, bottom: Shape, sizes: Sizes) -> Shape:
    p = layer.convolution_param
    n, c, h, w = bottom
    (kernel,), (stride,), (pad,), (dilation,) = p.kernel_size, p.stride or (1,), p.pad or (0,), p.dilation or (1,)
    if layer.type == "Convolution":
        weights = (p.num_output, c, kernel, kernel)
        out = [(s + 2 * pad - (dilation * (kernel - 1) + 1)) // stride + 1 for s in (h, w)]
        positions = out[0] * out[1]
    else:
        weights = (c, p.num_output, kernel, kernel)
        out = [(s - 1) * stride + kernel - 2 * pad for s in (h, w)]
        positions = h * w
    sizes.parameters[layer.name] = [weights, (p.num_output,)] if p.bias_term else [weights]
    sizes.multiply_adds += n * positions * math.prod(weights)
    return (n, p.num_output, out[0], out[1])


def _pooled(size: int, kernel: int, stride: int, pad: int) -> int:
    out = math.ceil((size + 2 * pad - kernel) / stride) + 1
    # A window that starts in the padding at the end is dropped.
    return out - 1 if pad and (out - 1) * stride >= size + pad else out
