"""Pictures in files and in memory, decoded by OpenCV for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def decoded(data: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    """Returns an encoded image as H×W×3, BGR, uint8, unless `flags` say otherwise. Fails if OpenCV cannot decode it."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert image is not None, "OpenCV cannot decode the image"
    return image


def read_picture(path: str | Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    """Returns the image of a file; as `decoded`."""
    return decoded(Path(path).read_bytes(), flags)
