"""Shows what DSSD's deconvolution modules leave of the encoder's information about objects.

A linear classifier tells the cells of the largest map inside an object from the others, by one blob at a time: the two
sides of the last deconvolution module, and their combination. It is fitted to one half of the images and tested on the
other. For each module, the kurtosis of its deeper side shows how few values have most of the energy: it is 3 for a
normal distribution. The input is a directory written by a generator of prototxt_gen/. Batch normalization has the
statistics of the batch, as in training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

import torch
from torch import Tensor

from caffe import log
from caffe.cli.flags import run
from caffe.engine.layer import TRAIN
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from
from caffe.errors import CaffeError
from caffe.proto.text import read_net
from caffe.runtime import set_random_seed
from experiments.small_objects.decoder_control import CONTROLS, products

#: the controls that have both sides
_COMBINING = [control for control in CONTROLS if control != "encoder"]
#: the weight of the squared coefficients in the classifier's fit, per cell of the training half
_RIDGE = 2e-3


def inside(label: Tensor, images: int, height: int, width: int) -> Tensor:
    """Returns which cells have their center in a box, [images, height, width]. label: rows of 8, as in a batch."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    result = torch.zeros(images, height, width, dtype=torch.bool)
    for row in label.reshape(-1, 8):
        image, (x0, y0, x1, y1) = int(row[0]), row[3:7]
        if image >= 0:
            result[image] |= ((y >= y0) & (y <= y1))[:, None] & ((x >= x0) & (x <= x1))
    return result


def area_under_curve(scores: Tensor, truth: Tensor) -> float:
    """Returns the probability that a true one scores more than another; ties count half. Both [N]; NaN if one is empty."""
    others = scores[~truth].sort().values
    below = torch.searchsorted(others, scores[truth]) + torch.searchsorted(others, scores[truth], right=True)
    return float(below.double().mean() / (2 * len(others)))


def separation(features: Tensor, truth: Tensor) -> float:
    """Returns the area under the curve of the linear classifier on the second half. features: [N, C]; truth: [N]."""
    half = len(features) // 2
    features = features.double()
    features = (features - features[:half].mean(0)) / (features[:half].std(0) + 1e-12)
    fitted, target = features[:half], truth[:half].double()
    normal = fitted.T @ fitted / half + _RIDGE * torch.eye(features.shape[1], dtype=torch.double)
    coefficients = torch.linalg.solve(normal, fitted.T @ (target - target.mean()) / half)
    return area_under_curve(features[half:] @ coefficients, truth[half:])


def kurtosis(features: Tensor) -> float:
    """Returns the fourth moment of the channels at mean 0 and deviation 1. features: [N, C]."""
    features = features.double()
    centered = features - features.mean(0)
    fourth = (centered / (centered.square().mean(0).sqrt() + 1e-12)).pow(4)
    return float(fourth.mean())


@torch.no_grad()
def report(net: Net, names: Mapping[str, Sequence[str]], images: int) -> str:
    """Returns the tables. names: the deeper side, the encoder's and the combination of each module."""
    last = list(names.values())[-1]
    blobs: dict[str, list[Tensor]] = {name: [] for module in names.values() for name in module}
    truth: list[Tensor] = []
    seen = 0
    while seen < images:
        batch = net.next_batch()
        _, found = net(batch, [*blobs])
        for name, parts in blobs.items():
            parts.append(found[name].float().permute(0, 2, 3, 1).flatten(0, 2).cpu())
        count, _, height, width = found[last[0]].shape
        truth.append(inside(batch[net.source_layers[0].param.top[1]].cpu(), count, height, width).flatten())
        seen += count
    cells = torch.cat(truth)
    if not cells.any() or cells.all():
        raise CaffeError("the images have no cells inside of objects, or no others; give more --images")
    lines = [f"{seen} images, {100 * float(cells.double().mean()):.1f} % of the cells inside objects", ""]
    lines.append(f"{'module':36}{'kurtosis: deeper side':>24}{'combination':>14}")
    for module, (deeper, _, combined) in names.items():
        values = [kurtosis(torch.cat(blobs[name])) for name in (deeper, combined)]
        lines.append(f"{module:36}{values[0]:24.1f}{values[1]:14.1f}")
    lines += ["", f"{'blob of the last module':36}{'area under the curve':>24}"]
    for name in (last[1], last[0], last[2]):
        lines.append(f"{name:36}{separation(torch.cat(blobs[name]), cells):24.2f}")
    return "\n".join(lines)


def _command(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python experiments/small_objects/decoder_start.py "
        "build/compare_networks/deeppcb/models/dssd321-designed-scratch --control sum",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="directory with the train.prototxt of a DSSD")
    parser.add_argument("--weights", help="a .caffemodel of that network (default: random weights)")
    parser.add_argument("--control", choices=_COMBINING, help="change the modules into this control first")
    parser.add_argument("--images", type=int, default=64, help="number of images of the LMDB (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and order (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.images < 2:
        raise CaffeError(f"--images {options.images}: must be at least 2")
    set_random_seed(options.seed)
    with log.quiet():  # show only the tables, not the setup of the net
        param = read_net(options.folder / "train.prototxt")
        if options.control:
            CONTROLS[options.control](param)
        names = {layer.name: (*layer.bottom, f"{layer.top[0]}_relu") for layer in products(param)}
        net = Net(param, TRAIN)
        if options.weights:
            copy_trained_from(net, options.weights)
        text = report(net, names, options.images)
        net.close()
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("decoder_start.py", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
