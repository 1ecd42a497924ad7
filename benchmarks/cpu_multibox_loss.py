"""MultiBoxLoss forward and backward on the CPU at MDSSD300's size: the native op against the loss in PyTorch
operations.

Batch 8, the 31,232 default boxes of MDSSD300, 21 classes; 48 objects in the whole batch, then 48 in each image. Both
compute the same loss and gradients (compared before anything is timed).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from report import time_in_turn, write_result
from torch import Tensor
from torch.nn import functional as F

from caffe.data.feed.memory import keep_freed_memory
from caffe.engine.net import Net
from caffe.ops.multibox_loss import multibox_loss
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net

DEPLOY = Path(__file__).resolve().parent.parent / "models" / "MDSSD300" / "VOC" / "deploy.prototxt"
IMAGES, CLASSES = 8, 21
OPTIONS = MultiBoxLossOptions(CLASSES, code_type=caffe_pb2.PriorBoxParameter.CENTER_SIZE)


def mdssd300_priors() -> Tensor:
    """The default boxes that the deploy net makes, 1×2×(P·4)."""
    net = Net(read_net(DEPLOY), phase=1)
    priors = [
        step.layer(*(torch.empty(tuple(net.blobs[name].shape)) for name in step.bottoms))
        for step in net.steps
        if step.layer.type_name == "PriorBox"
    ]
    return torch.cat(priors, 2)


def objects(count: int) -> Tensor:
    """Label rows of `count` random boxes, distributed over the images in turn; sides from 0.03 to 0.6 of the image."""
    size = 0.03 * 20 ** torch.rand(count, 2)
    corner = torch.rand(count, 2) * (1 - size)
    image = torch.arange(count) * IMAGES // count
    label = torch.randint(1, CLASSES, (count,))
    columns = [image, label, torch.zeros(count), *corner.T, *(corner + size).T, torch.zeros(count)]
    return torch.stack([c.float() for c in columns], 1).reshape(1, 1, count, 8)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs."""
    sides = (torch.min(a[:, None, 2:], b[None, :, 2:]) - torch.max(a[:, None, :2], b[None, :, :2])).clamp(min=0)
    shared = sides.prod(2)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None] - shared)


def peer(loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor) -> Tensor:
    """The same loss in PyTorch operations, one image at a time, as in PyTorch versions of SSD."""
    boxes, variances = prior.reshape(2, -1, 4)
    loc, conf, rows = loc.view(IMAGES, -1, 4), conf.view(IMAGES, -1, CLASSES), label.view(-1, 8)
    loss, positives = loc.new_zeros(()), 0
    for n in range(IMAGES):
        truths = rows[rows[:, 0] == n]
        if len(truths) == 0:
            continue
        iou = overlaps(boxes, truths[:, 3:7])
        best, match = iou.max(1)
        matched = best >= OPTIONS.overlap_threshold
        free = iou.clone()
        for _ in range(len(truths)):
            at = int(free.argmax())
            p, t = divmod(at, len(truths))
            if free[p, t] <= 1e-6:
                break
            matched[p], match[p] = True, t
            free[p], free[:, t] = 0, 0
        found = matched.nonzero().squeeze(1)
        truth, box = truths[match[found]], boxes[found]
        size = box[:, 2:] - box[:, :2]
        center = (truth[:, 3:5] + truth[:, 5:7] - box[:, :2] - box[:, 2:]) / 2 / size
        code = torch.cat([center, ((truth[:, 5:7] - truth[:, 3:5]) / size).log()], 1) / variances[found]
        loss = loss + F.smooth_l1_loss(loc[n, found], code, reduction="sum")
        with torch.no_grad():
            hardness = conf[n].logsumexp(1) - conf[n, :, 0]
            hardness[matched | (best >= OPTIONS.neg_overlap)] = -torch.inf
            wanted = min(int(OPTIONS.neg_pos_ratio * len(found)), int((hardness > -torch.inf).sum()))
            negatives = hardness.topk(wanted).indices
        chosen = torch.cat([found, negatives])
        target = torch.cat([truth[:, 1].long(), torch.zeros(wanted, dtype=torch.long)])
        loss = loss + F.cross_entropy(conf[n, chosen], target, reduction="sum")
        positives += len(found)
    return loss / max(positives, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="timed runs of each (default: 20)")
    args = parser.parse_args()
    keep_freed_memory()  # as in `caffe train`
    torch.manual_seed(0)
    prior = mdssd300_priors()
    priors = prior.shape[2] // 4
    loc = torch.randn(IMAGES, priors * 4, requires_grad=True)
    conf = torch.randn(IMAGES, priors * CLASSES, requires_grad=True)

    def gradients(loss: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss(), (loc, conf))

    figures: dict[str, object] = {"priors": priors, "images": IMAGES, "classes": CLASSES}
    for name, count in (("48 objects in the batch", 48), ("48 objects an image", 48 * IMAGES)):
        label = objects(count)
        candidates: dict[str, Callable[[], Tensor]] = {
            "native": partial(multibox_loss, loc, conf, prior, label, OPTIONS),
            "PyTorch operations": partial(peer, loc, conf, prior, label),
        }
        ours, theirs = ((loss, *torch.autograd.grad(loss, (loc, conf))) for loss in (f() for f in candidates.values()))
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).norm() <= 1e-4 * b.norm(), f"{name}: the two differ"
        times = time_in_turn({key: partial(gradients, loss) for key, loss in candidates.items()}, rounds=args.rounds)
        figures[name] = times
    write_result("cpu_multibox_loss", figures)


if __name__ == "__main__":
    main()
