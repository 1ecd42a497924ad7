"""NoiseParameter: degradations of the resized image, in Caffe's order."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import Image, deep
from caffe.errors import NetError

#: posterize keeps these values of a channel: the middles of bands this wide
_POSTERIZE_BAND = 64


def check_noise(param: Any, where: str) -> None:
    """Raises NetError, beginning with `where`, for settings that cannot be applied."""
    if param.saltpepper and not param.saltpepper_param.value:
        raise NetError(f"{where}: noise_param has saltpepper without a value in saltpepper_param")
    if param.convert_to_hsv and param.convert_to_lab:
        raise NetError(f"{where}: noise_param can convert to HSV or to Lab, not both")


def add_noise(image: Image, param: Any, rng: np.random.Generator) -> NDArray[Any]:
    """The image [H, W, C] degraded: uint8, or float32 if it is converted to Lab.

    Steps that need color (decolorize, HSV, Lab) leave gray images as they are.
    """
    color = image.shape[2] == 3
    if param.decolorize and color:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if param.gauss_blur:
        image = deep(cv2.GaussianBlur(image, (7, 7), 1.5))
    if param.hist_eq:
        image = _on_luma(image, cv2.equalizeHist)
    if param.clahe:
        image = _on_luma(image, cv2.createCLAHE(clipLimit=4).apply)
    if param.jpeg > 0:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(param.jpeg)])
        image = deep(cv2.imdecode(data, cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE))
    if param.erode:
        image = deep(cv2.erode(image, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))))
    if param.posterize:
        band = np.uint8(_POSTERIZE_BAND)
        image = image // band * band + band // np.uint8(2)
    if param.inverse:
        image = ~image
    if param.saltpepper:
        image = _salt_and_pepper(image, param.saltpepper_param, rng)
    if param.convert_to_hsv and color:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if param.convert_to_lab and color:
        return np.asarray(cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_BGR2Lab))
    return image


def _on_luma(image: Image, function: Any) -> Image:
    if image.shape[2] == 1:
        return deep(function(np.ascontiguousarray(image[:, :, 0])))
    luma = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
    luma[:, :, 0] = function(np.ascontiguousarray(luma[:, :, 0]))
    return cv2.cvtColor(luma, cv2.COLOR_YCrCb2BGR)


def _salt_and_pepper(image: Image, param: Any, rng: np.random.Generator) -> Image:
    height, width, channels = image.shape
    count = int(np.floor(np.float32(param.fraction) * width * height))
    image = image.copy()
    values = np.array(param.value, np.float32).astype(np.uint8)
    image[rng.integers(height, size=count), rng.integers(width, size=count)] = values[:channels]
    return image
