"""A trained detector on images: from pixels to boxes with a deploy net."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe import log
from caffe.data.images import ImageFormat, read_image
from caffe.data.label_map import LabelMap
from caffe.engine import acceleration
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.layer import TEST
from caffe.engine.layer_types.detection_output import DetectionOutput
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.engine.weights import copy_trained_from
from caffe.errors import CaffeError, DataError, NetError
from caffe.proto.text import read_net

#: H×W×3 or H×W×1, uint8, BGR
Image = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


class Detection(NamedTuple):
    """One object: its label, name and score (0 to 1), corners in pixels of the image (not clipped to it)."""

    label: int
    name: str
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass
class _Read:
    """A file's image, and that image as the net reads it; or the error."""

    path: Path
    image: Image | None = None
    small: Image | None = None
    error: DataError | None = None


@dataclass
class _Pending:
    """Detections being copied from the device, one row each, and the sizes of their images."""

    rows: Tensor
    sizes: list[tuple[int, int]]
    done: torch.cuda.Event | None = None


class ImageDetector:
    """Runs a deploy net with one input, N×C×H×W, and a DetectionOutput layer.

    Images are resized to the net's input, and its mean is subtracted. The net runs where caffe.set_mode_gpu or
    set_mode_cpu says, at the precision of caffe.engine.acceleration; on a GPU as one CUDA graph, unless `graph` is
    false. Building the net is not logged, unless the environment sets GLOG_minloglevel to 0.
    """

    def __init__(
        self, model: str | Path, weights: str | Path, *, mean: Sequence[float] = (104, 117, 123),
        label_map: LabelMap | str | Path | None = None, size: tuple[int, int] | None = None, graph: bool = True,
    ) -> None:  # fmt: skip
        """Builds the net of the deploy prototxt `model` and loads the .caffemodel `weights`.

        `mean`: one value, or one for each channel (BGR). `label_map`: the class names, or the file that has them.
        `size`: height and width of the input; None takes them from the model.

        Raises NetError if the model is not a detector on images, or if the label map has other classes.
        """
        if isinstance(label_map, str | Path):
            label_map = LabelMap.read(label_map)
        param = read_net(model)
        with log.quiet():
            self.net = Net(param, TEST)
            copy_trained_from(self.net, weights)
        self.net.inference_steps = prepack(self.net)
        if len(self.net.inputs) != 1:
            raise NetError(
                f"'{model}' has {len(self.net.inputs)} inputs ({', '.join(self.net.inputs) or 'it reads its own data'}); "
                "a detector on images has one: give the deploy prototxt"
            )
        layers = [step.layer for step in self.net.steps if isinstance(step.layer, DetectionOutput)]
        if len(layers) != 1:
            raise NetError(f"'{model}' has {len(layers)} DetectionOutput layers; a detector on images has one")
        (layer,) = layers
        # used rows are selected here, on the host; trimming them on a GPU would wait for it
        layer.static_shape = layer.results is None and layer.visualizer is None
        self._input, self._output = self.net.inputs[0], layer.param.top[0]
        shape = self.net.blobs[self._input].shape
        if len(shape) != 4 or shape[1] not in (1, 3):
            raise NetError(f"the input '{self._input}' of '{model}' is {tuple(shape)}; it must be N×3×H×W or N×1×H×W")
        self.channels = int(shape[1])
        self.height, self.width = size or (int(shape[2]), int(shape[3]))
        if len(mean) not in (1, self.channels):
            raise NetError(f"Specify either 1 mean_value or as many as channels: {self.channels}, not {len(mean)}")
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.net.device)
        self._names = self._names_of(layer.param, label_map)
        self._graphed = GraphedForward(self.net) if graph and self.net.device.type == "cuda" else None

    @staticmethod
    def _names_of(layer: Any, label_map: LabelMap | None) -> list[str]:
        classes = layer.detection_output_param.num_classes
        if label_map is None:
            return [f"class {label}" for label in range(classes)]
        if label_map.num_classes != classes:
            raise NetError(
                f"layer '{layer.name}' has num_classes: {classes} (background included), but label map "
                f"'{label_map.where}' has {label_map.num_classes} classes: it belongs to another net"
            )
        return [label_map.display_name_of(c) if c in label_map else f"class {c}" for c in range(classes)]

    # ---- images in memory

    def detect(self, images: Sequence[Image], threshold: float = 0.0) -> list[list[Detection]]:
        """The detections of each image, best score first: those of DetectionOutput with at least score `threshold`."""
        if not images:
            return []
        pending = self._launch([self._resized(image) for image in images], [image.shape[:2] for image in images])
        return self._collect(pending, threshold)

    def _resized(self, image: Image) -> Image:
        """The image at the net's size and with its channels, H×W×C, uint8."""
        have = 1 if image.ndim == 2 else image.shape[2]
        if have != self.channels:
            conversions = {
                (3, 1): cv2.COLOR_BGR2GRAY, (4, 1): cv2.COLOR_BGRA2GRAY, (4, 3): cv2.COLOR_BGRA2BGR,
                (1, 3): cv2.COLOR_GRAY2BGR,
            }  # fmt: skip
            image = cv2.cvtColor(image, conversions[have, self.channels]).astype(np.uint8)
        if image.shape[:2] != (self.height, self.width):
            image = cv2.resize(image, (self.width, self.height)).astype(np.uint8)
        return image.reshape(self.height, self.width, self.channels)

    @torch.no_grad()
    def _launch(self, small: Sequence[Image], sizes: Sequence[tuple[int, ...]]) -> _Pending:
        """Starts the net on resized images. On a GPU this does not wait for the upload, the net or the download."""
        device = self.net.device
        pixels = torch.empty((len(small), *small[0].shape), dtype=torch.uint8, pin_memory=device.type == "cuda")
        np.stack(small, out=pixels.numpy())
        pixels = pixels.to(device, non_blocking=True)  # uploaded as bytes, converted on the device
        data = (pixels.to(torch.float32) - self._mean).permute(0, 3, 1, 2)
        form = acceleration.memory_format() if device.type == "cuda" else torch.contiguous_format
        batch = {self._input: data.contiguous(memory_format=form)}
        run = self.net if self._graphed is None else self._graphed
        rows = run(batch, frozenset({self._output}))[1][self._output]
        pending = _Pending(rows.reshape(-1, 7), [(int(s[0]), int(s[1])) for s in sizes])
        if device.type == "cuda":
            host = torch.empty(pending.rows.shape, dtype=rows.dtype, pin_memory=True)
            pending.rows = host.copy_(pending.rows, non_blocking=True)
            pending.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            pending.done.record()
        return pending

    def _collect(self, pending: _Pending, threshold: float) -> list[list[Detection]]:
        """Waits for detections and scales them to pixels."""
        if pending.done is not None:
            pending.done.synchronize()
        rows = pending.rows.numpy()
        # unused rows have label −1; an image that pads the batch has no size
        used = (rows[:, 1] >= 0) & (rows[:, 0] < len(pending.sizes)) & (rows[:, 2] >= threshold)
        rows = rows[used].astype(np.float64)
        rows = rows[np.argsort(-rows[:, 2], kind="stable")]
        images, labels = rows[:, 0].astype(int), rows[:, 1].astype(int)
        sides = np.array(pending.sizes, float).reshape(-1, 2)[:, [1, 0, 1, 0]]
        rows[:, 3:] *= sides[images]
        result: list[list[Detection]] = [[] for _ in pending.sizes]
        for image, label, (score, *corners) in zip(images.tolist(), labels.tolist(), rows[:, 2:].tolist(), strict=True):
            result[image].append(Detection(label, self._names[label], score, *corners))
        return result

    # ---- files, many of them

    def detect_files(
        self,
        paths: Iterable[str | Path],
        batch_size: int = 1,
        *,
        threshold: float = 0.0,
        workers: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        turn: bool = True,
    ) -> Iterator[tuple[Path, Image, list[Detection]]]:
        """Path, image and detections (as `detect` returns them) of each file, in order.

        `workers` threads read, decode and resize ahead of the net (None: 2, or on a GPU one per core and at most 8).
        Photographs are turned as their orientation tag says, unless `turn` is false.

        On a GPU the next batch is uploaded and queued while one is computed. A file that is missing or not an image raises
        a DataError that names it; with `on_error="skip"` it is logged as a warning and left out.
        """
        flying: deque[tuple[list[_Read], _Pending]] = deque()
        ahead = 2 if self._graphed is not None else 1
        if workers is None:
            workers = min(8, len(os.sched_getaffinity(0))) if self.net.device.type == "cuda" else 2
        with ThreadPoolExecutor(max_workers=workers) as pool:
            batch: list[_Read] = []
            for read in _ahead(pool, partial(self._read, turn=turn), map(Path, paths), 2 * batch_size + workers):
                if read.error is not None:
                    if on_error == "raise":
                        raise read.error
                    log.warning(log.here(), f"left out: {read.error}")
                    continue
                batch.append(read)
                if len(batch) == batch_size:
                    flying.append((batch, self._launch_read(batch, batch_size)))
                    batch = []
                if len(flying) >= ahead:
                    yield from self._landed(*flying.popleft(), threshold)
            if batch:
                flying.append((batch, self._launch_read(batch, batch_size)))
            while flying:
                yield from self._landed(*flying.popleft(), threshold)

    def _read(self, path: Path, turn: bool) -> _Read:
        try:
            image = load(path, turn=turn)[1]
        except DataError as error:
            return _Read(path, error=error)
        return _Read(path, image, self._resized(image))

    def _launch_read(self, batch: list[_Read], batch_size: int) -> _Pending:
        small = [read.small for read in batch if read.small is not None]
        if self._graphed is not None:  # the last batch is padded, instead of recording a new graph
            small += [small[-1]] * (batch_size - len(small))
        return self._launch(small, [read.image.shape[:2] for read in batch if read.image is not None])

    def _landed(
        self, batch: list[_Read], pending: _Pending, threshold: float
    ) -> Iterator[tuple[Path, Image, list[Detection]]]:
        for read, detections in zip(batch, self._collect(pending, threshold), strict=True):
            assert read.image is not None
            yield read.path, read.image, detections


def load(path: Path, *, turn: bool = True) -> tuple[Path, Image]:
    """A path and its image, H×W×3, turned as its orientation tag says unless `turn` is false.

    A DataError names the file if it is missing or not an image.
    """
    try:
        return path, read_image(path, ImageFormat(), turn=turn)[1]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """The result of `work` for each item, in order; up to `depth` items are processed ahead."""
    waiting: deque[Future[R]] = deque()
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
    """The images that paths stand for: an image itself, those in a folder (by name), or those that a text list names.

    The names in a list are relative to the current directory, one per line. Raises DataError if there are none.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _ENDINGS)
            if not inside:
                raise DataError(f"no image in directory '{path}' (with extension {' '.join(sorted(_ENDINGS))})")
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
    """`mean_value` as ssd_detect takes it: numbers separated by commas. Raises CaffeError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CaffeError(
            f"mean_value '{text}': give numbers separated by ',', such as 104,117,123 (blue, green, red)"
        ) from None
