"""Initial weights for training with which a network computes what a trained SSD computes.

This is not the method of the paper, where the modules and their heads start from random numbers. Here, the shallow side
of each fusion module and the convolution after its sum start as the identity, the deep side has a small scale, and the
module's head is SSD's head for the same shallow blob. Training then learns what the deep side adds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from caffe.engine.layer import TEST, Layer
from caffe.engine.net import Net
from caffe.engine.weights import copy_layer, fits, save
from caffe.errors import CaffeError
from caffe.proto.weights import LayerWeights, read_weights
from prototxt_gen.feature_length import mean_lengths
from prototxt_gen.fusion import FusionModule
from prototxt_gen.network import deploy_net
from prototxt_gen.settings import Settings
from prototxt_gen.vgg import VGGNetwork

#: initial scale of a deep norm, relative to the value of the net's filler
DEEP_SHARE = 0.05
#: the initial background probability of a new head, for every box
BACKGROUND_PROBABILITY = 0.99
#: initial weights of a new head, relative to the values of the net's filler
NEW_HEAD_SHARE = 0.1

Trained = Mapping[str, LayerWeights]
Layers = Mapping[str, Layer]


@dataclass
class Start:
    """The initial weights of a training, and notes on them for the user."""

    net: Net
    notes: list[str] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Writes the weights as a .caffemodel, or as HDF5 if the name ends in .h5."""
        save(self.net, path)


@dataclass(frozen=True)
class _Head:
    """A blob of the network with predictions, and the blob of SSD whose head it gets; None if SSD has no such head."""

    blob: str
    in_ssd: str | None


def start_from(ssd: str | Path, network: VGGNetwork, settings: Settings, deep_share: float = DEEP_SHARE) -> Start:
    """Returns weights of `network` that compute what the trained SSD in the weights file `ssd` computes.

    SSD's layers are copied by name. A module's shallow norm gets the scale of SSD's norm of the same blob (conv4_3).
    With `deep_share` 0, the module's predictions are then equal to SSD's. For a blob that SSD does not normalize (fc7),
    they are close: its vectors are scaled to their mean length over images of the training LMDB. Heads that SSD does not
    have (Module 1's), or has with a different shape, start with small weights and a high background probability. Random
    numbers depend only on `settings.random_seed`.

    Raises CaffeError unless `ssd` has the weights of this network's SSD: the same size and width, except for the heads.
    """
    trained = {layer.name: layer for layer in read_weights(ssd) if layer.blobs}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(settings.random_seed or 0)
        param = deploy_net(network, settings)
        param.name = f"{settings.net_name}_start"
        net = Net(param, TEST)
    layers = {step.layer.name: step.layer for step in net.steps if step.layer.blobs}
    _check(ssd, trained, layers, network, settings)
    start = Start(net)
    heads = _heads(network, trained)
    with torch.no_grad():
        for name, layer in layers.items():
            if name in trained and not _is_head(name):
                copy_layer(trained[name], layer, ssd)
        new = [name for head in heads for name in _copy_head(head, trained, layers, ssd, settings.num_classes)]
        for module in network.modules:
            _pass_through(module, layers, deep_share)
        for module, head in _pairs(network, heads):
            if f"{module.shallow}_norm" in trained:
                _copy_scale(module, head, trained, layers)
        unscaled = [m for m, head in _pairs(network, heads) if head.in_ssd == m.shallow]
        _scale_to_mean_length(unscaled, layers, start, network, settings)
    if new:
        start.notes.append(
            f"new heads, with small weights and high background probability{_why(trained, settings)}: {', '.join(new)}"
        )
    return start


def _heads(network: VGGNetwork, trained: Trained) -> list[_Head]:
    shallow = {module.name: module.shallow for module in network.modules}
    heads = []
    for source in network.sources:
        blob = f"{source.name}_norm" if source.l2norm else source.name
        places = [f"{shallow[blob]}_norm", shallow[blob]] if blob in shallow else [blob]
        heads.append(_Head(blob, next((place for place in places if f"{place}_mbox_loc" in trained), None)))
    return heads


def _pairs(network: VGGNetwork, heads: Iterable[_Head]) -> list[tuple[FusionModule, _Head]]:
    by_blob = {head.blob: head for head in heads}
    return [(module, by_blob[module.name]) for module in network.modules]


def _is_head(name: str) -> bool:
    return name.endswith(("_mbox_loc", "_mbox_conf"))


# ---- what the file must contain


def _check(ssd: str | Path, trained: Trained, layers: Layers, network: VGGNetwork, settings: Settings) -> None:
    """Raises CaffeError unless the file has exactly the layers of this network's SSD, in its shapes, heads aside."""
    wanted_name = f"SSD{network.size}"
    fused = next((name for name in trained if _of_a_module(name)), None)
    if fused is not None:
        raise CaffeError(
            f"--start_from {ssd}: these are an MDSSD's weights, with a layer '{fused}'; give the weights of a trained "
            f"{wanted_name}. To train an MDSSD further, give its weights to caffe train -weights"
        )
    if not any(_is_head(name) for name in trained):
        raise CaffeError(
            f"--start_from {ssd}: these are not a detector's weights: there is no layer '…_mbox_loc'; give those of a "
            f"trained {wanted_name}. For the weights of a classifier, use caffe train -weights"
        )
    wanted = {name: layer for name, layer in layers.items() if not _is_head(name) and not _of_a_module(name)}
    allowed = {*wanted, *(f"{module.shallow}_norm" for module in network.modules)}
    missing = [name for name in wanted if name not in trained]
    others = [name for name in trained if name not in allowed and not _is_head(name)]
    if missing or others:
        words = [f"it has no {_some(missing)}"] if missing else []
        words += [f"{wanted_name} has no {_some(others)}"] if others else []
        raise CaffeError(f"--start_from {ssd}: these are not the weights of an {wanted_name}: {'; '.join(words)}")
    for name, layer in wanted.items():
        if not fits(trained[name], layer):
            raise CaffeError(
                f"--start_from {ssd}: layer '{name}' has {_shapes(trained[name].blobs)} in the file and "
                f"{_shapes(layer.blobs)} in this network; {_advice(trained, settings)}"
            )
    for name, weights in trained.items():
        if not all(np.isfinite(blob).all() for blob in weights.blobs):
            raise CaffeError(f"--start_from {ssd}: layer '{name}' contains NaN or infinity; that training diverged")


