"""Window files (R-CNN's): images, each with windows and how much these overlap an object of some class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caffe.errors import DataError, shown
from caffe.files import decoded


@dataclass(frozen=True)
class ImageWindow:
    """A window of image number `image`: corners in pixels, both ends included; label 0 is background."""

    image: int
    label: int
    xmin: int
    ymin: int
    xmax: int
    ymax: int


@dataclass
class WindowFile:
    """The images of a window file, and their windows divided by overlap."""

    images: list[str]
    channels: int
    foreground: list[ImageWindow]
    background: list[ImageWindow]


def read_windows(path: str, foreground_threshold: float, background_threshold: float) -> WindowFile:
    """Reads `# number, path, channels, height, width, count` and then `label overlap xmin ymin xmax ymax`, repeated.

    Windows at or over the first threshold are foreground, those below the second are background; the rest is left out.
    """
    try:
        text = decoded(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"cannot read window file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"window file '{path}' is not a text file") from None
    words = iter(text.split())
    result = WindowFile([], 0, [], [])
    try:
        for mark in words:
            number = len(result.images)
            if mark != "#" or int(next(words)) != number:
                raise DataError(f"window file '{path}': expected '# {number}', found '{shown(mark)}'")
            result.images.append(next(words))
            channels, _, _, count = (int(next(words)) for _ in range(4))
            if number and channels != result.channels:
                raise DataError(
                    f"window file '{path}': image {number} has {channels} channels, but the first has {result.channels}"
                )
            result.channels = channels
            for _ in range(count):
                _add(words, number, foreground_threshold, background_threshold, result, path)
    except (StopIteration, RuntimeError):
        raise DataError(f"window file '{path}' ends within image {len(result.images) - 1}") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"window file '{path}', image {len(result.images) - 1}: {error}") from None
    if not result.images:
        raise DataError(f"window file '{path}' is empty")
    for kind, windows in (("foreground", result.foreground), ("background", result.background)):
        if not windows:
            raise DataError(f"window file '{path}' has no {kind} window at the layer's thresholds")
    return result


def _add(words: Iterator[str], image: int, foreground: float, background: float, result: WindowFile, path: str) -> None:
    label, overlap = int(next(words)), float(next(words))
    xmin, ymin, xmax, ymax = (int(next(words)) for _ in range(4))
    if overlap >= foreground:
        if label < 1:
            raise DataError(f"window file '{path}', image {image}: a foreground window with label {label}")
        result.foreground.append(ImageWindow(image, label, xmin, ymin, xmax, ymax))
    elif overlap < background:
        result.background.append(ImageWindow(image, 0, xmin, ymin, xmax, ymax))


@dataclass(frozen=True)
class Placement:
    """Which pixels of an image (ends included) are warped to which size, and where in the crop that goes."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int
    height: int
    width: int
    top: int
    left: int


def place(window: ImageWindow, height: int, width: int, crop: int, pad: int, square: bool, mirror: bool) -> Placement:
    """How a window of an image of `height` × `width` is warped to a crop of `crop` × `crop`.

    With context, the window grows so that `pad` pixels of the crop show its surroundings; outside the image the
    crop stays empty. `square` grows the window's shorter side first.
    """
    if not pad and not square:
        return Placement(window.xmin, window.ymin, window.xmax, window.ymax, crop, crop, 0, 0)
    scale = crop / (crop - 2 * pad)
    half_height, half_width = (window.ymax - window.ymin + 1) / 2, (window.xmax - window.xmin + 1) / 2
    center_x, center_y = window.xmin + half_width, window.ymin + half_height
    if square:
        half_height = half_width = max(half_height, half_width)
    xmin, xmax = _round(center_x - half_width * scale), _round(center_x + half_width * scale)
    ymin, ymax = _round(center_y - half_height * scale), _round(center_y + half_height * scale)
    scale_x, scale_y = crop / (xmax - xmin + 1), crop / (ymax - ymin + 1)
    left, top = max(0, -xmin), max(0, -ymin)
    right, bottom = max(0, xmax - width + 1), max(0, ymax - height + 1)
    xmin, ymin, xmax, ymax = xmin + left, ymin + top, xmax - right, ymax - bottom
    row, column = _round(top * scale_y), _round((right if mirror else left) * scale_x)
    return Placement(
        xmin, ymin, xmax, ymax,
        min(_round((ymax - ymin + 1) * scale_y), crop - row), min(_round((xmax - xmin + 1) * scale_x), crop - column),
        row, column,
    )  # fmt: skip


def _round(value: float) -> int:
    """C's round: halves away from zero."""
    return int(value + 0.5) if value >= 0 else -int(0.5 - value)
