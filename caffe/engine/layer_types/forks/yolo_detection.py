"""YoloDetectionOutput and Yolov3DetectionOutput of MobileNet-YOLO: the detections of YOLO v2 and v3 (Redmon et al.)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.engine.layer_types.forks.suppression import suppress
from caffe.engine.layer_types.forks.yolo_boxes import boxes_of, overlaps
from caffe.engine.layer_types.shapes import full_precision, text


class _YoloDetections(Layer):
    """Maps N × boxes·(values per box) × H × W. Top: 1×1×K×7, rows of image, label, score, xmin, ymin, xmax, ymax.

    Corners are in parts of the image and not cut off at its borders. Labels count from 1. Rows are by image and
    falling score; of equal scores the earlier comes first, by map, cell, anchor and class. A box is dropped if a better
    one of any class overlaps it by nms_threshold or more. If the whole batch has no detection: one row per image, its
    number and six −1.

    The fork looks at a batch as if it were one image; here each image is by itself.
    """

    fresh_tops = True
    dynamic_axes = MappingProxyType({2: "detections"})
    classes: int
    boxes_per_cell: int
    nms_threshold: float

    def takes_gradient(self, index: int) -> bool:
        return False

    def graph_obstacle(self) -> str:
        return "gives as many rows as it finds detections"

    @abstractmethod
    def values_per_box(self) -> int:
        """How many channels of a map one anchor has."""

    @abstractmethod
    def candidates(self, index: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of an image's map `index`, x: 1 × C × H × W, everything that is sure enough, in the order of equal scores.

        Boxes R × 4 (center, sides), classes R from 0, scores R.
        """

    def anchors_of(self, biases: Sequence[float], count: int) -> Tensor:
        """`biases` as widths and heights, count × 2; an error if they are not as many."""
        if len(biases) != 2 * count:
            self.fail(f"needs 2 biases (width, height) for each of {count} anchors, {2 * count}, not {len(biases)}")
        return torch.tensor(list(biases), dtype=torch.float32).reshape(count, 2)

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        needed = self.boxes_per_cell * self.values_per_box()
        for shape, name in zip(bottom, self.param.bottom, strict=True):
            if len(shape) != 4 or shape[1] != needed:
                self.fail(
                    f"num_box: {self.boxes_per_cell} boxes of {self.values_per_box()} values (box, objectness, "
                    f"num_classes: {self.classes}) need N×{needed}×H×W; '{name}' is {text(shape)}"
                )
            if shape[0] != bottom[0][0]:
                self.fail(f"'{name}' has {shape[0]} images, '{self.param.bottom[0]}' {bottom[0][0]}")
        return [(1, 1, 1, 7)]

    def check(self, classes: int, boxes_per_cell: int) -> None:
        if classes < 1 or boxes_per_cell < 1:
            self.fail(f"num_classes and num_box must be at least 1, not {classes} and {boxes_per_cell}")
        self.classes, self.boxes_per_cell = classes, boxes_per_cell

    def per_box(self, x: Tensor) -> Tensor:
        """1 × (A·values) × H × W as 1 × A × values × H × W."""
        return x.reshape(1, self.boxes_per_cell, self.values_per_box(), *x.shape[2:])

    def forward(self, *bottom: Tensor) -> Tensor:
        images = len(bottom[0])
        maps = [full_precision(b.detach()) for b in bottom]
        rows = [self._rows(image, [x[image : image + 1] for x in maps]) for image in range(images)]
        found = torch.cat([maps[0].new_zeros(0, 7), *rows])
        if not len(found):
            found = found.new_full((images, 7), -1)
            found[:, 0] = torch.arange(images, device=found.device)
        return found[None, None]

    def _rows(self, image: int, maps: Sequence[Tensor]) -> Tensor:
        boxes, classes, scores = (
            torch.cat(parts) for parts in zip(*(self.candidates(i, x) for i, x in enumerate(maps)), strict=True)
        )
        scores, order = torch.sort(scores, descending=True, stable=True)
        boxes, classes = boxes[order], classes[order]
        limit = self.nms_threshold
        kept = suppress(boxes, lambda best, rest: ~(overlaps(best, rest) >= limit))
        center, half = boxes[kept, :2], boxes[kept, 2:] / 2
        columns = [torch.full_like(scores[kept], image), (classes[kept] + 1).to(scores), scores[kept]]
        return torch.cat([torch.stack(columns, dim=1), center - half, center + half], dim=1)