def _of_a_module(name: str) -> bool:
    return re.match(r"module\d+(_|$)", name) is not None


def _advice(trained: Trained, settings: Settings) -> str:
    """Advice for a file of a different width, judged by conv5_3, which has 512 channels at full width."""
    width = Fraction(trained["conv5_3"].blobs[0].shape[0], 512)
    if width != settings.width.fraction:
        return f"the file has --width {float(width):g}, and this network {float(settings.width.fraction):g}"
    return "use the --width and --min_channels with which the SSD was made"


def _some(names: list[str]) -> str:
    quoted = ", ".join(f"'{name}'" for name in names[:3])
    return f"layer {quoted}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shapes(blobs: Iterable[Any]) -> str:
    return " and ".join("×".join(map(str, blob.shape)) or "one number" for blob in blobs)


# ---- heads


def _copy_head(head: _Head, trained: Trained, layers: Layers, ssd: str | Path, num_classes: int) -> list[str]:
    """Copies a head's two layers from SSD or initializes them. Returns the names of the layers that are new."""
    loc, conf = layers[f"{head.blob}_mbox_loc"], layers[f"{head.blob}_mbox_conf"]
    loc_in_ssd, conf_in_ssd = (trained.get(f"{head.in_ssd}_mbox_{what}") for what in ("loc", "conf"))
    new = []
    # The same number of scores may belong to more boxes and fewer classes, so they are copied only with the locations.
    same_boxes = loc_in_ssd is not None and fits(loc_in_ssd, loc)
    if same_boxes:
        assert loc_in_ssd is not None
        copy_layer(loc_in_ssd, loc, ssd)
    else:
        loc.blobs[0].mul_(NEW_HEAD_SHARE)
        new.append(loc.name)
    if same_boxes and conf_in_ssd is not None and fits(conf_in_ssd, conf):
        copy_layer(conf_in_ssd, conf, ssd)
    else:
        conf.blobs[0].mul_(NEW_HEAD_SHARE)
        odds = BACKGROUND_PROBABILITY / (1 - BACKGROUND_PROBABILITY)
        # the background is class 0, and all other classes have the same probability
        conf.blobs[1].view(-1, num_classes)[:, 0] = math.log(odds * (num_classes - 1))
        new.append(conf.name)
    return new


def _why(trained: Trained, settings: Settings) -> str:
    """Explains new heads if the file has a different number of classes: a head's scores divided by its boxes."""
    for name, loc in trained.items():
        conf = trained.get(f"{name.removesuffix('_loc')}_conf")
        if name.endswith("_mbox_loc") and conf is not None:
            classes = conf.blobs[0].shape[0] * 4 // loc.blobs[0].shape[0]
            if classes != settings.num_classes:
                return f" (the file has {classes} classes, and this network {settings.num_classes})"
    return ""


# ---- modules


def _pass_through(module: FusionModule, layers: Layers, deep_share: float) -> None:
    """Makes the module output its shallow norm, plus the deep side at a small scale."""
    for name in (f"{module.name}_shallow", module.name):
        weight, bias = layers[name].blobs
        if weight.shape[0] != weight.shape[1]:
            raise ValueError(
                f"layer '{name}': {weight.shape[1]} channels in and {weight.shape[0]} out cannot be the identity"
            )
        nn.init.dirac_(weight)
        bias.zero_()
    if module.deep is not None:
        layers[f"{module.name}_deep_norm"].blobs[0].mul_(deep_share)


def _copy_scale(module: FusionModule, head: _Head, trained: Trained, layers: Layers) -> None:
    """Copies the scale of SSD's norm to the module's shallow norm.

    The module's ReLU would cut off channels with a negative scale, so the sign is moved into the head.
    """
    scale = layers[f"{module.name}_shallow_norm"].blobs[0]
    learned = torch.from_numpy(np.array(trained[f"{module.shallow}_norm"].blobs[0]).reshape(scale.shape))
    scale.copy_(learned.abs())
    sign = torch.where(learned < 0, -1.0, 1.0).view(1, -1, 1, 1)
    if head.in_ssd == f"{module.shallow}_norm":
        for what in ("loc", "conf"):
            layers[f"{module.name}_mbox_{what}"].blobs[0].mul_(sign)


def _scale_to_mean_length(
    modules: list[FusionModule], layers: Layers, start: Start, network: VGGNetwork, settings: Settings
) -> None:
    """Sets the scale of shallow norms of blobs that SSD does not normalize to the blob's mean length.

    The heads then get inputs of the magnitude with which they were trained.
    """
    if not modules:
        return
    lengths, images = mean_lengths(start.net, [module.shallow for module in modules], network.size, settings)
    for module in modules:
        length = lengths[module.shallow]
        layers[f"{module.name}_shallow_norm"].blobs[0].fill_(length)
        start.notes.append(f"{module.name}: scaled to {length:.4g}, the mean length of {module.shallow} over {images}")
