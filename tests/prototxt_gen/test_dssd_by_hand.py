"""SSD321 and DSSD321 written out in plain PyTorch: the engine's outputs and gradients are those of autograd, in float64.

The code below knows nothing of prototxt: it is the text of section 3 of the DSSD paper, with the kernels of the
published scripts. Only the weights come from the engine's net.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe.engine.layer import TRAIN
from caffe.engine.net import Net
from prototxt_gen.network import WHOLE
from tests.narrow import narrow_train
from tests.prototxt_gen.sources import OTHERS

EPS = float(torch.tensor(0.001))  # a float32 in the prototxt
#: blocks, stride, dilation
STAGES = (("2", 3, 1, 1), ("3", 4, 2, 1), ("4", 23, 2, 1), ("5", 3, 1, 2))
#: kernel and stride of the first convolutions
EXTRA = (("6", 2, 2), ("7", 2, 2), ("8", 3, 1), ("9", 3, 1))
ENCODER = {"3": "res3b3", "5": "res5c", "6": "res6", "7": "res7", "8": "res8"}
#: kernel and stride of the deconvolutions, deepest first
UPSAMPLING = (("8", 3, 1), ("7", 3, 1), ("6", 2, 2), ("5", 2, 2), ("3", 2, 2))


class ByHand:
    """The networks as functions of an image and of weights by the names of Caffe's layers."""

    def __init__(self, weights: dict[str, list[Tensor]]) -> None:
        self.weights = weights

    def normalized(self, x: Tensor, conv: str, scale: str, stride: int = 1, pad: int = 0, dilation: int = 1) -> Tensor:
        """A convolution without bias, normalized over the batch, scaled and shifted."""
        x = F.conv2d(x, self.weights[conv][0], None, stride, pad, dilation)
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
        gain, shift = (blob[None, :, None, None] for blob in self.weights[scale])
        return (x - mean) / (variance + EPS).sqrt() * gain + shift

    def block(self, x: Tensor, name: str, first: bool, stride: int = 1, dilation: int = 1) -> Tensor:
        """A residual block; the `first` of a stage has a convolution beside its three."""

        def layer(x: Tensor, branch: str, **fields: int) -> Tensor:
            return self.normalized(x, f"res{name}_branch{branch}", f"scale{name}_branch{branch}", **fields)

        y = layer(x, "2a", stride=stride).relu()
        y = layer(y, "2b", pad=dilation, dilation=dilation).relu()
        y = layer(y, "2c")
        return (y + (layer(x, "1", stride=stride) if first else x)).relu()

    def encoder(self, image: Tensor) -> dict[str, Tensor]:
        """The blobs that have predictions in SSD321, and the last one."""
        x = self.normalized(image, "conv1", "scale_conv1", stride=2, pad=3).relu()
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        found = {}
        for stage, blocks, stride, dilation in STAGES:
            for i in range(blocks):
                letters = stage in "25"
                name = stage + ("abc"[i] if letters else "a" if i == 0 else f"b{i}")
                x = self.block(x, name, i == 0, stride if i == 0 else 1, dilation)
                found[f"res{name}"] = x
        for name, kernel, stride in EXTRA:
            assert self.weights[f"res{name}_branch1"][0].shape[2] == kernel
            x = self.block(x, name, True, stride)
            found[f"res{name}"] = x
        return found

    def decoder(self, encoder: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of the deconvolution modules: figure 3 of the paper, with the element-wise product."""
        x, found = encoder["res9"], {}
        for name, kernel, stride in UPSAMPLING:
            weight, bias = self.weights[f"deconv_{name}"]
            assert weight.shape[2:] == (kernel, kernel)
            up = F.conv_transpose2d(x, weight, bias, stride)
            up = self.normalized(up, f"deconv_{name}_pre", f"deconv_{name}_pre_scale", pad=1)
            pre = f"{ENCODER[name]}_relu_pre"
            side = self.normalized(encoder[ENCODER[name]], f"{pre}1", f"{pre}1_scale", pad=1).relu()
            side = self.normalized(side, f"{pre}2", f"{pre}2_scale", pad=1)
            x = found[name] = (up * side).relu()
        return found

    def predictions(self, blobs: list[tuple[str, Tensor]], postfix: str) -> tuple[Tensor, Tensor]:
        """Offsets and scores of all boxes, by way of a residual block per source."""
        rows: dict[str, list[Tensor]] = {"loc": [], "conf": []}
        for i, (name, blob) in enumerate(blobs):
            x = self.block(blob, f"{name}_relu_inter256", True)
            for kind, row in rows.items():
                weight, bias = self.weights[f"res{name}_relu_inter256_mbox_{kind}{postfix}"]
                y = F.conv2d(x, weight, bias, padding=2 if i < 2 else 1)
                row.append(y.permute(0, 2, 3, 1).flatten(1))
        return torch.cat(rows["loc"], 1), torch.cat(rows["conf"], 1)

    def __call__(self, image: Tensor, decoder: bool) -> tuple[Tensor, Tensor]:
        encoder = self.encoder(image)
        names = [*ENCODER.values(), "res9"]
        if not decoder:
            return self.predictions([(name, encoder[name]) for name in names], "")
        found = self.decoder(encoder)
        blobs = [(f"combined_{name}_EltwisePROD", found[name]) for name in ENCODER]
        return self.predictions([*blobs, ("res9", encoder["res9"])], "new")


@pytest.mark.parametrize("name", ["SSD321", "DSSD321"])
def test_outputs_and_gradients(name: str) -> None:
    torch.manual_seed(1)
    net = Net(narrow_train(2, OTHERS[name], WHOLE), TRAIN).double()
    weights: dict[str, list[Tensor]] = {}
    for layer in (step.layer for step in net.steps):
        if layer.blobs and layer.type_name != "BatchNorm":
            with torch.no_grad():
                for blob in layer.blobs:  # no gain of 1 and no shift of 0, which would hide mistakes
                    blob.add_(0.01 * torch.randn_like(blob))
            weights[layer.name] = [blob.detach().clone().requires_grad_() for blob in layer.blobs]

    image = torch.randn(2, 3, 321, 321, dtype=torch.float64) * 50
    _, found = net({"data": image, "label": torch.full((1, 1, 6, 8), -1.0)}, ["mbox_loc", "mbox_conf"])
    expected = dict(zip(("mbox_loc", "mbox_conf"), ByHand(weights)(image, name == "DSSD321"), strict=True))
    losses = torch.zeros(2, dtype=torch.float64)
    for blob, value in expected.items():
        torch.testing.assert_close(found[blob], value, rtol=1e-7, atol=1e-7)
        direction = torch.randn_like(value)
        losses = losses + torch.stack([(found[blob] * direction).sum(), (value * direction).sum()])
    losses.sum().backward()
    compared = 0
    for layer in (step.layer for step in net.steps):
        for blob, by_hand in zip(layer.blobs, weights.get(layer.name, ()), strict=False):
            assert blob.grad is not None, layer.name
            assert by_hand.grad is not None, layer.name
            assert float((blob.grad - by_hand.grad).norm()) <= 1e-7 * float(by_hand.grad.norm()), layer.name
            compared += 1
    assert compared == {"SSD321": 456, "DSSD321": 511}[name]