@register
class YoloDetectionOutput(_YoloDetections):
    """YOLO v2's: bottoms are one map or two. A box has the class with the largest softmax (of equal ones the first).

    Its score is that times the objectness; it counts from confidence_threshold on. Biases are the anchors' sides in
    cells.
    """

    type_name = "YoloDetectionOutput"
    bottoms = (1, 2)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.yolo_detection_output_param
        self.check(param.num_classes, param.num_box)
        if param.coords != 4:
            self.fail(f"coords must be 4 (center and sides), not {param.coords}")
        self.anchors = self.anchors_of(param.biases, param.num_box)
        self.threshold, self.nms_threshold = param.confidence_threshold, param.nms_threshold

    def values_per_box(self) -> int:
        return 5 + self.classes

    def candidates(self, index: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.per_box(x)
        cells = values.new_tensor([x.shape[3], x.shape[2]])
        boxes = boxes_of(values[:, :, :2].sigmoid(), values[:, :, 2:4], self.anchors.to(x) / cells)
        best, label = values[:, :, 5:].softmax(dim=2).max(dim=2)
        score = values[:, :, 4].sigmoid() * best
        # cell by cell, and in each anchor by anchor
        boxes = boxes.permute(0, 3, 4, 1, 2).reshape(-1, 4)
        score, label = (t.permute(0, 2, 3, 1).reshape(-1) for t in (score, label))
        taken = score >= self.threshold
        return boxes[taken], label[taken], score[taken]


@register
class Yolov3DetectionOutput(_YoloDetections):
    """YOLO v3's: mask_group_num maps. A box counts for each class whose probability is over confidence_threshold.

    The probability is objectness times the sigmoid of the class. Biases are the anchors' sides in pixels, anchors_scale
    each map's pixels per cell; `mask` lists the anchors of one map after the other. With `gaussian_box` a coordinate is
    followed by how uncertain it is; objectness is multiplied by one minus their mean.
    """

    type_name = "Yolov3DetectionOutput"
    bottoms = (1, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.yolov3_detection_output_param
        maps = len(bottom)
        self.check(param.num_classes, param.num_box)
        if param.mask_group_num != maps:
            self.fail(f"mask_group_num is {param.mask_group_num}, but it has {maps} bottoms")
        if len(param.anchors_scale) != maps or not all(param.anchors_scale):
            self.fail(
                f"needs an anchors_scale of at least 1 for each of {maps} bottoms, not {list(param.anchors_scale)}"
            )
        if len(param.mask) != maps * param.num_box:
            self.fail(
                f"mask has {len(param.mask)} numbers; num_box: {param.num_box} anchors of {maps} bottoms are "
                f"{maps * param.num_box}"
            )
        anchors = self.anchors_of(param.biases, len(param.biases) // 2)
        if max(param.mask) >= len(anchors):
            self.fail(f"mask has anchor {max(param.mask)}; biases give anchors 0 to {len(anchors) - 1}")
        self.anchors = anchors[list(param.mask)].reshape(maps, param.num_box, 2)
        self.pixels = list(param.anchors_scale)
        self.gaussian = param.gaussian_box
        self.threshold, self.nms_threshold = param.confidence_threshold, param.nms_threshold

    def values_per_box(self) -> int:
        return (9 if self.gaussian else 5) + self.classes

    def candidates(self, index: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = self.per_box(x)
        image = values.new_tensor([x.shape[3], x.shape[2]]) * self.pixels[index]
        anchors = self.anchors[index].to(x) / image
        step = 2 if self.gaussian else 1  # from one coordinate to the next
        coordinates = values[:, :, : 4 * step : step]
        boxes = boxes_of(coordinates[:, :, :2].sigmoid(), coordinates[:, :, 2:], anchors)
        objectness = values[:, :, 4 * step].sigmoid()
        if self.gaussian:
            objectness = objectness * (4 - values[:, :, 1:8:2].sigmoid().sum(dim=2)) / 4
        scores = values[:, :, 4 * step + 1 :].sigmoid() * objectness[:, :, None]
        boxes = boxes.permute(0, 3, 4, 1, 2).reshape(-1, 4)
        scores = scores.permute(0, 3, 4, 1, 2).reshape(len(boxes), self.classes)
        box, label = (scores > self.threshold).nonzero(as_tuple=True)
        return boxes[box], label, scores[box, label]
