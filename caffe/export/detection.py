"""DetectionOutput as ONNX nodes: decoding, selection, non-maximum suppression and the rows, as the layer returns them.

The steps and their order are the layer's: for each class the `top_k` best scores, suppression among them, then the
`keep_top_k` best over all classes, in rows by image, label and falling score. ONNX's NonMaxSuppression keeps a box
whose overlap is at most the threshold and drops scores at most the threshold, as Caffe does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.engine.layer import Layer, Shape
from caffe.export.graph import Array, Graph
from caffe.export.registry import converts, fail
from caffe.proto import caffe_pb2

_Code = caffe_pb2.PriorBoxParameter
_LOWEST = float(np.finfo(np.float32).min)


@converts("DetectionOutput")
def _detection_output(g: Graph, layer: Any, bottoms: list[str], shapes: list[Shape], tops: list[Shape]) -> list[str]:
    """Locations N × 4·P, confidences N × classes·P, priors 1 × 2 × 4·P; the top is 1 × 1 × detections × 7.

    Without detections, one row per image: its id, then −1.
    """
    loc, conf = bottoms[:2]
    priors = g.known_value(bottoms[2])
    if priors is None:
        raise fail(layer, f"its priors '{layer.param.bottom[2]}' are computed from data, not by PriorBox layers")
    p = layer.param.detection_output_param
    if not p.share_location:
        raise fail(layer, "share_location: false (boxes for each class) has no conversion")
    if p.nms_param.eta != 1:
        raise fail(layer, f"eta {p.nms_param.eta:g}: ONNX's suppression has a fixed threshold")
    count = priors.shape[2] // 4
    foreground = [label for label in range(p.num_classes) if label != p.background_label_id]
    per_class = min(p.nms_param.top_k, count) if p.nms_param.HasField("top_k") and p.nms_param.top_k >= 0 else count
    candidates = len(foreground) * per_class
    kept = min(p.keep_top_k, candidates) if p.keep_top_k >= 0 else candidates
    if kept == 0:
        raise fail(layer, "top_k, keep_top_k or the number of classes leaves no detection")

    moved = layer.refines and len(bottoms) > 4
    boxes = ""
    if moved or candidates > count:  # otherwise fewer boxes are decoded after the selection
        boxes = _decode(g, layer, g.add("Reshape", bottoms[4] if moved else loc, g.constant([0, count, 4])), priors)
    if moved:
        boxes = _decode_from(g, layer, loc, boxes, priors, count)
    if layer.refines:
        conf = _without_unlikely(g, layer, conf, bottoms[3], count)

    # The best of each class: scores and indices N × classes × per_class.
    scores = g.add("Reshape", conf, g.constant([0, count, p.num_classes]))
    scores = g.add("Transpose", scores, perm=[0, 2, 1])
    scores = g.add("Gather", scores, g.constant(foreground), axis=1)
    best, index = g.add_many("TopK", scores, g.constant([per_class]), outputs=2, axis=2)

    # Their boxes, N·classes × per_class × 4, gathered from the boxes of all images.
    batch = g.add("Shape", loc, start=0, end=1)
    images = g.add("Range", g.constant(0), g.add("Squeeze", batch), g.constant(1))
    first = g.add("Mul", images, g.constant(count))
    flat = g.add("Add", index, g.add("Reshape", first, g.constant([-1, 1, 1])))
    candidate_boxes = g.add("Gather", g.add("Reshape", boxes or loc, g.constant([-1, 4])), flat, axis=0)
    if not boxes:
        candidate_boxes = _decode(g, layer, candidate_boxes, priors, index)

    # For the suppression, each class of each image is a batch item.
    selected = g.add(
        "NonMaxSuppression",
        g.add("Reshape", _without_inside_out(g, candidate_boxes), g.constant([-1, per_class, 4])),
        g.add("Reshape", best, g.constant([-1, 1, per_class])),
        g.constant([per_class]),
        g.constant([p.nms_param.nms_threshold], dtype=np.float32),
        *([g.constant([p.confidence_threshold], dtype=np.float32)] if p.HasField("confidence_threshold") else []),
    )
    survivors = g.add("Gather", selected, g.constant([0, 2]), axis=1)
    rows = g.add("Reshape", best, g.constant([-1, per_class]))
    nothing = g.add("ConstantOfShape", g.add("Shape", rows), value=g.scalar(_LOWEST))
    surviving = g.add("ScatterND", nothing, survivors, g.add("GatherND", rows, survivors))

    # The best of each image, N × kept, then ordered by label and, within it, by score.
    surviving = g.add("Reshape", surviving, g.constant([-1, candidates]))
    score, position = g.add_many("TopK", surviving, g.constant([kept]), outputs=2, axis=1)
    by_class = g.add("Mul", g.add("Div", position, g.constant(per_class)), g.constant(kept))
    key = g.add("Add", by_class, g.constant(np.arange(kept)))
    _, order = g.add_many("TopK", key, g.constant([kept]), outputs=2, axis=1, largest=0)
    score = g.add("GatherElements", score, order, axis=1)
    position = g.add("GatherElements", position, order, axis=1)

    # The rows: image, label, score, xmin, ymin, xmax, ymax.
    label = g.add("Gather", g.constant(foreground), g.add("Div", position, g.constant(per_class)))
    column = g.add("Reshape", images, g.constant([-1, 1]))
    which = g.add("Add", position, g.add("Mul", column, g.constant(candidates)))
    corners = g.add("Gather", g.add("Reshape", candidate_boxes, g.constant([-1, 4])), which, axis=0)
    image = g.add("Add", g.add("Mul", position, g.constant(0)), column)
    fields = [g.add("Unsqueeze", g.add("Cast", field, to=1), g.constant([2])) for field in (image, label, score)]
    table = g.add("Reshape", g.add("Concat", *fields, corners, axis=2), g.constant([-1, 7]))
    valid = g.add("Reshape", g.add("Greater", score, g.constant(_LOWEST)), g.constant([-1]))
    # not by Compress, which OpenCV does not have
    rows = g.add("Reshape", g.add("NonZero", valid), g.constant([-1]))
    found = g.add("Gather", table, rows, axis=0)
    return [or_nothing(g, found, column, layer.param.top[0])]


def _decode(g: Graph, layer: Layer, offsets: str, priors: Array, chosen: str = "") -> str:
    """The predicted boxes, … × 4, from offsets relative to the priors.

    offsets: N × P × 4, those of all priors, or N × classes × K × 4, those of the priors whose indices are `chosen`.
    """
    p = layer.param.detection_output_param
    prior = priors[0, 0].reshape(-1, 4).astype(np.float32)
    variance = priors[0, 1].reshape(-1, 4).astype(np.float32)
    if p.variance_encoded_in_target:
        variance = np.ones_like(variance)
    size = prior[:, 2:] - prior[:, :2]

    def of_priors(*values: Array) -> list[str]:
        """Arrays of one row per prior, for the offsets' priors."""
        if not chosen:
            return [g.constant(value) for value in values]
        table = g.add("Gather", g.constant(np.concatenate(values, axis=1)), chosen, axis=0)
        widths = [value.shape[1] for value in values]
        return g.add_many("Split", table, g.constant(widths), outputs=len(values), axis=last)

    last = 3 if chosen else 2
    if p.code_type == _Code.CENTER_SIZE:
        scale, center, growth_scale, half_size = of_priors(
            variance[:, :2] * size, (prior[:, :2] + prior[:, 2:]) / 2, variance[:, 2:], size / 2
        )
        shift, growth = g.add_many("Split", offsets, g.constant([2, 2]), outputs=2, axis=last)
        middle = g.add("Add", g.add("Mul", shift, scale), center)
        half = g.add("Mul", g.add("Exp", g.add("Mul", growth, growth_scale)), half_size)
        return g.add("Concat", g.add("Sub", middle, half), g.add("Add", middle, half), axis=last)
    if p.code_type == _Code.CORNER:
        factor = variance
    elif p.code_type == _Code.CORNER_SIZE:
        factor = variance * np.concatenate([size, size], axis=1)
    else:
        raise fail(layer, f"unknown code_type {p.code_type}")
    scale, corners = of_priors(factor, prior)
    return g.add("Add", g.add("Mul", offsets, scale), corners)


