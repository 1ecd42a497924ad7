"""MDSSD300 written by hand in PyTorch: the peer that the engine is measured against.

The paper's Table I in plain modules, its convolutions in the order of the prototxt, so both can have the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: VGG16 to conv5_3: (name, channels at full width); None is a pooling layer
VGG: list[tuple[str, int] | None] = [
    ("conv1_1", 64), ("conv1_2", 64), None,
    ("conv2_1", 128), ("conv2_2", 128), None,
    ("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256), None,
    ("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512), None,
    ("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512),
]  # fmt: skip
#: (name, channels, kernel, stride, pad)
EXTRA = [
    ("conv6_1", 256, 1, 1, 0), ("conv6_2", 512, 3, 2, 1), ("conv7_1", 128, 1, 1, 0), ("conv7_2", 256, 3, 2, 1),
    ("conv8_1", 128, 1, 1, 0), ("conv8_2", 256, 3, 1, 0), ("conv9_1", 128, 1, 1, 0), ("conv9_2", 256, 3, 1, 0),
]  # fmt: skip
#: Module 1 to 3: shallow blob, deep blob, channels of the first two steps and of the third, kernel and pad of the third
FUSION = [
    ("conv3_3", "conv6_2", 256, 256, 3, 3),
    ("conv4_3", "conv7_2", 256, 512, 2, 1),
    ("fc7", "conv8_2", 512, 1024, 3, 3),
]
#: default boxes per cell of each source: the three modules, then conv6_2 to conv9_2
BOXES = [4, 4, 6, 6, 6, 4, 4]


class L2Norm(nn.Module):
    """SSD's Normalize: each position to unit length over channels, times a learned scale per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt() * self.scale.view(1, -1, 1, 1)


class Fusion(nn.Module):
    """One column of Table I."""

    def __init__(self, shallow: int, deep: int, first: int, last: int, kernel: int, pad: int) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(deep, first, 2, 2)
        self.conv1 = nn.Conv2d(first, first, 3, padding=1)
        self.up2 = nn.ConvTranspose2d(first, first, 2, 2)
        self.conv2 = nn.Conv2d(first, first, 3, padding=1)
        self.up3 = nn.ConvTranspose2d(first, last, kernel, 2, pad)
        self.conv3 = nn.Conv2d(last, last, 3, padding=1)
        self.norm = L2Norm(last)
        self.shallow = nn.Conv2d(shallow, last, 3, padding=1)
        self.shallow_norm = L2Norm(last)
        self.fused = nn.Conv2d(last, last, 3, padding=1)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        x = F.relu(self.conv1(self.up1(deep)), inplace=True)
        x = F.relu(self.conv2(self.up2(x)), inplace=True)
        x = self.norm(self.conv3(self.up3(x)))
        x = F.relu(x + self.shallow_norm(self.shallow(shallow)), inplace=True)
        return F.relu(self.fused(x), inplace=True)


class MDSSD300(nn.Module):
    """Images N x 3 x 300 x 300 to loc N x 124928 (31232 boxes x 4) and conf N x (31232 x classes)."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        channels, widths = 3, {}
        for item in VGG:
            if item:
                self.convs[item[0]] = nn.Conv2d(channels, item[1], 3, padding=1)
                channels = widths[item[0]] = item[1]
        self.convs["fc6"] = nn.Conv2d(channels, 1024, 3, padding=6, dilation=6)
        self.convs["fc7"] = nn.Conv2d(1024, 1024, 1)
        channels = widths["fc7"] = 1024
        for name, out, kernel, stride, pad in EXTRA:
            self.convs[name] = nn.Conv2d(channels, out, kernel, stride, pad)
            channels = widths[name] = out
        self.fusion = nn.ModuleList(
            Fusion(widths[shallow], widths[deep], first, last, kernel, pad)
            for shallow, deep, first, last, kernel, pad in FUSION
        )
        sources = [last for *_, last, _, _ in FUSION] + [512, 256, 256, 256]
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * b, 3, padding=1) for c, b in zip(sources, BOXES, strict=True))
        self.conf = nn.ModuleList(nn.Conv2d(c, classes * b, 3, padding=1) for c, b in zip(sources, BOXES, strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        blobs: dict[str, Tensor] = {}
        for item in VGG:
            if item:
                x = blobs[item[0]] = F.relu(self.convs[item[0]](x), inplace=True)
            else:
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = F.max_pool2d(x, 3, 1, 1)
        for name in ("fc6", "fc7", *(e[0] for e in EXTRA)):
            x = blobs[name] = F.relu(self.convs[name](x), inplace=True)
        sources = [f(blobs[s[0]], blobs[s[1]]) for f, s in zip(self.fusion, FUSION, strict=True)]
        sources += [blobs[name] for name in ("conv6_2", "conv7_2", "conv8_2", "conv9_2")]
        loc = [h(s).permute(0, 2, 3, 1).flatten(1) for h, s in zip(self.loc, sources, strict=True)]
        conf = [h(s).permute(0, 2, 3, 1).flatten(1) for h, s in zip(self.conf, sources, strict=True)]
        return torch.cat(loc, 1), torch.cat(conf, 1)
