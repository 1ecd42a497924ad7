"""A start for training: a network that computes at first what a trained SSD computes.

Not the paper's start, whose modules and their heads begin with random numbers. Here the shallow side of each fusion module
and the convolution after its sum begin as the identity, the deep side is faint, and the module's head is the one that
SSD has on the same shallow blob. What can then be learned is what the deep side adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from caffe.engine.layer import TEST, Layer
from caffe.engine.net import Net
from caffe.engine.weights import copy_layer, fits, save
from caffe.errors import CaffeError
from caffe.proto.weights import LayerWeights, read_weights
from prototxt_gen.feature_length import mean_lengths
from prototxt_gen.fusion import FusionModule
from prototxt_gen.network import Network, deploy_net
from prototxt_gen.settings import Settings

#: a deep norm's scale, as a share of the one that it has in the paper's start
DEEP_SHARE = 0.05
#: what a new head says of every box, whatever the image
BACKGROUND_PROBABILITY = 0.99
#: a new head's weights, as a share of the filler's
NEW_HEAD_SHARE = 0.1


@dataclass
class Start:
    """The weights that training begins with, and how they came about, in words."""

    net: Net
    notes: list[str] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Writes them as a .caffemodel (or HDF5, where the name ends in .h5)."""
        save(self.net, path)


def start_from(ssd: str | Path, network: Network, settings: Settings, deep_share: float = DEEP_SHARE) -> Start:
    """The start of `network` that does what the trained SSD in the weights file `ssd` does.

    Every layer of SSD is copied by its name. With `deep_share` 0, a module over a blob that SSD normalises gives SSD's
    predictions exactly. A module over one that SSD does not normalise (fc7) multiplies by the blob's mean length, which is
    measured on images of the training LMDB. Heads that SSD lacks or has in another shape begin small, with the background
    likely. Random numbers depend on `settings.random_seed` alone. Raises CaffeError for weights of anything but this
    network's SSD.
    """
    trained = {layer.name: layer for layer in read_weights(ssd) if layer.blobs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.random_seed or 0)
        param = deploy_net(network, settings)
        param.name = f"{settings.net_name}_start"
        net = Net(param, TEST)
    layers = {step.layer.name: step.layer for step in net.steps if step.layer.blobs}
    _check(ssd, trained, layers, network)
    start = Start(net)
    heads = _heads(network, trained)
    for name, layer in layers.items():
        if name in trained and not _is_head(name):
            copy_layer(trained[name], layer, ssd)
    with torch.no_grad():
        new = [name for head in heads for name in _copy_head(head, trained, layers, ssd, settings.num_classes)]
        for module in network.modules:
            _pass_through(module, layers, deep_share)
            _undo_negative_scales(module, trained, layers, heads)
        _set_lengths(start, network, settings, heads, layers, trained)
    if new:
        start.notes.append(f"begin anew, small and with the background likely: {', '.join(new)}")
    return start


@dataclass(frozen=True)
class _Head:
    """A prediction blob of the network, and the blob on which SSD has the head for it (None: SSD has none)."""

    blob: str
    in_ssd: str | None


def _heads(network: Network, trained: dict[str, LayerWeights]) -> list[_Head]:
    shallow = {module.name: module.shallow for module in network.modules}
    heads = []
    for source in network.sources:
        blob = f"{source.name}_norm" if source.l2norm else source.name
        named = shallow.get(blob, blob)
        candidates = (f"{named}_norm", named) if blob in shallow else (named,)
        heads.append(_Head(blob, next((name for name in candidates if f"{name}_mbox_loc" in trained), None)))
    return heads


def _is_head(name: str) -> bool:
    return name.endswith(("_mbox_loc", "_mbox_conf"))


# ---- what the file must be


def _check(
    ssd: str | Path, trained: dict[str, LayerWeights], layers: dict[str, Layer], network: Network
) -> None:
    """Raises CaffeError unless the file has every layer of this network's SSD but the heads, in its shapes."""
    fused = next((name for name in trained if name.startswith("module") and name not in ("module", "modules")), None)
    if fused is not None:
        raise CaffeError(
            f"--start_from {ssd}: an MDSSD's weights, it has a layer '{fused}'; give those of a trained SSD{network.size}. "
            "To go on from an MDSSD, give it to caffe train -weights"
        )
    if not any(_is_head(name) for name in trained):
        raise CaffeError(
            f"--start_from {ssd}: no detector, it has no layers '…_mbox_loc'; give the weights of a trained "
            f"SSD{network.size}. A classifier's weights go to caffe train -weights"
        )
    of_modules = tuple(f"{module.name}_" for module in network.modules)
    wanted = {
        name: layer
        for name, layer in layers.items()
        if not _is_head(name) and not name.startswith(of_modules or "\0") and not name.startswith("module")
    }
    missing = [name for name in wanted if name not in trained]
    known = {*wanted, *(f"{module.shallow}_norm" for module in network.modules)}
    more = [name for name in trained if not _is_head(name) and name not in known]
    if missing or more:
        words = [f"it has no layer {_some(missing)}"] if missing else []
        words += [f"its layer {_some(more)} is not in SSD{network.size}"] if more else []
        raise CaffeError(
            f"--start_from {ssd}: not the weights of an SSD{network.size}: {' and '.join(words)}"
        )
    for name, layer in wanted.items():
        if not fits(trained[name], layer):
            raise CaffeError(
                f"--start_from {ssd}: layer '{name}' is {_shapes(trained[name].blobs)} there and "
                f"{_shapes(layer.blobs)} in this network; {_width_of(trained)}"
            )