def _decode_from(g: Graph, layer: Layer, loc: str, moved: str, priors: Array, count: int) -> str:
    """As `_decode`, relative to the boxes `moved`, N × P × 4; variances are the priors'."""
    p = layer.param.detection_output_param
    offsets = g.add("Reshape", loc, g.constant([0, count, 4]))
    if not p.variance_encoded_in_target:
        offsets = g.add("Mul", offsets, g.constant(priors[0, 1].reshape(count, 4).astype(np.float32)))
    if p.code_type == _Code.CORNER:
        return g.add("Add", offsets, moved)
    least, most = g.add_many("Split", moved, g.constant([2, 2]), outputs=2, axis=2)
    size = g.add("Sub", most, least)
    if p.code_type == _Code.CORNER_SIZE:
        return g.add("Add", g.add("Mul", offsets, g.add("Concat", size, size, axis=2)), moved)
    half = g.constant(0.5, dtype=np.float32)
    shift, growth = g.add_many("Split", offsets, g.constant([2, 2]), outputs=2, axis=2)
    middle = g.add("Add", g.add("Mul", shift, size), g.add("Mul", g.add("Add", least, most), half))
    side = g.add("Mul", g.add("Mul", g.add("Exp", growth), size), half)
    return g.add("Concat", g.add("Sub", middle, side), g.add("Add", middle, side), axis=2)


