"""SSDs of other frameworks into a net of Caffe's, and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caffe.engine.layer import Layer
from caffe.engine.net import Net
from caffe.engine.weights import copy_layer, fits
from caffe.engine.wiring import Step
from caffe.errors import CaffeError, NetError
from caffe.interop.box_codes import BoxCode, between
from caffe.interop.checkpoint import Tensors, read_checkpoint
from caffe.interop.layout import Layout, gather
from caffe.interop.preprocessing import absorb, caffe_input
from caffe.interop.ssd_layouts import DETECTORS, VARIANCES, Boxes, DetectorLayout
from caffe.proto import caffe_pb2
from caffe.proto.weights import LayerWeights

Array = NDArray[np.float32]
#: the bias of a class that a net does not have: its probability is 0
_NEVER = -100.0
#: differences of default boxes below this, in pixels, are not worth a word
_WORTH_SAYING = 0.01


@dataclass(frozen=True)
class Head:
    """The layers that predict from one map, and its default boxes: rows × columns × boxes × 4, as centers and sizes."""

    loc: Layer
    conf: Layer
    prior: Layer
    boxes: Boxes
    variances: tuple[float, ...]


@dataclass
class Detector:
    """A net with a DetectionOutput layer: its heads in the order of the predictions."""

    net: Net
    size: int
    num_classes: int
    heads: list[Head]
    layers: dict[str, Layer] = field(default_factory=dict)


def read_detector(net: Net) -> Detector:
    """The heads of an SSD. Raises NetError for nets of another kind, and for box codes that other frameworks lack."""
    outputs = [step for step in net.steps if step.layer.type_name == "DetectionOutput"]
    inputs = [tuple(net.blobs[name].shape) for name in net.inputs]
    if len(outputs) != 1 or len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][2] != inputs[0][3]:
        raise NetError(
            f"net '{net.name}' is not an SSD's deploy net: it needs one square input and one DetectionOutput layer. Give "
            "-model models/SSD300/VOC/deploy.prototxt, or one like it"
        )
    p = outputs[0].layer.param.detection_output_param
    if p.code_type != caffe_pb2.PriorBoxParameter.CENTER_SIZE or p.variance_encoded_in_target or not p.share_location:
        raise NetError(
            f"layer '{outputs[0].layer.name}' (DetectionOutput): its boxes are not coded as in other frameworks, which "
            "have code_type CENTER_SIZE, variance_encoded_in_target false and share_location true"
        )
    if p.background_label_id != 0:
        raise NetError(f"layer '{outputs[0].layer.name}' (DetectionOutput): background_label_id must be 0 here")
    producers = {top: step for step in net.steps for top in step.tops}
    loc, conf, prior = (_sources(producers, bottom) for bottom in outputs[0].bottoms[:3])
    if not len(loc) == len(conf) == len(prior):
        raise NetError(f"net '{net.name}': {len(loc)} location heads, {len(conf)} of scores and {len(prior)} PriorBox")
    heads = [_head(net, *steps, inputs[0][2]) for steps in zip(loc, conf, prior, strict=True)]
    layers = {step.layer.name: step.layer for step in net.steps if step.layer.blobs}
    return Detector(net, inputs[0][2], p.num_classes, heads, layers)


def _sources(producers: Mapping[str, Step], blob: str) -> list[Step]:
    """The convolutions or PriorBox layers that a blob is put together from, through layers of one bottom."""
    step = producers[blob]
    if step.layer.type_name in ("Convolution", "PriorBox"):
        return [step]
    if step.layer.type_name == "Concat" or len(step.bottoms) == 1:
        return [source for bottom in step.bottoms for source in _sources(producers, bottom)]
    raise NetError(f"layer '{step.layer.name}' ({step.layer.type_name}) is not expected between a head and its output")


def _head(net: Net, loc: Step, conf: Step, prior: Step, size: int) -> Head:
    shapes = [tuple(net.blobs[name].shape) for name in prior.bottoms]
    with torch.no_grad():
        made = prior.layer(*(torch.empty(shape) for shape in shapes)).numpy().astype(np.float64)
    rows, columns = shapes[0][2:]
    corners = made[0, 0].reshape(rows, columns, -1, 4) * size
    boxes = np.concatenate([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], axis=3)
    if prior.layer.param.prior_box_param.clip:
        raise NetError(f"layer '{prior.layer.name}' (PriorBox): clip: true has no counterpart in other frameworks")
    return Head(loc.layer, conf.layer, prior.layer, boxes, tuple(made[0, 1, :4]))


def import_detector(
    source: str, path: str | Path, net: Net, mean: Sequence[float], scales: str | None, known: Mapping[str, Layout]
) -> list[str]:
    """Copies the SSD in `path`, in the layout `source`, into `net`. Returns notes on what differs.

    `mean`: of the net's images, blue, green, red. `scales`: "voc" or "coco", whose default boxes the file was trained
    with; None: by its number of classes. Raises CaffeError for files and nets that do not belong together.
    """
    target = read_detector(net)
    detector = _layout(source, target)
    tensors = read_checkpoint(path)
    layers = gather(path, tensors, detector.layout, known)
    first = layers["conv1_1"]
    weight, bias, border = absorb(first[0], first[1], detector.layout.preprocessing, caffe_input(mean))
    layers["conv1_1"] = [weight, bias]
    notes = _border_note(border)
    codes = _codes(path, detector, target, layers, scales)
    notes += _code_notes(codes, target)
    in_file = _classes(path, layers, target)
    scores = detector.scores(in_file, target.num_classes)
    if scores is None:
        raise CaffeError(
            f"{path}: it has {in_file} classes with the background, and net '{net.name}' {target.num_classes}; set "
            f"num_classes and the heads' num_output for {in_file}, or import for a net of that many"
        )
    if len(scores) != in_file:
        notes.append(f"left out {in_file - len(scores)} scores that belong to no category of COCO")
    for index in range(len(target.heads)):
        layers[f"loc{index}"] = list(codes[index].apply(*layers[f"loc{index}"]))
        layers[f"conf{index}"] = [_classes_in_order(array, in_file, scores) for array in layers[f"conf{index}"]]
    for name, arrays in layers.items():
        layer = _target_layer(name, target, detector)
        weights = LayerWeights(layer.name, layer.type_name, arrays)
        if not fits(weights, layer):
            shapes = ["×".join(map(str, a.shape)) for a in arrays]
            wanted = ["×".join(map(str, b.shape)) for b in layer.blobs]
            raise CaffeError(
                f"{path}: '{detector.layout.layers[name][0]}' does not fit layer '{layer.name}' of net '{net.name}': "
                f"{' and '.join(shapes)} in the file, {' and '.join(wanted)} in the net"
            )
        copy_layer(weights, layer, path)
    return notes


def export_detector(
    target_layout: str, net: Net, mean: Sequence[float], scales: str | None
) -> tuple[Tensors, list[str]]:
    """The net's weights as the state dict of another framework's SSD, and notes on what differs.

    `mean`: of the images that the net was trained with. `scales`: the default boxes of the other framework's model,
    "voc" or "coco"; None: ssd.pytorch's for the number of classes, COCO's for torchvision.
    """
    source = read_detector(net)
    detector = _layout(target_layout, source)
    wanted = scales or _default_scales(target_layout, source.num_classes)
    classes = 91 if target_layout == "torchvision_ssd300" and source.num_classes == 81 else source.num_classes
    order = detector.scores(classes, source.num_classes)
    assert order is not None
    tensors: Tensors = {}
    notes: list[str] = []
    codes = []
    for name, names in detector.layout.layers.items():
        layer = _target_layer(name, source, detector)
        arrays = [blob.detach().cpu().numpy().copy() for blob in layer.blobs]
        if name == "conv1_1":
            weight, bias, border = absorb(arrays[0], arrays[1], caffe_input(mean), detector.layout.preprocessing)
            arrays, notes = [weight, bias], notes + _border_note(border)
        elif name.startswith("loc"):
            head = source.heads[int(name[3:])]
            theirs = detector.boxes(int(name[3:]), head.boxes.shape[0], head.boxes.shape[1], wanted)
            _check_boxes(detector, head, theirs, f"net '{net.name}'")
            codes.append(between(head.boxes, head.variances, theirs, VARIANCES))
            arrays = list(codes[-1].apply(*arrays))
        elif name.startswith("conf"):
            arrays = [_classes_in_their_order(array, classes, order) for array in arrays]
        for theirs_name, array in zip(names, arrays, strict=True):
            tensors[theirs_name] = np.ascontiguousarray(array)
    if classes != source.num_classes:
        notes.append(f"added {classes - source.num_classes} categories that no object has, with probability 0")
    return tensors, notes + _code_notes(codes, source)


def _layout(name: str, target: Detector) -> DetectorLayout:
    sizes = DETECTORS[name]
    if target.size not in sizes or len(target.heads) != sizes[target.size].maps:
        exist = " and ".join(f"{size} x {size} with {layout.maps} heads" for size, layout in sizes.items())
        raise CaffeError(
            f"net '{target.net.name}' is {target.size} x {target.size} with {len(target.heads)} heads; {name} is {exist}"
        )
    missing = [layer for layer in sizes[target.size].layout.layers if _plain(layer) and layer not in target.layers]
    if missing:
        raise CaffeError(
            f"net '{target.net.name}' has no layer '{missing[0]}', so it is not an SSD{target.size} on VGG16; give the "
            f"models/SSD{target.size}/…/deploy.prototxt (an MDSSD starts from it: see --start_from of its generator)"
        )
    return sizes[target.size]


def _plain(name: str) -> bool:
    return not name.startswith(("loc", "conf")) or "_" in name


def _target_layer(name: str, target: Detector, detector: DetectorLayout) -> Layer:
    if _plain(name):
        return target.layers[name]
    kind = name.rstrip("0123456789")
    head = target.heads[int(name.removeprefix(kind))]
    return head.loc if kind == "loc" else head.conf


def _default_scales(layout: str, num_classes: int) -> str:
    return "coco" if layout == "torchvision_ssd300" or num_classes != 21 else "voc"


def _codes(
    path: str | Path, detector: DetectorLayout, target: Detector, layers: Mapping[str, list[Array]], scales: str | None
) -> list[BoxCode]:
    if scales is None:
        classes = _classes(path, layers, target)
        if classes not in (21, 81, 91):
            raise CaffeError(
                f"{path}: it has {classes} classes with the background, which does not say what its default boxes are; "
                "add -scales voc or -scales coco (those of the configuration that it was trained with)"
            )
        scales = "voc" if classes == 21 and "torchvision" not in detector.layout.title else "coco"
    codes = []
    for index, head in enumerate(target.heads):
        theirs = detector.boxes(index, head.boxes.shape[0], head.boxes.shape[1], scales)
        _check_boxes(detector, head, theirs, str(path))
        codes.append(between(theirs, VARIANCES, head.boxes, head.variances))
    return codes


def _check_boxes(detector: DetectorLayout, head: Head, theirs: Boxes, where: str) -> None:
    if theirs.shape != head.boxes.shape:
        raise CaffeError(
            f"{where}: layer '{head.prior.name}' has {head.boxes.shape[2]} default boxes at a position, "
            f"{detector.layout.title} {theirs.shape[2]}; their aspect ratios must be the same"
        )
    apart = np.abs(theirs[..., :2] - head.boxes[..., :2]).max()
    if apart > head.boxes[..., 2:].min():
        raise CaffeError(
            f"{where}: the centers of layer '{head.prior.name}' are up to {apart:.0f} pixels from those of "
            f"{detector.layout.title}; its step and offset must be the same"
        )


def _code_notes(codes: Sequence[BoxCode], target: Detector) -> list[str]:
    notes = []
    changed = [head.prior.name for code, head in zip(codes, target.heads, strict=True) if code.different]
    if changed:
        notes.append(
            f"default boxes of other sizes or variances in {', '.join(changed)}: the location heads were changed so that "
            "the predicted boxes are the same"
        )
    for code, head in zip(codes, target.heads, strict=True):
        if code.left > _WORTH_SAYING:
            notes.append(
                f"{head.prior.name}: some default boxes are up to {code.left:.1f} pixels apart, and so are the boxes "
                "predicted from them (the other framework moves centers into the image)"
            )
    return notes


def _border_note(change: float) -> list[str]:
    if change < 1e-6:
        return []
    return [
        f"the means of the images differ: conv1_1 absorbs that, except where it reaches over the image's border; there "
        f"its outputs differ by up to {change:.3g}"
    ]


def _classes(path: str | Path, layers: Mapping[str, list[Array]], target: Detector) -> int:
    boxes = int(target.heads[0].boxes.shape[2])
    scores = int(layers["conf0"][1].size)
    if scores % boxes or scores < 2 * boxes:
        raise CaffeError(f"{path}: {scores} scores at a position cannot be those of {boxes} default boxes")
    return scores // boxes


def _classes_in_order(array: Array, classes: int, order: Sequence[int]) -> Array:
    """The rows of a score head (boxes·classes × …) with the net's classes in its order."""
    if array.shape[0] % classes:
        return array  # fits() will say that its shape is wrong
    rows: Array = array.reshape(-1, classes, *array.shape[1:])
    return rows[:, list(order)].reshape(-1, *array.shape[1:])


def _classes_in_their_order(array: Array, classes: int, order: Sequence[int]) -> Array:
    """The reverse: the other framework's classes; those that the net lacks never win."""
    rows = array.reshape(-1, len(order), *array.shape[1:])
    made: Array = np.full((rows.shape[0], classes, *rows.shape[2:]), _NEVER if array.ndim == 1 else 0, np.float32)
    made[:, list(order)] = rows
    return made.reshape(-1, *array.shape[1:])
