"""The images of a data set by the names that lists and result files give them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffe.data.images import ImageFormat, read_image
from caffe.detection.box_drawing import Image
from caffe.errors import DataError, shown

_ENDINGS = ("", ".jpg", ".JPEG", ".jpeg", ".JPG", ".png", ".PNG", ".bmp")


class Images:
    """The images of a data set: files in a directory, named with or without their endings."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError if `folder` is not a directory."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"'{folder}' is not a directory")

    def find(self, name: str) -> Path:
        """Returns the path of an image. Raises DataError if there is none."""
        for ending in _ENDINGS:
            if (self.folder / (name + ending)).is_file():
                return self.folder / (name + ending)
        raise DataError(f"image '{shown(name)}' is not in '{self.folder}'")

    def check(self, names: Iterable[str]) -> None:
        """Raises DataError if images of `names` are missing, before a long analysis ends for the first of them."""
        missing: list[DataError] = []
        for name in names:
            try:
                self.find(name)
            except DataError as error:
                missing.append(error)
        if missing:
            raise DataError(
                f"{missing[0]} ({len(missing):,} missing in all); give the directory with all images of the list"
            )

    def read(self, name: str) -> Image:
        """Reads an image, H×W×3, BGR. Raises DataError if it is missing or not an image."""
        path = self.find(name)
        try:
            image: Image = read_image(path, ImageFormat())[1].astype(np.uint8)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return image