def _width_of(trained: dict[str, LayerWeights]) -> str:
    blob = trained["conv5_3"].blobs[0]
    width = float(Fraction(blob.shape[0], 512)) if blob.ndim == 4 else 0
    return f"the file seems to be of --width {width:g}" if width else "give weights of an SSD"


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (f" (and {len(names) - 3} more)" if len(names) > 3 else "")


def _shapes(blobs: object) -> str:
    return " and ".join(" × ".join(map(str, blob.shape)) or "one number" for blob in blobs)  # type: ignore[attr-defined]


# ---- heads


def _copy_head(
    head: _Head, trained: dict[str, LayerWeights], layers: dict[str, Layer], ssd: str | Path, num_classes: int
) -> list[str]:
    """Copies a head from SSD; the names of its layers that begin anew."""
    loc, conf = layers[f"{head.blob}_mbox_loc"], layers[f"{head.blob}_mbox_conf"]
    new = []
    copies = head.in_ssd is not None
    if copies and fits(source := trained[f"{head.in_ssd}_mbox_loc"], loc):
        copy_layer(source, loc, ssd)
    else:
        # with another number of boxes, the same number of scores would be other boxes' and classes'
        copies = False
        _make_small(loc)
        new.append(loc.name)
    source = trained.get(f"{head.in_ssd}_mbox_conf")
    if copies and source is not None and fits(source, conf):
        copy_layer(source, conf, ssd)
    else:
        _make_small(conf)
        bias = conf.blobs[1].view(-1, num_classes)
        bias[:, 0] = math.log(BACKGROUND_PROBABILITY / (1 - BACKGROUND_PROBABILITY) * (num_classes - 1))
        new.append(conf.name)
    return new


def _make_small(layer: Layer) -> None:
    layer.blobs[0].mul_(NEW_HEAD_SHARE)


# ---- modules


def _pass_through(module: FusionModule, layers: dict[str, Layer], deep_share: float) -> None:
    """Makes the module's output its shallow norm's, plus `deep_share` of the deep side."""
    for name in (f"{module.name}_shallow", module.name):
        weight, bias = layers[name].blobs
        if weight.shape[0] != weight.shape[1]:
            raise ValueError(f"layer '{name}' has {weight.shape[1]} channels in, {weight.shape[0]} out: no identity")
        nn.init.dirac_(weight)
        bias.zero_()
    layers[f"{module.name}_deep_norm"].blobs[0].mul_(deep_share)


def _undo_negative_scales(
    module: FusionModule, trained: dict[str, LayerWeights], layers: dict[str, Layer], heads: list[_Head]
) -> None:
    """Copies SSD's scale of the shallow blob, where it has one.

    A module ends in a ReLU, SSD's norm does not: where a scale is negative, the sign goes into the head.
    """
    source = trained.get(f"{module.shallow}_norm")
    if source is None:
        return
    scale = layers[f"{module.name}_shallow_norm"].blobs[0]
    learned = torch.from_numpy(source.blobs[0].copy()).to(scale)
    scale.copy_(learned.abs())
    if any(head.blob == module.name and head.in_ssd == f"{module.shallow}_norm" for head in heads):
        for what in ("loc", "conf"):
            layers[f"{module.name}_mbox_{what}"].blobs[0].mul_(torch.where(learned < 0, -1.0, 1.0).view(1, -1, 1, 1))


def _set_lengths(
    start: Start,
    network: Network,
    settings: Settings,
    heads: list[_Head],
    layers: dict[str, Layer],
    trained: dict[str, LayerWeights],
) -> None:
    """The scale of modules over blobs on which SSD has a head and no norm: the blob's mean length."""
    with_head = {head.blob for head in heads if head.in_ssd is not None}
    modules = [m for m in network.modules if m.name in with_head and f"{m.shallow}_norm" not in trained]
    if not modules:
        return
    lengths, source = mean_lengths(start.net, [m.shallow for m in modules], network.size, settings)
    for module in modules:
        scale: Tensor = layers[f"{module.name}_shallow_norm"].blobs[0]
        scale.fill_(lengths[module.shallow])
        start.notes.append(f"mean length of {module.shallow}: {lengths[module.shallow]:.4g}, measured on {source}")
