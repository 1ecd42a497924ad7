"""Regions and detections that other forks find by one suppression over all classes: Proposal, YOLO v2 and v3."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from caffe.engine.layer import Shape
from caffe.export.detection import or_nothing
from caffe.export.graph import Graph
from caffe.export.registry import converts


def _below(threshold: float) -> float:
    """The largest float32 below `threshold`: what is over it is at least the threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


def _column(g: Graph, table: str, index: int) -> str:
    """Column `index` of a table, without its axis."""
    return g.add("Gather", table, g.constant(index), axis=1)


@converts("Proposal")
def _proposal(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    """Tops: regions M × 5 and, if asked for, scores M. ONNX measures sides without the last pixel, hence the 1."""
    p = layer.param.proposal_param
    a, (height, width) = len(layer.anchors), shapes[0][2:]
    count, values = a * height * width, int(np.prod(shapes[2][1:]))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shift = torch.stack([x, y, x, y], -1)[:, :, None] * p.feat_stride
    anchors = (shift.float() + layer.anchors.float()).reshape(1, count, 4).numpy()
    size = anchors[..., 2:] - anchors[..., :2] + 1

    objects = g.add("Slice", bottoms[0], g.constant([a]), g.constant([2 * a]), g.constant([1]))
    score = g.add("Reshape", g.add("Transpose", objects, perm=[0, 2, 3, 1]), g.constant([-1, count]))
    moves = g.add("Reshape", bottoms[1], g.constant([-1, a, 4, height, width]))
    moves = g.add("Reshape", g.add("Transpose", moves, perm=[0, 3, 4, 1, 2]), g.constant([-1, count, 4]))
    along, growth = g.add_many("Split", moves, g.constant([2, 2]), outputs=2, axis=2)
    center = g.add("Add", g.add("Mul", along, g.constant(size)), g.constant(anchors[..., :2] + 0.5 * size))
    half = g.add("Mul", g.add("Exp", growth), g.constant(0.5 * size))
    corners = g.add("Concat", g.add("Sub", center, half), g.add("Add", center, half), axis=2)
    info = g.add("Unsqueeze", g.add("Reshape", bottoms[2], g.constant([-1, values])), g.constant([1]))
    last = g.add("Sub", g.add("Gather", info, g.constant([1, 0, 1, 0]), axis=2), g.constant(1.0))
    boxes = g.add("Max", g.add("Min", corners, last), g.constant(0.0))

    enlarged = g.add("Gather", info, g.constant([3 if values > 3 else 2, 2]), axis=2)
    least, most = g.add_many("Split", boxes, g.constant([2, 2]), outputs=2, axis=2)
    sides = g.add("Add", g.add("Sub", most, least), g.constant(1.0))
    small = g.add("Less", sides, g.add("Mul", enlarged, g.constant(float(p.min_size))))
    dropped = g.add("ReduceMax", g.add("Cast", small, to=1), axes=[2], keepdims=0)
    score = g.add("Mul", score, g.add("Sub", g.constant(1.0), dropped))

    looked_at = min(p.pre_nms_topn, count)
    score, index = g.add_many("TopK", score, g.constant([looked_at]), outputs=2, axis=1)
    boxes = g.add("GatherND", boxes, g.add("Unsqueeze", index, g.constant([2])), batch_dims=1)
    selected = g.add(
        "NonMaxSuppression",
        g.add("Add", boxes, g.constant([0.0, 0.0, 1.0, 1.0])),
        g.add("Unsqueeze", score, g.constant([1])),
        g.constant([p.post_nms_topn]),
        g.constant([p.nms_thresh], dtype=np.float32),
    )
    which = g.add("Gather", selected, g.constant([0, 2]), axis=1)
    image = g.add("Cast", g.add("Gather", selected, g.constant([0]), axis=1), to=1)
    regions = g.add("Concat", image, g.add("GatherND", boxes, which), axis=1)
    return [regions, g.add("GatherND", score, which)][: len(tops)]


def _boxes(g: Graph, layer: Any, offset: str, size: str, anchors: Any, shape: Shape) -> str:
    """YOLO's boxes, N × cells·anchors × 4 corners, from offsets and sizes N × A × 2 × H × W; anchors A × 2."""
    height, width = shape[2:]
    cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), 0)[None, None].astype(np.float32)
    scale = np.array([width, height], np.float32).reshape(1, 1, 2, 1, 1)
    center = g.add("Div", g.add("Add", offset, g.constant(cells)), g.constant(scale))
    half = g.add("Mul", g.add("Exp", size), g.constant(anchors.numpy().reshape(1, -1, 2, 1, 1) / 2))
    corners = g.add("Concat", g.add("Sub", center, half), g.add("Add", center, half), axis=2)
    return g.add("Reshape", g.add("Transpose", corners, perm=[0, 3, 4, 1, 2]), g.constant([0, -1, 4]))


