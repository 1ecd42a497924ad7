"""Detections drawn on images, one color per class."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: H×W×3, uint8, BGR
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

_GOLDEN_RATIO = 0.618033988749895


@dataclass(frozen=True)
class Box:
    """A box to draw: corners in pixels, and its caption."""

    label: int
    text: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float


def class_color(label: int) -> Color:
    """The color of a class, BGR. Hues are a golden section apart, so that consecutive classes differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.85, 1.0 if label % 2 else 0.85)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_boxes(image: NDArray[Any], boxes: Iterable[Box]) -> Image:
    """A copy of the image (H×W×3 or H×W×1, uint8, BGR) with the boxes drawn, the first on top."""
    canvas: Any = (
        cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 or image.shape[2] == 1 else image[:, :, :3].copy()
    )
    height, width = canvas.shape[:2]
    line = max(1, round(min(height, width) / 200))
    for box in reversed(list(boxes)):
        color = class_color(box.label)
        left, top = round(_limit(box.xmin, width)), round(_limit(box.ymin, height))
        right, bottom = round(_limit(box.xmax, width)), round(_limit(box.ymax, height))
        cv2.rectangle(canvas, (left, top), (right, bottom), color, line)
        _draw_tag(canvas, box.text, left, top, color)
    result: Image = canvas
    return result


def _limit(value: float, size: int) -> float:
    return min(max(value, 0.0), size - 1.0) if value == value else 0.0


def _draw_tag(canvas: Image, text: str, left: int, top: int, color: Color) -> None:
    """The text on a patch of the box's color above its corner, inside the image."""
    if not text:
        return
    height, width = canvas.shape[:2]
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.35, min(height, width) / 900)
    text = text.encode("ascii", "replace").decode()  # all that OpenCV's fonts have
    thickness = 1 if scale < 0.8 else 2
    (text_width, text_height), below = cv2.getTextSize(text, font, scale, thickness)
    x = max(0, min(left, width - text_width))
    y = max(text_height + below, top)
    cv2.rectangle(canvas, (x, y - text_height - below), (x + text_width, y), color, cv2.FILLED)
    dark = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] < 128
    ink = (255, 255, 255) if dark else (0, 0, 0)
    cv2.putText(canvas, text, (x, y - below // 2), font, scale, ink, thickness, cv2.LINE_AA)