def _without_unlikely(g: Graph, layer: Any, conf: str, objectness: str, count: int) -> str:
    """Confidences of which boxes below the objectness score have 1 for class 0 and 0 for the others."""
    classes = layer.num_classes
    pairs = g.add("Reshape", objectness, g.constant([0, count, 2]))
    likelihood = g.add("Gather", pairs, g.constant([1]), axis=2)
    unlikely = g.add("Less", likelihood, g.constant(layer.objectness_score, dtype=np.float32))
    scores = g.add("Reshape", conf, g.constant([0, count, classes]))
    return g.add("Where", unlikely, g.constant(np.eye(1, classes, dtype=np.float32)), scores)


def _without_inside_out(g: Graph, boxes: str) -> str:
    """Makes boxes with swapped corners empty: in Caffe neither overlaps anything, but ONNX swaps the corners back."""
    least, most = g.add_many("Split", boxes, g.constant([2, 2]), outputs=2, axis=3)
    return g.add("Concat", least, g.add("Max", least, most), axis=3)


def or_nothing(g: Graph, found: str, images: str, output: str) -> str:
    """`found` (K × 7) as 1 × 1 × K × 7; for K = 0 one row per image, its id and six −1. `images` is N × 1."""
    minus = g.add(
        "Expand", g.constant(-1.0), g.add("Concat", g.add("Shape", images, start=0, end=1), g.constant([6]), axis=0)
    )
    blank = g.add("Concat", g.add("Cast", images, to=1), minus, axis=1)
    rows = g.add("Shape", found, start=0, end=1)
    none = g.add("Equal", rows, g.constant([0]))
    end = g.add("Where", none, g.add("Shape", images, start=0, end=1), rows)
    table = g.add("Slice", g.add("Concat", found, blank, axis=0), g.constant([0]), end, g.constant([0]))
    return g.add("Unsqueeze", table, g.constant([0, 1]), output=output)
