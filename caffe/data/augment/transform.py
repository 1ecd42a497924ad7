"""From a decoded image and its boxes to what the net is fed: SSD's augmentation and Caffe's transformations.

In this order: distort, expand, crop (a batch sampler's), resize, noise, crop_size, mirror, mean, scale. All random
numbers are drawn first and the boxes computed from them; then only the pixels that the result shows are touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.boxes import UNIT, Boxes, Corners, extrapolated, resized, select
from caffe.data.augment.canvas import Window, lay_out
from caffe.data.augment.distort import check_distortion, distort, draw_distortion
from caffe.data.augment.jitter import Jitter
from caffe.data.augment.noise import add_noise, check_noise
from caffe.data.augment.resize import draw_interpolation, pad_value, resize, resized_size
from caffe.data.augment.resize_choice import ResizeChoice
from caffe.data.augment.sampler import BatchSampler, BatchSamplers
from caffe.data.images import deep, through_jpeg
from caffe.data.mean import Mean
from caffe.errors import DataError, NetError

TRAIN = 0


@dataclass(frozen=True)
class Source:
    """A decoded image [H, W, C] (uint8, or float32 for float_data), and its record's name for messages."""

    image: NDArray[Any]
    where: str
    #: float_data and raw bytes: Caffe mirrors a mean file along with these, not with compressed images
    raw: bool = False


