"""A sheet of test images with boxes at each test of a training, to see what the numbers do not show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from caffe.detection.box_drawing import Box, Image, draw_boxes
from caffe.engine.net import Net
from caffe.files import replacing
from caffe.solver.label_names import LabelNames
from caffe.solver.watchers import Tested, Watcher

#: boxes of this score and over are drawn, and at most so many in an image
SCORE, MOST = 0.3, 20
FOLDER = "test_pictures"


class TestPictures(Watcher):
    """Draws the detections in the first `count` test images into `test_pictures/iter_<N>.jpg` of a directory.

    Boxes have a score of at least 0.3; an image with none shows its best one, so that early sheets are not empty.
    """

    __test__ = False  # this is not a test case
    name = "test pictures"

    def __init__(self, folder: str | Path, count: int) -> None:
        self.folder, self.count = Path(folder) / FOLDER, count
        self._pictures: list[Image] = []

    def wanted_blobs(self, net: Net, index: int) -> Sequence[str]:
        blobs = _blobs(net)
        return () if blobs is None or index or len(self._pictures) >= self.count else blobs

    def test_batch(self, net: Net, index: int, blobs: Mapping[str, Tensor]) -> None:
        names = _blobs(net)
        if names is None or index or len(self._pictures) >= self.count or not all(name in blobs for name in names):
            return
        images = blobs[names[0]][: self.count - len(self._pictures)].detach().float().cpu().numpy()
        rows = blobs[names[1]].detach().float().cpu().numpy().reshape(-1, 7)
        labels = LabelNames(net)
        means, scale = _transform(net)
        for number, planes in enumerate(images):
            image = np.clip(planes.transpose(1, 2, 0) / scale + means, 0, 255).round().astype(np.uint8)
            height, width = image.shape[:2]
            found = rows[(rows[:, 0] == number) & (rows[:, 1] >= 0)]
            found = found[np.argsort(-found[:, 2], kind="stable")][:MOST]
            sure = found[found[:, 2] >= SCORE]
            self._pictures.append(
                draw_boxes(
                    image,
                    [
                        Box(int(row[1]), f"{labels.of(int(row[1]))}: {row[2]:.2f}",
                            row[3] * width, row[4] * height, row[5] * width, row[6] * height)
                        for row in (sure if len(sure) else found[:1])
                    ],
                )
            )  # fmt: skip

    def tested(self, result: Tested) -> None:
        pictures, self._pictures = (self._pictures, []) if result.index == 0 else ([], self._pictures)
        if not pictures:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"iter_{result.iteration}.jpg") as temporary:
            temporary.write_bytes(cv2.imencode(".jpg", sheet(pictures), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def sheet(pictures: Sequence[Image], gap: int = 6) -> Image:
    """Pictures of the same size side by side, in rows of about the square root of twice their number."""
    columns = min(len(pictures), math.ceil(math.sqrt(2 * len(pictures))))
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def _blobs(net: Net) -> tuple[str, str] | None:
    """The names of the images and the detections; None if the net has none or several of either."""
    data = [step.tops[0] for step in net.steps if step.layer in net.source_layers]
    found = [step.tops[0] for step in net.steps if step.layer.type_name == "DetectionOutput"]
    if len(data) != 1 or len(found) != 1 or len(net.blobs[data[0]].shape) != 4:
        return None
    return (data[0], found[0]) if net.blobs[data[0]].shape[1] in (1, 3) else None


def _transform(net: Net) -> tuple[np.ndarray, float]:
    """What the data layer subtracts (one value, or one per channel) and then multiplies by."""
    transform = net.source_layers[0].param.transform_param
    return np.array(list(transform.mean_value) or [0.0], np.float32), float(transform.scale) or 1.0
