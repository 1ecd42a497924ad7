"""What each source of a detector takes part in: positives and mined negatives in training, detections in testing.

A source is a blob that predicts, such as `module1`. Of a folder that a generator of prototxt_gen/ has written, the training
net shows what matching and mining give to each source's default boxes, on batches as training sees them. The test net shows
which source each detection comes from, and whether it is an object's first (true), another of an object that was found
already, or none.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.cli.flags import run
from caffe.data.augment.boxes import areas, intersections
from caffe.engine.layer import TEST, TRAIN
from caffe.engine.layer_types.detection_output import DetectionOutput
from caffe.engine.layer_types.multibox_loss import MultiBoxLoss
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from
from caffe.engine.wiring import Step
from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.ops.multibox_loss import multibox_loss_forward
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto.text import read_net
from caffe.runtime import set_random_seed

#: multibox_loss_forward's mark of a default box that mining has chosen
MINED = -3
#: a detection finds an object from this overlap on, as VOC counts
FOUND = 0.5

#: by source, then by what is counted
Table = dict[str, Counter[str]]


@dataclass(frozen=True)
class Sources:
    """The sources of a net and which of the default boxes are theirs: source i has those from starts[i] to starts[i + 1]."""

    names: list[str]
    starts: list[int]

    @classmethod
    def of(cls, net: Net, priors: str) -> Sources:
        """Read off the Concat layer that makes the blob `priors`."""
        joined = [step for step in net.steps if priors in step.tops]
        if not joined or joined[0].layer.type_name != "Concat":
            raise CaffeError(f"net '{net.name}': the default boxes '{priors}' do not come from a Concat layer")
        sizes = [net.blobs[bottom].shape[2] // 4 for bottom in joined[0].bottoms]
        return cls(
            [bottom.removesuffix("_mbox_priorbox") for bottom in joined[0].bottoms], np.cumsum([0, *sizes]).tolist()
        )

    def of_boxes(self, boxes: NDArray[np.integer[Any]]) -> list[str]:
        """The source of each default box, given by its index."""
        return [self.names[i] for i in np.searchsorted(self.starts, boxes, side="right") - 1]

    def ranges(self) -> list[tuple[str, int, int]]:
        return [(name, a, b) for name, (a, b) in zip(self.names, pairwise(self.starts), strict=True)]


def find_step(net: Net, kind: type[Any]) -> Step:
    """The one layer of a type, and its bottoms."""
    found = [step for step in net.steps if isinstance(step.layer, kind)]
    if len(found) != 1:
        raise CaffeError(f"net '{net.name}' has {len(found)} {kind.__name__} layers; it takes one")
    return found[0]


def load(path: Path, weights: str, phase: int, lmdb: str | None) -> Net:
    """A net with its weights, which reads `lmdb` in place of its own data where given, and writes no files."""
    param = read_net(path)
    for layer in param.layer:
        if layer.type == "AnnotatedData" and lmdb:
            layer.data_param.source = lmdb
        layer.detection_output_param.ClearField("save_output_param")
    net = Net(param, phase)
    copy_trained_from(net, weights)
    return net


@torch.no_grad()
def training_shares(net: Net, images: int) -> tuple[Table, int]:
    """By source: default boxes, positives, mined negatives, and objects: with a positive, with none elsewhere, with one in all.

    Sums over the images that are returned as the second, `images` rounded up to whole batches.
    """
    step = find_step(net, MultiBoxLoss)
    options = MultiBoxLossOptions.of_layer(step.layer.param).text
    loc, conf, priors, label = step.bottoms
    sources = Sources.of(net, priors)
    table: Table = defaultdict(Counter)
    seen = 0
    while seen < images:
        _, blobs = net(keep=step.bottoms)
        bottoms = [blobs[name].float().contiguous() for name in (loc, conf, priors, label)]
        _, match, _ = multibox_loss_forward(*bottoms, options)
        count_matches(match[:, 0].cpu().numpy(), sources, table)
        seen += len(match)
    for name, first, last in sources.ranges():
        table[name]["boxes"] = last - first
    return table, seen


def count_matches(match: NDArray[np.int32], sources: Sources, table: Table) -> None:
    """Adds a batch: `match` is N×P, the label row that each default box was given, −1 for none, `MINED` for a negative."""
    for image in match:
        takers: dict[int, Counter[str]] = defaultdict(Counter)
        for name, first, last in sources.ranges():
            own = image[first:last]
            table[name]["positives"] += int((own >= 0).sum())
            table[name]["mined"] += int((own == MINED).sum())
            for row in own[own >= 0].tolist():
                takers[row][name] += 1
        for positives in takers.values():
            for name in positives:
                table[name]["objects"] += 1
                table[name]["alone"] += len(positives) == 1
                table[name]["single"] += positives.total() == 1


@torch.no_grad()
def test_shares(net: Net, images: int, threshold: float) -> tuple[Table, int]:
    """By source, detections of score `threshold` or more: true, repeated and false ones. And the number of images."""
    step = find_step(net, DetectionOutput)
    loc, conf, priors = step.bottoms[:3]
    sources = Sources.of(net, priors)
    classes = step.layer.param.detection_output_param.num_classes
    data = net.source_layers[0].param.top
    (output,) = step.tops
    table: Table = defaultdict(Counter)
    seen = 0
    while seen < images:
        _, blobs = net(keep=[loc, conf, priors, output, data[1]])
        scores = blobs[conf].reshape(len(blobs[loc]), -1, classes)
        boxes = decode(blobs[loc].reshape(len(scores), -1, 4), blobs[priors])
        rows = blobs[output].reshape(-1, 7).cpu().numpy()
        labels = blobs[data[1]].reshape(-1, 8).cpu().numpy()
        for image in range(len(scores)):
            found = rows[(rows[:, 0] == image) & (rows[:, 1] >= 0) & (rows[:, 2] >= threshold)]
            origin = sources.of_boxes(origins(found, scores[image].cpu().numpy(), boxes[image].cpu().numpy()))
            for name, verdict in zip(origin, verdicts(found, labels[labels[:, 0] == image]), strict=True):
                table[name][verdict] += 1
        seen += len(scores)
    return table, seen


def decode(loc: Tensor, priors: Tensor) -> Tensor:
    """Boxes, N×P×4, of predictions that are coded by CENTER_SIZE."""
    prior, variance = priors.reshape(2, -1, 4)
    side, centre = prior[:, 2:] - prior[:, :2], (prior[:, 2:] + prior[:, :2]) / 2
    middle = loc[..., :2] * variance[:, :2] * side + centre
    half = (loc[..., 2:] * variance[:, 2:]).exp() * side / 2
    return torch.cat([middle - half, middle + half], -1)


def origins(found: NDArray[Any], scores: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.int64]:
    """The default box that each detection comes from: that of its score, and of these the one with its corners."""
    result = np.zeros(len(found), np.int64)
    for i, (_, label, score, *corners) in enumerate(found):
        candidates = np.flatnonzero(scores[:, int(label)] == score)
        result[i] = candidates[np.abs(boxes[candidates] - np.array(corners)).max(1).argmin()]
    return result


def verdicts(found: NDArray[Any], labels: NDArray[Any]) -> list[str]:
    """Of an image's detections: "true", "repeated" (its object was found before), "false", or "difficult" (not counted).

    found, K×7: image, label, score and corners. labels, M×8: image, label, instance, corners, difficult. As VOC matches:
    best score first, each with the object of its class that it overlaps most.
    """
    result = [""] * len(found)
    taken: set[int] = set()
    for i in np.argsort(-found[:, 2], kind="stable").tolist():
        own = np.flatnonzero(labels[:, 1] == found[i, 1])
        result[i] = "false"
        if not len(own):
            continue
        box, objects = found[i, 3:], labels[own, 3:7]
        shared = intersections(box, objects)
        overlaps = shared / np.maximum(areas(box) + areas(objects) - shared, 1e-12)
        best = int(overlaps.argmax())
        if overlaps[best] < FOUND:
            continue
        index = int(own[best])
        result[i] = "difficult" if labels[index, 7] else "repeated" if index in taken else "true"
        taken.add(index)
    return result


def report(folder: Path, weights: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both tables of a net, as shares of an image: {"train": {source: {what: number}}, "test": …}."""
    result: dict[str, Any] = {"net": str(folder), "weights": weights, "threshold": options.threshold}
    set_random_seed(options.seed)
    net = load(folder / "train.prototxt", weights, TRAIN, options.train_lmdb)
    table, seen = training_shares(net, options.images)
    net.close()
    result["train"] = {
        name: {what: n if what == "boxes" else n / seen for what, n in row.items()} for name, row in table.items()
    }
    net = load(folder / "test.prototxt", weights, TEST, options.test_lmdb)
    table, seen = test_shares(net, options.images, options.threshold)
    net.close()
    result["test"] = {name: {what: n / seen for what, n in row.items()} for name, row in table.items()}
    return result