class Transformer:
    """A TransformationParameter, checked, with a layer's batch samplers, or without them its jitter."""

    def __init__(
        self,
        param: Any,
        phase: int,
        where: str,
        samplers: Sequence[BatchSampler] = (),
        jitter: Jitter | None = None,
    ) -> None:
        """Raises NetError, beginning with `where` (the layer), for settings that contradict each other."""
        self.jitter = jitter
        self.param, self.phase, self.where, self.samplers = param, phase, where, BatchSamplers(samplers)
        if param.force_color and param.force_gray:
            raise NetError(f"{where}: transform_param has both force_color and force_gray")
        if param.scale_factors:
            raise NetError(f"{where}: scale_factors of transform_param are for ImageSegData layers alone")
        self.distorts, self.expands, self.resizes, self.noises, self.constrains = (
            param.HasField(f"{name}_param" if name != "emit" else "emit_constraint")
            for name in ("distort", "expand", "resize", "noise", "emit")
        )
        self.sizes = ResizeChoice(param, where) if self.resizes else None
        if self.distorts:
            check_distortion(param.distort_param, where)
        if self.noises:
            check_noise(param.noise_param, where)
        if self.expands and not param.expand_param.max_expand_ratio >= 1:
            raise NetError(f"{where}: expand_param needs max_expand_ratio >= 1")
        self.constraint = param.emit_constraint if self.constrains else None
        self.crop = (param.crop_size, param.crop_size) if param.crop_size else (param.crop_h, param.crop_w)
        if bool(self.crop[0]) != bool(self.crop[1]):
            raise NetError(f"{where}: transform_param needs crop_h and crop_w together")
        self.mean = Mean(param, where)

    def shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """(channels, height, width) of the result for an image of this size; of several sizes, the first."""
        if self.resizes:
            height, width = resized_size(self.param.resize_param, height, width)
        return channels, self.crop[0] or height, self.crop[1] or width

    def __call__(
        self,
        source: Source,
        boxes: Boxes | None,
        rng: np.random.Generator,
        out: NDArray[np.float32] | None = None,
        size: Any = None,
    ) -> tuple[NDArray[np.float32], Boxes | None]:
        """The data [C, h, w], written into `out` if that has its shape, and the remaining boxes.

        `size` is the ResizeParameter to use where there are several (None: the first).
        """
        image = source.image
        channels = image.shape[2]
        size = size or self.param.resize_param
        self._check(source, size)
        steps = draw_distortion(self.param.distort_param, rng) if self.distorts else []

        window = Window(0, 0, image.shape[1], image.shape[0])
        if self.expands:
            window, boxes = self._expand(window, boxes, rng)
        if self.samplers:
            window, boxes = self._cut(window, boxes, self.samplers.crop(_corners(boxes), rng))
        elif self.jitter:
            keep_aspect = self.resizes and size.resize_mode == size.FIT_LARGE_SIZE_AND_PAD
            window, boxes = self._cut(window, boxes, self.jitter.crop(rng, keep_aspect=keep_aspect))

        part = window.visible(image)
        borders = window.borders(*image.shape[:2]) if part.size else (window.height, 0, window.width, 0)
        if steps and part.size:
            part = distort(part, steps)
        if self.samplers and self.phase != TRAIN and not source.raw and not any(borders):
            # The original compresses each crop again. In training that is noise; SSD's test nets crop the whole image
            # (`batch_sampler {}`), and there it changes the third digit of the published scores.
            part = through_jpeg(part)
        ground = self.mean.ground(channels)
        if not part.size:
            part = np.empty((0, 0, channels), image.dtype)
        if self.resizes:
            interpolation = draw_interpolation(size, rng)
            pixels: NDArray[Any] = resize(part, borders, ground, size, interpolation)
        else:
            pixels = lay_out(part, borders, ground)
        if self.noises:
            pixels = add_noise(pixels, self.param.noise_param, rng)
        return self._finish(pixels, window, boxes, source, rng, out, size)

    def _check(self, source: Source, size: Any) -> None:
        channels = source.image.shape[2]
        self.mean.check_channels(channels, source.where)
        if source.image.dtype != np.uint8 and (self.distorts or self.noises):
            raise DataError(f"{source.where}: distort_param and noise_param need 8-bit images, but this one has floats")
        if self.noises and len(self.param.noise_param.saltpepper_param.value) not in (0, 1, channels):
            raise DataError(f"{source.where}: saltpepper_param needs 1 value or {channels}")
        if self.resizes and len(pad_value(size, channels)) != channels:
            raise DataError(f"{source.where}: resize_param needs 1 pad_value or {channels}")

    def _expand(self, window: Window, boxes: Boxes | None, rng: np.random.Generator) -> tuple[Window, Boxes | None]:
        """A canvas of random size with the image at a random position."""
        param = self.param.expand_param
        chance, ratio, down, right = rng.random(4, np.float32)
        if chance > param.prob or abs(param.max_expand_ratio - 1) < 1e-2:
            return window, boxes
        ratio = np.float32(1) + np.float32(param.max_expand_ratio - 1) * ratio
        height, width = (int(np.float32(side) * ratio) for side in (window.height, window.width))
        top = int(np.float32(height - window.height) * down)
        left = int(np.float32(width - window.width) * right)
        canvas = np.array([-left, -top, width - left, height - top], np.float32)
        canvas /= np.array([window.width, window.height] * 2, np.float32)
        if boxes is not None:
            boxes = select(boxes, canvas, self.constraint)
        return Window(-left, -top, width, height), boxes

    def _cut(self, window: Window, boxes: Boxes | None, crop: Corners | None) -> tuple[Window, Boxes | None]:
        """A crop of the window, in whole pixels; None leaves it whole."""
        if crop is None:
            return window, boxes
        crop = np.clip(crop, np.float32(0), np.float32(1))
        left, top, right, bottom = crop * np.array([window.width, window.height] * 2, np.float32)
        if boxes is not None:
            boxes = select(boxes, crop, self.constraint)
        x, y = min(int(left), window.width - 1), min(int(top), window.height - 1)
        return Window(window.x + x, window.y + y, max(1, int(right - left)), max(1, int(bottom - top))), boxes

    def _finish(
        self,
        pixels: NDArray[Any],
        window: Window,
        boxes: Boxes | None,
        source: Source,
        rng: np.random.Generator,
        out: NDArray[np.float32] | None,
        size: Any,
    ) -> tuple[NDArray[np.float32], Boxes | None]:
        """Applies crop_size, mirror, mean and scale to the data, and resizing and these to the boxes."""
        height, width = pixels.shape[:2]
        crop_height, crop_width = self.crop[0] or height, self.crop[1] or width
        if crop_height > height or crop_width > width:
            raise DataError(
                f"{source.where}: crop of {crop_width} × {crop_height} from an image of {width} × {height}; "
                "resize_param can enlarge it"
            )
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        if self.crop[0] and self.phase == TRAIN:
            top, left = int(rng.integers(height - crop_height + 1)), int(rng.integers(width - crop_width + 1))
        mirror = bool(self.param.mirror and rng.integers(2))

        subtract = self.mean.of_crop((height, width), top, left, (crop_height, crop_width), source.where)
        if mirror and source.raw and self.mean.image is not None:
            subtract = subtract[:, :, ::-1]
        pixels = pixels[top : top + crop_height, left : left + crop_width]
        planes = (deep(cv2.flip(pixels, 1)) if mirror else pixels).transpose(2, 0, 1)
        if out is None or out.shape != planes.shape:
            out = np.empty(planes.shape, np.float32)
        np.subtract(planes, subtract, out=out, dtype=np.float32)
        if self.param.scale != 1:
            out *= np.float32(self.param.scale)
        if boxes is not None:
            crop = np.array([left, top, left + crop_width, top + crop_height], np.float32)
            crop /= np.array([width, height, width, height], np.float32)
            boxes = self._final_boxes(boxes, window, crop if self.crop[0] else UNIT, mirror, source, size)
        return out, boxes

    def _final_boxes(
        self, boxes: Boxes, window: Window, crop: Corners, mirror: bool, source: Source, size: Any
    ) -> Boxes:
        corners = boxes.corners
        if self.resizes:
            corners = resized(corners, window.height, window.width, size)
        boxes = select(boxes, crop, self.constraint, corners=corners)
        if mirror:
            flipped = boxes.corners.copy()
            flipped[:, 0], flipped[:, 2] = 1 - boxes.corners[:, 2], 1 - boxes.corners[:, 0]
            boxes = Boxes(flipped, boxes.labels, boxes.difficult)
        if self.resizes:
            try:
                boxes = extrapolated(boxes, window.height, window.width, crop, size)
            except DataError as error:
                raise DataError(f"{source.where}: {error}") from None
        return boxes


def _corners(boxes: Boxes | None) -> Corners:
    return boxes.corners if boxes is not None else np.empty((0, 4), np.float32)
