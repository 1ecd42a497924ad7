"""The networks of other frameworks, narrow: modules with their parameters' names, and their default boxes.

Written from the public definitions of ssd.pytorch (ssd.py, prior_box.py, box_utils.py) and MMDetection (ssd_vgg.py,
ssd_neck.py, ssd_head.py, anchor_generator.py), as far as names, shapes and numbers go.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Boxes = Any
#: boxes at each position of a map
BOXES = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}
VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


def vgg_layers(width: int) -> list[nn.Module]:
    """VGG16 to conv5_3's ReLU with a `width`-th of the channels, then SSD's pool5, fc6 and fc7: 35 modules."""
    layers: list[nn.Module] = []
    channels = 3
    for wide in VGG:
        if wide:
            layers += [nn.Conv2d(channels, wide // width, 3, padding=1), nn.ReLU()]
            channels = wide // width
        else:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
    fc = 1024 // width
    layers += [nn.MaxPool2d(3, 1, 1), nn.Conv2d(channels, fc, 3, padding=6, dilation=6), nn.ReLU()]
    return [*layers, nn.Conv2d(fc, fc, 1), nn.ReLU()]


def extra_layers(size: int, width: int) -> list[nn.Conv2d]:
    """SSD's extra convolutions, two for each further map."""
    wide = (512, 256, 256, 256, 256)[: len(BOXES[size]) - 2]
    layers, channels = [], 1024
    for i, out in enumerate(wide):
        last512 = size == 512 and i == len(wide) - 1
        stride, pad = (1, 0) if size == 300 and i > 1 else (1, 1) if last512 else (2, 1)
        layers.append(nn.Conv2d(channels // width, out // 2 // width, 1))
        layers.append(nn.Conv2d(out // 2 // width, out // width, 4 if last512 else 3, stride, pad))
        channels = out
    return layers


class Scale(nn.Module):
    """A norm over channels with a learned scale, under the name `weight`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:, None, None] * x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def predict(size: int, vgg: Any, norm: Any, extras: Any, loc: Any, conf: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """What all of them compute: locations N × P × 4 and scores N × P × classes of images N × 3 × size × size."""
    maps = []
    for i, layer in enumerate(vgg):
        x = layer(x)
        if i == 22:
            maps.append(norm(x))
    maps.append(x)
    for i, layer in enumerate(extras):
        x = F.relu(layer(x))
        if i % 2:
            maps.append(x)
    heads = zip(maps, loc, conf, BOXES[size], strict=True)
    found = [(_by_box(a(m), k), _by_box(b(m), k)) for m, a, b, k in heads]
    return torch.cat([a for a, _ in found], 1), torch.cat([b for _, b in found], 1)


def _by_box(x: Tensor, boxes: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // boxes)


def _heads(size: int, width: int, outputs: int) -> list[nn.Conv2d]:
    channels = (512, 1024, 512, 256, 256, 256, 256)
    return [nn.Conv2d(c // width, k * outputs, 3, padding=1) for c, k in zip(channels, BOXES[size], strict=False)]


class SSDPytorch(nn.Module):
    """ssd.pytorch's SSD300."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.vgg = nn.ModuleList(vgg_layers(width))
        self.L2Norm = Scale(512 // width)
        self.extras = nn.ModuleList(extra_layers(300, width))
        self.loc = nn.ModuleList(_heads(300, width, 4))
        self.conf = nn.ModuleList(_heads(300, width, classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return predict(300, self.vgg, self.L2Norm, self.extras, self.loc, self.conf, x)


class MMDetection(nn.Module):
    """MMDetection's SSD300 and SSD512; `classes` without the background, whose score comes last."""

    def __init__(self, size: int, classes: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.backbone = nn.ModuleDict({"features": nn.Sequential(*vgg_layers(width))})
        extras = extra_layers(size, width)
        pairs = [
            nn.Sequential(*(nn.ModuleDict({"conv": conv}) for conv in extras[i : i + 2]))
            for i in range(0, len(extras), 2)
        ]
        self.neck = nn.ModuleDict({"l2_norm": Scale(512 // width), "extra_layers": nn.ModuleList(pairs)})
        heads = {
            name: nn.ModuleList(nn.Sequential(conv) for conv in _heads(size, width, outputs))
            for name, outputs in (("cls_convs", classes + 1), ("reg_convs", 4))
        }
        self.bbox_head = nn.ModuleDict(heads)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        vgg, norm, head = self.backbone["features"], self.neck["l2_norm"], self.bbox_head
        pairs: Any = self.neck["extra_layers"]
        extras = [module["conv"] for pair in pairs for module in pair]
        return predict(self.size, vgg, norm, extras, head["reg_convs"], head["cls_convs"], x)


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Weights that keep magnitudes through the network, for inputs of about 100, and predictions near the priors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5)
                if parameter.shape[1] == 3:
                    parameter.mul_(0.02)
            elif "norm" in name.lower() or "scale" in name:
                parameter.copy_(2 + torch.rand(parameter.shape, generator=generator))
            else:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


# ---- default boxes, one after another, as center x, center y, width, height in units of the image


def ssd_pytorch_boxes(sizes: Sequence[int], steps: Sequence[int], maps: Sequence[int], ratios: Any) -> Boxes:
    boxes = []
    for k, cells in enumerate(maps):
        for i, j in itertools.product(range(cells), repeat=2):
            center = ((j + 0.5) * steps[k] / 300, (i + 0.5) * steps[k] / 300)
            small, between = sizes[k] / 300, math.sqrt(sizes[k] * sizes[k + 1]) / 300
            boxes += [(*center, small, small), (*center, between, between)]
            for ratio in ratios[k]:
                a, b = small * math.sqrt(ratio), small / math.sqrt(ratio)
                boxes += [(*center, a, b), (*center, b, a)]
    return np.clip(np.array(boxes), 0, 1)


def mmdetection_boxes(
    size: int, ratio_range: tuple[int, int], first: tuple[int, int], steps: Any, ratios: Any
) -> Boxes:
    """`ratio_range` and `first` in percent of the image: basesize_ratio_range, and the first map's two sizes."""
    step = (ratio_range[1] - ratio_range[0]) // (len(steps) - 2)
    percent = range(ratio_range[0], ratio_range[1] + 1, step)
    small = [int(size * first[0] / 100), *(int(size * p / 100) for p in percent)]
    large = [int(size * first[1] / 100), *(int(size * (p + step) / 100) for p in percent)]
    boxes = []
    for k, stride in enumerate(steps):
        shapes = [(small[k], small[k]), (math.sqrt(small[k] * large[k]),) * 2]
        for ratio in ratios[k]:
            # the ratio is height over width, its reciprocal first
            shapes += [(small[k] / math.sqrt(r), small[k] * math.sqrt(r)) for r in (1 / ratio, ratio)]
        cells = _cells(size, k, len(steps))
        for y, x in itertools.product(range(cells), repeat=2):
            boxes += [((x + 0.5) * stride, (y + 0.5) * stride, *shape) for shape in shapes]
    return np.array(boxes) / size


def _cells(size: int, k: int, maps: int) -> int:
    return (38, 19, 10, 5, 3, 1)[k] if size == 300 else (64, 32, 16, 8, 4, 2, 1)[k]


def decode(boxes: Boxes, loc: Any) -> Any:
    """Predicted boxes N × P × 4 as corners, of default boxes P × 4 and locations N × P × 4, variances 0.1 and 0.2."""
    center = boxes[:, :2] + 0.1 * loc[..., :2] * boxes[:, 2:]
    size = boxes[:, 2:] * np.exp(0.2 * loc[..., 2:])
    return np.concatenate([center - size / 2, center + size / 2], axis=-1)