def shown(result: Mapping[str, Any]) -> str:
    """The report as a table for people."""
    heads = ("boxes", "positives", "mined", "objects", "alone", "single"), ("true", "repeated", "false")
    lines = [
        f"{result['net']} with {result['weights']}; for each image, detections of score {result['threshold']:g} or more",
        f"{'source':14}" + "".join(f"{head:>11}" for part in heads for head in part),
    ]
    totals: Counter[str] = Counter()
    for name, training in result["train"].items():
        row = {**training, **result["test"].get(name, {})}
        totals.update(row)
        lines.append(f"{name:14}" + "".join(_number(row.get(head, 0), head) for part in heads for head in part))
    # an object that several sources match would count several times
    lines.append(
        f"{'all':14}"
        + "".join(f"{'':11}" if head in heads[0][3:] else _number(totals[head], head) for p in heads for head in p)
    )
    return "\n".join(lines)


def _number(value: float, what: str) -> str:
    return f"{value:11,.0f}" if what == "boxes" else f"{value:11.2f}"


def _command(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="columns: default boxes; positives and mined negatives in an image; objects that the source has a positive\n"
        "for, those that no other source has one for, and those of a single positive, mostly matched by force as no box\n"
        "reaches the overlap; detections that are true, of an object found before, and false\n"
        "example: python experiments/small_objects/source_shares.py demo_run/model "
        "demo_run/model/mdssd300_iter_300.caffemodel",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="with train.prototxt and test.prototxt, as a generator writes it")
    parser.add_argument("weights", help="a .caffemodel of that network")
    parser.add_argument("--images", type=int, default=200, help="of each LMDB (default: %(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="least score of a detection (default: %(default)s)"
    )
    parser.add_argument("--train_lmdb", help="in place of the training net's own")
    parser.add_argument("--test_lmdb", help="in place of the test net's own")
    parser.add_argument("--seed", type=int, default=1, help="of the order and augmentation (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    if options.images < 1:
        raise CaffeError(f"--images {options.images}: it takes at least 1")
    with log.quiet():  # the table, not the set-up of nets
        result = report(options.folder, options.weights, options)
    print(shown(result))
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run("source_shares.py", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
