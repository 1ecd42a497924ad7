"""What DetectionOutput shows with `visualize: true`: the net's input with its detections, in a window and a video."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.label_map import LabelMap
from caffe.data.mean import Mean
from caffe.detection.box_drawing import Box, draw_boxes
from caffe.errors import CaffeError


def images_of(data: NDArray[np.float32], mean: Mean, scale: float) -> NDArray[np.uint8]:
    """The images, N×H×W×C uint8, of a net's input N×C×H×W: mean and scale of its TransformationParameter undone."""
    values = data / np.float32(scale)
    if mean.image is not None:
        values = values + mean.image
    elif mean.values.size:
        values = values + mean.values.reshape(-1, 1, 1)
    result: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return result


class Visualizer:
    """Draws detections over `visualize_threshold` (0.6) on the images of each batch.

    They are shown in a window if there is a screen, and become frames of the video `save_file` if that is given.
    """

    def __init__(self, param: Any, transform: Any) -> None:
        """`param`: DetectionOutputParameter; `transform`: how the input was made, TransformationParameter."""
        self.threshold = param.visualize_threshold if param.HasField("visualize_threshold") else 0.6
        self.save_file: str = param.save_file
        self.mean, self.scale = Mean(transform, "visualize"), transform.scale
        label_map_file = param.save_output_param.label_map_file
        self.label_map = LabelMap.read(label_map_file) if label_map_file else None
        self.window = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
        if not self.window and not self.save_file:
            log.warning(log.here(), "visualize: there is no screen; set save_file to write a video.")
        self._video: Any = None
        self._last = time.perf_counter()

    def show(self, data: Tensor, detections: Tensor) -> None:
        """`data`: N×C×H×W as the net reads it. `detections`: K×7 as DetectionOutput gives them."""
        images = images_of(data.detach().float().cpu().numpy(), self.mean, self.scale)
        rows = detections.detach().cpu().numpy()
        now = time.perf_counter()
        rate = len(images) / max(now - self._last, 1e-9)
        for index, image in enumerate(images):
            chosen = rows[(rows[:, 0] == index) & (rows[:, 1] != -1) & (rows[:, 2] >= self.threshold)]
            self._frame(draw_boxes(image, [self._box(row, image) for row in chosen]), rate)
        self._last = time.perf_counter()

    def _box(self, row: NDArray[np.float32], image: NDArray[np.uint8]) -> Box:
        label = int(row[1])
        known = self.label_map is not None and label in self.label_map
        name = self.label_map.display_name_of(label) if self.label_map is not None and known else f"class {label}"
        height, width = image.shape[:2]
        xmin, ymin, xmax, ymax = (row[3:7] * (width, height, width, height)).tolist()
        return Box(label, f"{name}: {row[2]:.2f}", xmin, ymin, xmax, ymax)

    def _frame(self, frame: NDArray[np.uint8], rate: float) -> None:
        cv2.putText(frame, f"FPS: {rate:.2f}", (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
        if self.save_file:
            if self._video is None:
                size = (frame.shape[1], frame.shape[0])
                self._video = cv2.VideoWriter(self.save_file, cv2.VideoWriter.fourcc(*"MJPG"), 30, size)
                if not self._video.isOpened():
                    raise CaffeError(
                        f"cannot write the video '{self.save_file}' (save_file): give a name that ends in .avi"
                    )
            self._video.write(frame)
        if self.window:
            try:
                cv2.imshow("detections", frame)
                if cv2.waitKey(1) == 27:  # escape
                    raise KeyboardInterrupt
            except cv2.error:  # an OpenCV without windows
                self.window = False
                log.warning(log.here(), "visualize: this OpenCV cannot show windows.")
