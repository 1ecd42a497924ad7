"""Photometric distortion (DistortionParameter): brightness, contrast, saturation, hue, order of channels.

Each step rounds to 8 bits, as the original's do. Steps that change each value by itself are combined into one table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import Image
from caffe.errors import NetError

_VALUES = np.arange(256, dtype=np.float32)
#: a step: ("values", table [256]), ("saturation" | "hue", table [256]) or ("channels", order)
Step = tuple[str, NDArray[Any]]


def check_distortion(param: Any, where: str) -> None:
    """Raises NetError, beginning with `where`, for invalid ranges."""
    for name in ("contrast", "saturation"):
        lower, upper = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
        if getattr(param, f"{name}_prob") > 0 and not 0 <= lower <= upper:
            raise NetError(
                f"{where}: distort_param needs 0 <= {name}_lower <= {name}_upper; found {lower:g}, {upper:g}"
            )
    for name in ("brightness_delta", "hue_delta"):
        if getattr(param, name) < 0:
            raise NetError(f"{where}: distort_param needs {name} >= 0; found {getattr(param, name):g}")


def draw_distortion(param: Any, rng: np.random.Generator) -> list[Step]:
    """Draws what to do to an image. Contrast comes second or fourth, at random."""
    coin, *chance = rng.random(6, np.float32)
    amount = rng.random(4, np.float32)
    p = param
    brightness = list(_shift("values", chance[0] < p.brightness_prob, p.brightness_delta, amount[0]))
    contrast = list(_scale("values", chance[1] < p.contrast_prob, p.contrast_lower, p.contrast_upper, amount[1]))
    saturation = list(
        _scale("saturation", chance[2] < p.saturation_prob, p.saturation_lower, p.saturation_upper, amount[2])
    )
    hue = list(_shift("hue", chance[3] < p.hue_prob, p.hue_delta, amount[3]))
    steps = [*brightness, *contrast, *saturation, *hue] if coin > 0.5 else [*brightness, *saturation, *hue, *contrast]
    if chance[4] < param.random_order_prob:
        steps.append(("channels", rng.permutation(3)))
    return steps


def _shift(kind: str, happens: bool, delta: float, amount: np.float32) -> Iterator[Step]:
    if happens:
        yield kind, _table(_VALUES + np.float32(delta) * (2 * amount - 1))


def _scale(kind: str, happens: bool, lower: float, upper: float, amount: np.float32) -> Iterator[Step]:
    factor = np.float32(lower) + np.float32(upper - lower) * amount
    if happens and (kind != "values" or abs(factor - 1) > 1e-3):
        yield kind, _table(_VALUES * factor)


def _table(values: NDArray[np.float32]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def distort(image: Image, steps: list[Step]) -> Image:
    """The image [H, W, C], uint8, after the steps. Hue and saturation do not change gray images."""
    table: NDArray[Any] | None = None
    for kind, argument in steps:
        if kind == "values":
            table = argument if table is None else argument[table]
            continue
        if image.shape[2] != 3:
            continue
        if table is not None:
            image, table = cv2.LUT(image, table), None
        if kind == "channels":
            image = np.ascontiguousarray(image[:, :, argument])
        else:
            image = _in_hsv(image, 1 if kind == "saturation" else 0, argument)
    if table is not None:
        image = cv2.LUT(image, table).reshape(image.shape)
    return image


def _in_hsv(image: Image, channel: int, table: NDArray[Any]) -> Image:
    """Changes hue (0 to 179, which saturates at 0 and 255 instead of wrapping) or saturation, through 8-bit HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    tables = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    tables[0, :, channel] = table
    cv2.LUT(hsv, tables, dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv)