def _rows(g: Graph, layer: Any, boxes: str, score: str, least: float, label: Any) -> str:
    """The layer's rows, from candidates N × M × 4 and N × M. `label` gives the labels M of (image, index) pairs M × 2."""
    count = g.add("Shape", score, start=1, end=2)
    selected = g.add(
        "NonMaxSuppression",
        boxes,
        g.add("Unsqueeze", score, g.constant([1])),
        count,
        g.constant([_below(layer.nms_threshold)], dtype=np.float32),
        g.constant([least], dtype=np.float32),
    )
    which = g.add("Gather", selected, g.constant([0, 2]), axis=1)
    fields = [g.add("Cast", _column(g, which, 0), to=1), label(which), g.add("GatherND", score, which)]
    columns = [g.add("Unsqueeze", field, g.constant([1])) for field in fields]
    found = g.add("Concat", *columns, g.add("GatherND", boxes, which), axis=1)
    batch = g.add("Squeeze", g.add("Shape", score, start=0, end=1))
    images = g.add("Unsqueeze", g.add("Range", g.constant(0), batch, g.constant(1)), g.constant([1]))
    return or_nothing(g, found, images, layer.param.top[0])


def _split(g: Graph, layer: Any, bottom: str, shape: Shape, *parts: int) -> list[str]:
    """A map as N × A × values × H × W, cut along the values."""
    apart = g.add("Reshape", bottom, g.constant([-1, layer.boxes_per_cell, layer.values_per_box(), *shape[2:]]))
    return g.add_many("Split", apart, g.constant(list(parts)), outputs=len(parts), axis=2)


@converts("YoloDetectionOutput")
def _yolo2(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    boxes: list[str] = []
    scores: list[str] = []
    labels: list[str] = []
    for bottom, shape in zip(bottoms, shapes, strict=True):
        offset, size, sure, classes = _split(g, layer, bottom, shape, 2, 2, 1, layer.classes)
        cells = torch.tensor([shape[3], shape[2]])
        boxes.append(_boxes(g, layer, g.add("Sigmoid", offset), size, layer.anchors / cells, shape))
        chance = g.add("Softmax", classes, axis=2)
        best = g.add("ReduceMax", chance, axes=[2], keepdims=1)
        for made, value in (
            (scores, g.add("Mul", g.add("Sigmoid", sure), best)),
            (labels, g.add("ArgMax", chance, axis=2)),
        ):
            made.append(g.add("Reshape", g.add("Transpose", value, perm=[0, 3, 4, 1, 2]), g.constant([0, -1])))
    label = g.add("Concat", *labels, axis=1)

    def labels_of(which: str) -> str:
        return g.add("Cast", g.add("Add", g.add("GatherND", label, which), g.constant(1)), to=1)

    candidates = g.add("Concat", *boxes, axis=1), g.add("Concat", *scores, axis=1)
    return [_rows(g, layer, *candidates, _below(layer.threshold), labels_of)]


@converts("Yolov3DetectionOutput")
def _yolo3(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    boxes, scores = [], []
    for index, (bottom, shape) in enumerate(zip(bottoms, shapes, strict=True)):
        coordinates, sure, classes = _split(g, layer, bottom, shape, 8 if layer.gaussian else 4, 1, layer.classes)
        sure = g.add("Sigmoid", sure)
        if layer.gaussian:
            doubt = g.add("Sigmoid", g.add("Gather", coordinates, g.constant([1, 3, 5, 7]), axis=2))
            doubt = g.add("ReduceMean", doubt, axes=[2], keepdims=1)
            sure = g.add("Mul", sure, g.add("Sub", g.constant(1.0), doubt))
            coordinates = g.add("Gather", coordinates, g.constant([0, 2, 4, 6]), axis=2)
        offset, size = g.add_many("Split", coordinates, g.constant([2, 2]), outputs=2, axis=2)
        image = torch.tensor([shape[3], shape[2]]) * layer.pixels[index]
        corners = _boxes(g, layer, g.add("Sigmoid", offset), size, layer.anchors[index] / image, shape)
        # each box once for every class
        repeated = g.add("Tile", g.add("Unsqueeze", corners, g.constant([2])), g.constant([1, 1, layer.classes, 1]))
        boxes.append(g.add("Reshape", repeated, g.constant([0, -1, 4])))
        score = g.add("Mul", g.add("Sigmoid", classes), sure)
        scores.append(g.add("Reshape", g.add("Transpose", score, perm=[0, 3, 4, 1, 2]), g.constant([0, -1])))

    def labels_of(which: str) -> str:
        number = g.add("Mod", _column(g, which, 1), g.constant(layer.classes))
        return g.add("Cast", g.add("Add", number, g.constant(1)), to=1)

    candidates = g.add("Concat", *boxes, axis=1), g.add("Concat", *scores, axis=1)
    return [_rows(g, layer, *candidates, layer.threshold, labels_of)]
