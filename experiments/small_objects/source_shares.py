"""Counts the share of each source of a detector: positives and mined negatives in training, detections in testing.

A source is a blob with predictions, such as `module1`. The input is a directory written by a generator of prototxt_gen/.
The training net shows how many positives and mined negatives each source's default boxes get, on batches as in training.
The test net shows which source each detection comes from, and whether it is the first one of an object (true), another
one of the same object (repeated), or of no object (false).
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

#: the value with which multibox_loss_forward marks default boxes chosen by mining
MINED = -3
#: the overlap at which a detection finds an object, as in VOC
FOUND = 0.5

#: by source, then by what is counted
Table = dict[str, Counter[str]]


@dataclass(frozen=True)
class Sources:
    """The sources of a net. The default boxes of source i are those from starts[i] to starts[i + 1]."""

    names: list[str]
    starts: list[int]

    @classmethod
    def of(cls, net: Net, priors: str) -> Sources:
        """Reads the sources from the Concat layer that makes the blob `priors`."""
        joined = [step for step in net.steps if priors in step.tops]
        if not joined or joined[0].layer.type_name != "Concat":
            raise CaffeError(f"net '{net.name}': the default boxes '{priors}' do not come from a Concat layer")
        sizes = [net.blobs[bottom].shape[2] // 4 for bottom in joined[0].bottoms]
        return cls(
            [bottom.removesuffix("_mbox_priorbox") for bottom in joined[0].bottoms], np.cumsum([0, *sizes]).tolist()
        )

    def of_boxes(self, boxes: NDArray[np.integer[Any]]) -> list[str]:
        """Returns the name of the source of each default box, given by its index."""
        return [self.names[i] for i in np.searchsorted(self.starts, boxes, side="right") - 1]

    def ranges(self) -> list[tuple[str, int, int]]:
        return [(name, a, b) for name, (a, b) in zip(self.names, pairwise(self.starts), strict=True)]


def find_step(net: Net, kind: type[Any]) -> Step:
    """Returns the step of the only layer of a type. Raises CaffeError if there is not exactly one."""
    found = [step for step in net.steps if isinstance(step.layer, kind)]
    if len(found) != 1:
        raise CaffeError(f"net '{net.name}' has {len(found)} {kind.__name__} layers; it must have exactly one")
    return found[0]


def load(path: Path, weights: str, phase: int, lmdb: str | None) -> Net:
    """Loads a net that writes no files. If `lmdb` is given, the net reads it instead of its own data."""
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
    """Counts by source, summed over images: default boxes, positives, mined negatives, and three kinds of objects.

    These are objects with a positive of the source (`objects`), with positives of no other source (`alone`), and with a
    single positive in total (`single`). Also returns the number of images: `images` rounded up to whole batches.
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
    """Adds a batch. match: the label row of each default box, −1 for none, or `MINED` for a negative, [N, P]."""
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
    """Counts true, repeated and false detections by source, with a score of `threshold` or more, and images."""
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
    """Decodes CENTER_SIZE predictions into boxes, [N, P, 4]."""
    prior, variance = priors.reshape(2, -1, 4)
    side, center = prior[:, 2:] - prior[:, :2], (prior[:, 2:] + prior[:, :2]) / 2
    middle = loc[..., :2] * variance[:, :2] * side + center
    half = (loc[..., 2:] * variance[:, 2:]).exp() * side / 2
    return torch.cat([middle - half, middle + half], -1)


def origins(found: NDArray[Any], scores: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the index of each detection's default box, found by its score and then by its corners."""
    result = np.zeros(len(found), np.int64)
    for i, (_, label, score, *corners) in enumerate(found):
        candidates = np.flatnonzero(scores[:, int(label)] == score)
        result[i] = candidates[np.abs(boxes[candidates] - np.array(corners)).max(1).argmin()]
    return result


def verdicts(found: NDArray[Any], labels: NDArray[Any]) -> list[str]:
    """Classifies an image's detections as "true", "repeated" (of an object found before), "false" or "difficult".

    found: image, label, score and corners, [K, 7]. labels: image, label, instance, corners and difficult, [M, 8].
    Matching is as in VOC: best score first, each detection with the object of its class that it overlaps most.
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
    """Returns both tables of a net, per image: {"train": {source: {what: number}}, "test": …}."""
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
    """Returns the report as a text table."""
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
    # an object with positives of several sources would count several times
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
        epilog="columns: default boxes; positives and mined negatives per image; objects with a positive of this source,\n"
        "those with positives of no other source, and those with a single positive, usually from a forced match because\n"
        "no box reaches the overlap; detections that are true, repeated (of an object found before), and false\n"
        "example: python experiments/small_objects/source_shares.py demo_run/model "
        "demo_run/model/mdssd300_iter_300.caffemodel",
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="directory with train.prototxt and test.prototxt from a generator")
    parser.add_argument("weights", help="a .caffemodel of that network")
    parser.add_argument("--images", type=int, default=200, help="number of images of each LMDB (default: %(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="minimum score of a detection (default: %(default)s)"
    )
    parser.add_argument("--train_lmdb", help="LMDB to use instead of the training net's own")
    parser.add_argument("--test_lmdb", help="LMDB to use instead of the test net's own")
    parser.add_argument("--seed", type=int, default=1, help="seed of order and augmentation (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    if options.images < 1:
        raise CaffeError(f"--images {options.images}: must be at least 1")
    with log.quiet():  # show only the table, not the setup of the nets
        result = report(options.folder, options.weights, options)
    print(shown(result))
    if options.json:
        write_text(options.json, json.dumps(result, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    return run("source_shares.py", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
