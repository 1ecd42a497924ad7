"""DetectionOutput: from predictions to detections, and the files and pictures that the layer writes."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from caffe import log
from caffe.detection import result_files
from caffe.detection.visualize import Visualizer
from caffe.engine.layer import Layer, Shape, SourceLayer, register
from caffe.engine.layer_types.forks import refinement
from caffe.engine.layer_types.shapes import count, text
from caffe.ops.detection_output import CORNER, detection_output_static, trim
from caffe.runtime import runtime

_TWICE = (
    ", twice as many. The PriorBox layers of TextBoxes make every box twice: give them denser_prior_boxes: true if the "
    "net is one of its"
)


@register
class DetectionOutput(Layer):
    """Bottoms: location predictions N×(P·L·4), confidences N×(P·C), priors 1×2×(P·4), and the images to visualize.

    Top: 1×1×K×7, one row per detection: image, label, score, xmin, ymin, xmax, ymax (corners in units of the input), by
    image, label and falling score. If the whole batch has no detection: one row per image, its id and six −1.

    The objectness and offsets of RefineDet's first stage (see forks/refinement.py) may be a fourth and fifth bottom. Of
    four bottoms the last is objectness if objectness_score is given or it has two values per prior, else the images.
    """

    type_name = "DetectionOutput"
    bottoms = (3, 5)
    #: with `static_shape` the top has all rows that could be in use, N·capacity; unused ones are the image's id and six
    #: −1. Result files are not written then.
    dynamic_axes = MappingProxyType({2: "detections"})

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.detection_output_param
        if not param.HasField("num_classes") or param.num_classes < 1:
            self.fail("Must specify num_classes (background included)")
        if param.nms_param.nms_threshold < 0:
            self.fail(f"nms_threshold must be non-negative, not {param.nms_param.nms_threshold:g}")
        if not 0 < param.nms_param.eta <= 1:
            self.fail(f"eta must be over 0 and at most 1, not {param.nms_param.eta:g}")
        self.num_classes: int = param.num_classes
        self.loc_classes: int = 1 if param.share_location else param.num_classes
        self.refines = len(bottom) > 4 or (
            len(bottom) == 4
            and (
                param.HasField("objectness_score") or (len(bottom[3]) == 2 and bottom[3][1] * 2 == count(bottom[2], 2))
            )
        )
        if len(bottom) > 4 and not param.share_location:
            self.fail("boxes that a first stage has moved (five bottoms) need share_location: true")
        self.objectness_score = param.objectness_score
        nms = param.nms_param
        # read here, because a tracer cannot read messages
        self.options: dict[str, Any] = dict(
            num_classes=self.num_classes,
            share_location=param.share_location,
            background_label_id=param.background_label_id,
            code_type=param.code_type,
            variance_encoded_in_target=param.variance_encoded_in_target,
            confidence_threshold=(
                param.confidence_threshold
                if param.HasField("confidence_threshold")
                else -torch.finfo(torch.float32).max
            ),
            nms_threshold=nms.nms_threshold,
            eta=nms.eta,
            top_k=nms.top_k if nms.HasField("top_k") else -1,
            keep_top_k=param.keep_top_k,
        )
        self.results: result_files.ResultFiles | None = None
        self.visualizer: Visualizer | None = None
        if not runtime.layers_write:
            return
        if param.visualize and (len(bottom) < 4 or self.refines):
            self.fail("visualize needs a fourth bottom, the images (usually 'data')")
        with self.named_in_errors():
            if result_files.wanted(param.save_output_param):
                self.results = result_files.ResultFiles(
                    param.save_output_param, param.num_classes, param.background_label_id
                )
            if param.visualize:
                self.visualizer = Visualizer(param, self.param.transform_param)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        loc, conf, prior = bottom[:3]
        if not loc or not conf or loc[0] != conf[0]:
            self.fail(f"locations are {text(loc)}, confidences {text(conf)}: they must have the same number of images")
        if len(prior) < 3 or prior[1] != 2 or prior[2] % 4:
            self.fail(f"priors are {text(prior)}; they must be 1×2×(4 values per prior), as PriorBox makes them")
        priors = prior[2] // 4
        if count(loc, 1) != priors * self.loc_classes * 4:
            self.fail(
                "Number of priors must match number of location predictions: "
                f"{priors} priors take {priors * self.loc_classes * 4} values per image, "
                f"'{self.param.bottom[0]}' has {count(loc, 1)}"
                + (_TWICE if count(loc, 1) == 2 * priors * self.loc_classes * 4 else "")
            )
        if count(conf, 1) != priors * self.num_classes:
            self.fail(
                "Number of priors must match number of confidence predictions: "
                f"{priors} priors and num_classes: {self.num_classes} take {priors * self.num_classes} values per "
                f"image, '{self.param.bottom[1]}' has {count(conf, 1)}"
                + (f", as for {count(conf, 1) // priors} classes" if priors and count(conf, 1) % priors == 0 else "")
            )
        if self.refines:
            offsets = bottom[4] if len(bottom) > 4 else None
            if problem := refinement.shape_problem(bottom[3], offsets, loc[0], priors):
                self.fail(problem)
        return [(1, 1, 1, 7)]

    def check_data(self, sources: Sequence[SourceLayer]) -> None:
        if self.results is None or len(sources) != 1 or (records := sources[0].records()) is None:
            return
        with self.named_in_errors():
            self.results.check_records(records, f"data layer '{sources[0].name}'")
        sizes = [(image.height, image.width) for image in self.results.images]
        sources[0].check_sizes(self.param.detection_output_param.save_output_param.name_size_file, sizes)

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str | None:
        return None if self.results is None and self.visualizer is None else "writes result files or pictures"

    def compile_obstacle(self) -> str | None:
        return None if self.static_shape else "gives as many rows as it finds detections"

    def forward(self, *bottom: Tensor) -> Tensor:
        self.reshape([tuple(b.shape) for b in bottom])
        loc, conf, prior = (b.detach() for b in bottom[:3])
        options = self.options
        if self.refines:
            loc, conf, prior, encoded = refinement.refined_predictions(
                loc, conf, prior, [b.detach() for b in bottom[3:]], self.num_classes, self.objectness_score,
                options["code_type"], options["variance_encoded_in_target"],
            )  # fmt: skip
            if len(bottom) > 4:
                options = {**options, "code_type": CORNER, "variance_encoded_in_target": encoded}
        rows, counts = detection_output_static(loc, conf, prior, **options)
        if self.static_shape:
            everything: Tensor = rows.reshape(1, 1, -1, 7)
            return everything
        detections = trim(rows, counts)
        _say_if_none(detections)
        if self.results is not None:
            self.results.add(detections.cpu().numpy(), bottom[0].shape[0])
        if self.visualizer is not None:
            self.visualizer.show(bottom[3], detections)
        return detections[None, None]

    def trimmed(self, index: int, top: Tensor) -> Tensor:
        rows = top.reshape(-1, 7)
        detections = rows[rows[:, 1] >= 0]
        if not len(detections):
            previous = torch.cat([rows.new_full((1,), -1), rows[:, 0]])[:-1]
            detections = rows[rows[:, 0] != previous]  # the first of each image
        _say_if_none(detections)
        return detections[None, None]


def _say_if_none(detections: Tensor) -> None:
    if detections.shape[0] and detections[0, 1] == -1:
        log.info("detection_output_layer.cpp:282", "Couldn't find any detections")
