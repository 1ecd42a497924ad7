"""The frames of video files and cameras."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError

#: frames per second where a camera or a file does not say
DEFAULT_RATE = 25.0


class Videos:
    """Video files (names) and cameras (numbers), read one after the other, `most` frames of each (0: all)."""

    def __init__(self, sources: Sequence[str | int], most: int = 0) -> None:
        self.sources, self.most = list(sources), most
        #: the name of the video being read, and its frames per second
        self.current: tuple[str, float] = ("", DEFAULT_RATE)

    def batches(self, size: int) -> Iterator[list[tuple[str, NDArray[np.uint8]]]]:
        """Up to `size` consecutive frames of one video (H×W×3, BGR), each named NAME_000000, NAME_000001, ….

        Raises DataError if a video cannot be opened or has no frame.
        """
        for source in self.sources:
            what = f"camera {source}" if isinstance(source, int) else f"video '{source}'"
            name = f"camera{source}" if isinstance(source, int) else source
            with _without_opencvs_log():  # what it tried is in its own words, and the error says what follows
                capture: Any = cv2.VideoCapture(source)
            try:
                self.current = name, capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
                batch: list[tuple[str, NDArray[np.uint8]]] = []
                count = 0
                while not self.most or count < self.most:
                    more, frame = capture.read()
                    if not more:
                        break
                    batch.append((f"{name}_{count:06d}", frame))
                    count += 1
                    if len(batch) == size:
                        yield batch
                        batch = []
                if not count:
                    reason = _cameras() if isinstance(source, int) else ""
                    raise DataError(f"{what} cannot be opened, or OpenCV cannot decode its frames{reason}")
                if batch:
                    yield batch
            finally:
                capture.release()


@contextmanager
def _without_opencvs_log() -> Iterator[None]:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _cameras() -> str:
    """What Linux says about the cameras; nothing on other systems."""
    if not sys.platform.startswith("linux"):
        return ""
    found = sorted(Path("/dev").glob("video*"))
    return f"; devices here: {', '.join(map(str, found))}" if found else "; this machine has no camera (no /dev/video*)"
