"""A trained detector on images: from pixels to boxes by way of a deploy net."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe.data.images import ImageFormat, read_image
from caffe.data.label_map import LabelMap
from caffe.engine.layer import TEST
from caffe.engine.net import Net as EngineNet
from caffe.errors import CaffeError, DataError, NetError
from caffe.proto.text import read_net
from caffe.pycaffe import Net

#: H×W×3 or H×W×1, uint8, BGR
Image = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Detection:
    """One object: its label, name and score (0 to 1), corners in pixels of the image (not clipped to it)."""

    label: int
    name: str
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class ImageDetector:
    """Runs a deploy net with one input, N×C×H×W, and a DetectionOutput layer.

    Images are resized to the net's input, and its mean is subtracted. The net runs where caffe.set_mode_gpu or
    set_mode_cpu says.
    """

    def __init__(
        self, model: str | Path, weights: str | Path, *, mean: Sequence[float] = (104, 117, 123),
        label_map: LabelMap | None = None, size: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        """`mean`: one value or one a channel (BGR). `size`: height and width of the input, None: as the model says.

        Raises NetError where the model is no detector on images, or the label map is of other classes.
        """
        param = read_net(model)
        self.net = Net(EngineNet(param, TEST))
        self.net.copy_from(weights)
        if len(self.net.inputs) != 1:
            raise NetError(
                f"'{model}' has {len(self.net.inputs)} inputs ({', '.join(self.net.inputs) or 'it reads its own data'}); "
                "a detector on images takes one: give the deploy prototxt"
            )
        layers = [layer for layer in param.layer if layer.type == "DetectionOutput"]
        if len(layers) != 1:
            raise NetError(f"'{model}' has {len(layers)} DetectionOutput layers; a detector on images has one")
        self._input, self._output = self.net.inputs[0], layers[0].top[0]
        shape = self.net.blobs[self._input].shape
        if len(shape) != 4 or shape[1] not in (1, 3):
            raise NetError(f"the input '{self._input}' of '{model}' is {tuple(shape)}; it must be N×3×H×W or N×1×H×W")
        self.channels = int(shape[1])
        self.height, self.width = size or (int(shape[2]), int(shape[3]))
        if len(mean) not in (1, self.channels):
            raise NetError(f"Specify either 1 mean_value or as many as channels: {self.channels}, not {len(mean)}")
        self._mean = np.array(mean, np.float32)
        self._names = self._names_of(layers[0], label_map)

    @staticmethod
    def _names_of(layer: Any, label_map: LabelMap | None) -> list[str]:
        classes = layer.detection_output_param.num_classes
        if label_map is None:
            return [f"class {label}" for label in range(classes)]
        if label_map.num_classes != classes:
            raise NetError(
                f"layer '{layer.name}' tells {classes} classes apart (num_classes, background included), label map "
                f"'{label_map.where}' has {label_map.num_classes}: it is the label map of another net"
            )
        return [label_map.display_name_of(c) if c in label_map else f"class {c}" for c in range(classes)]

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]:
        """The detections of each image, best score first; all that DetectionOutput lets through."""
        if not images:
            return []
        shape = (len(images), self.channels, self.height, self.width)
        if tuple(self.net.blobs[self._input].shape) != shape:
            self.net.blobs[self._input].reshape(*shape)
            self.net.reshape()
        data = np.stack([self._prepare(image) for image in images])
        self.net.blobs[self._input].data[...] = data
        rows = self.net.forward(blobs=[self._output])[self._output].reshape(-1, 7)
        result: list[list[Detection]] = [[] for _ in images]
        for row in rows[np.argsort(-rows[:, 2], kind="stable")].tolist():
            index, label = int(row[0]), int(row[1])
            if label < 0:
                continue
            height, width = images[index].shape[:2]
            corners = [v * side for v, side in zip(row[3:], (width, height, width, height), strict=True)]
            result[index].append(Detection(label, self._names[label], row[2], *corners))
        return result

    def _prepare(self, image: Image) -> NDArray[np.float32]:
        """The image as the net reads it, C×H×W."""
        have = 1 if image.ndim == 2 else image.shape[2]
        if have != self.channels:
            conversions = {
                (3, 1): cv2.COLOR_BGR2GRAY, (4, 1): cv2.COLOR_BGRA2GRAY, (4, 3): cv2.COLOR_BGRA2BGR,
                (1, 3): cv2.COLOR_GRAY2BGR,
            }  # fmt: skip
            image = cv2.cvtColor(image, conversions[have, self.channels]).astype(np.uint8)
        if image.shape[:2] != (self.height, self.width):
            image = cv2.resize(image, (self.width, self.height)).astype(np.uint8)
        values = image.reshape(self.height, self.width, self.channels).astype(np.float32) - self._mean
        return values.transpose(2, 0, 1)

    def detect_files(
        self, paths: Iterable[str | Path], batch_size: int = 1
    ) -> Iterator[tuple[Path, Image, list[Detection]]]:
        """Path, image and detections of each file, in order. Files are read and decoded while the net runs.

        DataError names a file that is missing or no image.
        """
        with ThreadPoolExecutor(max_workers=2) as pool:
            batch: list[tuple[Path, Image]] = []
            for item in _ahead(pool, load, map(Path, paths), 2 * batch_size):
                batch.append(item)
                if len(batch) == batch_size:
                    yield from self._detected(batch)
                    batch = []
            yield from self._detected(batch)

    def _detected(self, batch: list[tuple[Path, Image]]) -> Iterator[tuple[Path, Image, list[Detection]]]:
        found = self.detect([image for _, image in batch])
        for (path, image), detections in zip(batch, found, strict=True):
            yield path, image, detections


def load(path: Path) -> tuple[Path, Image]:
    """A path and its image, H×W×3; DataError names the file that is missing or no image."""
    try:
        return path, read_image(path, ImageFormat())[1]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _ahead(pool: ThreadPoolExecutor, work: Any, items: Iterable[T], depth: int) -> Iterator[Any]:
    """What `work` makes of each item, in order; up to `depth` items are worked on ahead of their turn."""
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The images that paths stand for: an image itself, those in a folder (by name), or those a text list names.

    The names in a list are relative to the working folder, one a line. DataError where there is none.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _ENDINGS)
            if not inside:
                raise DataError(f"no image in folder '{path}' (of the endings {' '.join(sorted(_ENDINGS))})")
            images += inside
        elif path.suffix.lower() in _ENDINGS:
            images.append(path)
        else:
            images += _listed(path)
    return images


_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def _listed(path: Path) -> list[Path]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    if b"\0" in text[:4096]:
        return [path]  # an image under an unusual name
    try:
        names = [line.strip() for line in text.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        return [path]
    if not names:
        raise DataError(f"list '{path}' is empty")
    return [Path(name) for name in names]


def channel_means(text: str) -> list[float]:
    """`mean_value` as ssd_detect takes it: numbers separated by commas. CaffeError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CaffeError(
            f"mean_value '{text}': give numbers separated by ',', as 104,117,123 (blue, green, red)"
        ) from None
