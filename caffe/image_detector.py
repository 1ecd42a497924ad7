"""A trained detector on images: from pixels to boxes with a deploy net."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
from caffe.data.slices import Slices, Window, as_slices
from caffe.engine import acceleration
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.layer import TEST
from caffe.engine.layer_types.detection_output import DetectionOutput
from caffe.engine.prepack import prepack
from caffe.engine.weights import load_net
from caffe.errors import CaffeError, DataError, NetError
from caffe.proto.text import read_net
from caffe.runtime import on_device

#: H×W×3 or H×W×1, uint8, BGR
Image = NDArray[np.uint8]
#: the detections of an image, [n, 6]: label, score, xmin, ymin, xmax, ymax
Rows = NDArray[np.float64]
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
    """A file's image, and its parts as the net reads them (without slices: the image itself); or the error."""

    path: Path
    image: Image | None = None
    windows: list[Window] = field(default_factory=list)
    parts: list[Image] = field(default_factory=list)
    error: DataError | None = None


@dataclass
class _Pending:
    """Detections being copied from the device, one row each, and the sizes of their images."""

    rows: Tensor
    sizes: list[tuple[int, int]]
    done: torch.cuda.Event | None = None


class ImageDetector:
    """Runs a deploy net with one input, N×C×H×W, and a DetectionOutput layer.

    Images are resized to the net's input; the mean is subtracted, and the result is multiplied by `scale`. The net runs
    at the precision of caffe.engine.acceleration; on a GPU as one CUDA graph, unless `graph` is false. Building the net
    is not logged, unless the environment sets GLOG_minloglevel to 0.
    """

    def __init__(
        self, model: str | Path, weights: str | Path, *, mean: Sequence[float] = (104, 117, 123),
        scale: float = 1, label_map: LabelMap | str | Path | None = None, size: tuple[int, int] | None = None,
        device: str | None = None, graph: bool = True,
    ) -> None:  # fmt: skip
        """Builds the net of the deploy prototxt `model` and loads the .caffemodel `weights`.

        `mean`: one value, or one for each channel (BGR). `label_map`: the class names, or the file that has them.
        `size`: height and width of the input; None takes them from the model. `device`: "cpu", "cuda", "cuda:1", or
        "auto" for a GPU where there is one; None for what caffe.set_mode_gpu or set_mode_cpu has chosen.

        Raises NetError if the model is not a detector on images, or if the label map has other classes.
        """
        if isinstance(label_map, str | Path):
            label_map = LabelMap.read(label_map)
        param = read_net(model)
        with log.quiet(), on_device(device):
            self.net = load_net(param, [weights], TEST)
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
        self._scale = scale
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

    def detect(
        self, images: Sequence[Image | str | Path], threshold: float = 0.0, *,
        slices: Slices | str | None = None, batch_size: int = 8,
    ) -> list[list[Detection]]:  # fmt: skip
        """The detections of each image, best score first: those of DetectionOutput with at least score `threshold`.

        An image is a path, or an array of bytes: H×W×3 in the order blue, green, red, H×W×4 or H×W. `slices` ("AUTO",
        "512x512" or a Slices): images are searched in overlapping slices, `batch_size` of them at once, and as a whole.
        Without slices all images are one batch.
        """
        found = self.detect_arrays(images, threshold, slices=slices, batch_size=batch_size)
        return [self._listed(rows) for rows in found]

    def detect_arrays(
        self, images: Sequence[Image | str | Path], threshold: float = 0.0, *,
        slices: Slices | str | None = None, batch_size: int = 8,
    ) -> list[Rows]:  # fmt: skip
        """The same as `detect`, with an array for each image instead of objects: faster where there are many boxes.

        A row has the label, the score, and xmin, ymin, xmax and ymax in pixels of the image: float64, [n, 6].
        """
        if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and images.ndim < 4):
            raise CaffeError("detect takes a list of images: write detect([image])")
        arrays = [
            load(Path(image))[1] if isinstance(image, str | Path) else _checked(image, f"image {number}")
            for number, image in enumerate(images)
        ]
        slices = as_slices(slices)
        if slices is not None:
            return [self._search(*self._cut(image, slices), slices, threshold, batch_size) for image in arrays]
        if not arrays:
            return []
        pending = self._launch([self._resized(image) for image in arrays], [image.shape[:2] for image in arrays])
        return self._collect(pending, threshold)

    def _listed(self, rows: Rows) -> list[Detection]:
        return [Detection(int(label), self._names[int(label)], *numbers) for label, *numbers in rows.tolist()]

    def _cut(self, image: Image, slices: Slices | None) -> tuple[list[Window], list[Image]]:
        """The image's slices, and each as the net reads it."""
        height, width = image.shape[:2]
        windows = (
            [(0, 0, width, height)] if slices is None else slices.windows(height, width, (self.height, self.width))
        )
        return windows, [self._resized(image[top:bottom, left:right]) for left, top, right, bottom in windows]

    def _search(
        self, windows: list[Window], parts: list[Image], slices: Slices, threshold: float, batch_size: int
    ) -> Rows:
        """The merged detections of an image's slices."""
        places = np.array(windows, float)
        flying: deque[tuple[int, _Pending]] = deque()
        found = []
        for start in range(0, len(parts), batch_size):
            batch = parts[start : start + batch_size]
            sizes = [(bottom - top, right - left) for left, top, right, bottom in windows[start : start + batch_size]]
            if self._graphed is not None and len(parts) > batch_size:
                batch = batch + [batch[-1]] * (batch_size - len(batch))
            flying.append((start, self._launch(batch, sizes)))
            if len(flying) > 1:
                found.append(self._placed(*flying.popleft(), places, threshold))
        found += [self._placed(*each, places, threshold) for each in flying]
        rows = np.concatenate(found)
        return rows[slices.merged(rows[:, 1].astype(np.int64), rows[:, 2], rows[:, 3:]), 1:]

    def _placed(self, start: int, pending: _Pending, places: NDArray[Any], threshold: float) -> NDArray[np.float64]:
        """Detections of slices, from slice `start` on, in pixels of the image that they were cut from."""
        rows = self._rows(pending, threshold)
        rows[:, 3:] += places[start + rows[:, 0].astype(int)][:, [0, 1, 0, 1]]
        return rows

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
        if self._scale != 1:
            data = data * self._scale
        form = acceleration.memory_format(device) if device.type == "cuda" else torch.contiguous_format
        batch = {self._input: data.contiguous(memory_format=form)}
        run = self.net if self._graphed is None else self._graphed
        rows = run(batch, frozenset({self._output}))[1][self._output]
        pending = _Pending(rows.reshape(-1, 7), [(int(s[0]), int(s[1])) for s in sizes])
        if device.type == "cuda":
            host = torch.empty(pending.rows.shape, dtype=rows.dtype, pin_memory=True)
            pending.rows = host.copy_(pending.rows, non_blocking=True)
            pending.done = torch.cuda.Event()
            pending.done.record()
        return pending

    def _rows(self, pending: _Pending, threshold: float) -> NDArray[np.float64]:
        """Waits for detections: image, label, score and corners in pixels, [n, 7], best score first."""
        if pending.done is not None:
            pending.done.synchronize()
        rows = pending.rows.numpy()
        # unused rows have label −1; an image that pads the batch has no size
        used = (rows[:, 1] >= 0) & (rows[:, 0] < len(pending.sizes)) & (rows[:, 2] >= threshold)
        rows = rows[used].astype(np.float64)
        rows = rows[np.argsort(-rows[:, 2], kind="stable")]
        sides = np.array(pending.sizes, float).reshape(-1, 2)[:, [1, 0, 1, 0]]
        rows[:, 3:] *= sides[rows[:, 0].astype(int)]
        return rows

    def _collect(self, pending: _Pending, threshold: float) -> list[Rows]:
        """Waits for detections, one array for each image."""
        rows = self._rows(pending, threshold)
        images = rows[:, 0].astype(int)
        ends = np.bincount(images, minlength=len(pending.sizes)).cumsum()[:-1]
        return np.split(rows[np.argsort(images, kind="stable"), 1:], ends)

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
        slices: Slices | str | None = None,
        on_skip: Callable[[DataError], None] | None = None,
    ) -> Iterator[tuple[Path, Image, list[Detection]]]:
        """Path, image and detections (as `detect` returns them) of each file, in order.

        `workers` threads read, decode and resize ahead of the net (None: 2, or on a GPU one per core and at most 8).
        Photographs are turned as their orientation tag says, unless `turn` is false.

        On a GPU the next batch is uploaded and queued while one is computed. A file that is missing or not an image raises
        a DataError that names it; with `on_error="skip"` it is logged as a warning and left out, and `on_skip` is called
        with the error. With `slices` (see `detect`), `batch_size` counts slices.
        """
        found = self.detect_files_arrays(
            paths, batch_size, threshold=threshold, workers=workers, on_error=on_error, turn=turn, slices=slices,
            on_skip=on_skip,
        )  # fmt: skip
        for path, image, rows in found:
            yield path, image, self._listed(rows)

    def detect_files_arrays(
        self,
        paths: Iterable[str | Path],
        batch_size: int = 1,
        *,
        threshold: float = 0.0,
        workers: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        turn: bool = True,
        slices: Slices | str | None = None,
        on_skip: Callable[[DataError], None] | None = None,
    ) -> Iterator[tuple[Path, Image, Rows]]:
        """The same as `detect_files`, with detections as `detect_arrays` returns them."""
        slices = as_slices(slices)
        flying: deque[tuple[list[_Read], _Pending]] = deque()
        ahead = 2 if self._graphed is not None else 1
        if workers is None:
            workers = min(8, len(os.sched_getaffinity(0))) if self.net.device.type == "cuda" else 2
        depth = workers if slices is not None else 2 * batch_size + workers
        with ThreadPoolExecutor(max_workers=workers) as pool:
            batch: list[_Read] = []
            for read in _ahead(pool, partial(self._read, turn=turn, slices=slices), map(Path, paths), depth):
                if read.error is not None:
                    if on_error == "raise":
                        raise read.error
                    log.warning(log.here(), f"left out: {read.error}")
                    if on_skip is not None:
                        on_skip(read.error)
                    continue
                if slices is not None:
                    assert read.image is not None
                    yield read.path, read.image, self._search(read.windows, read.parts, slices, threshold, batch_size)
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

    def _read(self, path: Path, turn: bool, slices: Slices | None) -> _Read:
        try:
            image = load(path, turn=turn)[1]
        except DataError as error:
            return _Read(path, error=error)
        return _Read(path, image, *self._cut(image, slices))

    def _launch_read(self, batch: list[_Read], batch_size: int) -> _Pending:
        small = [part for read in batch for part in read.parts]
        if self._graphed is not None:  # the last batch is padded, instead of recording a new graph
            small += [small[-1]] * (batch_size - len(small))
        return self._launch(small, [read.image.shape[:2] for read in batch if read.image is not None])

    def _landed(self, batch: list[_Read], pending: _Pending, threshold: float) -> Iterator[tuple[Path, Image, Rows]]:
        for read, rows in zip(batch, self._collect(pending, threshold), strict=True):
            assert read.image is not None
            yield read.path, read.image, rows


def _checked(image: object, what: str) -> Image:
    """The image, if it is one. Raises DataError for what other libraries, and failed reads, give instead."""
    if image is None:
        raise DataError(f"{what} is None: cv2.imread returns None for a file that it cannot read; a path says why")
    if not isinstance(image, np.ndarray):
        raise DataError(f"{what} is a {type(image).__name__}; give a path, or a NumPy array of bytes, H×W×3 (BGR)")
    if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise DataError(f"{what} has shape {image.shape}; it must be H×W×3 (BGR), H×W×4 (BGRA), H×W×1 or H×W")
    if image.dtype != np.uint8:
        raise DataError(
            f"{what} has the type {image.dtype}; it must be uint8, 0 to 255, in the order blue, green, red. For an image of "
            "caffe.io.load_image, which is RGB from 0 to 1: (255 * image[:, :, ::-1]).astype(np.uint8)"
        )
    return image


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
