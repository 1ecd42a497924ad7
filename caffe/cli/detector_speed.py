"""Times whole detectors, one image at a time: the net alone, with NMS, with decoding, and with both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from caffe import log
from caffe.data.image_finder import find_images
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.layer import TEST
from caffe.engine.layer_types.normalization import BatchNorm
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.engine.weights import copy_trained_from, share_trained_layers_with
from caffe.errors import CaffeError, DataError
from caffe.proto.text import read_net
from caffe.solver.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

#: each figure, with whether it includes NMS and decoding
FIGURES = {"net": (False, False), "nms": (True, False), "decoding": (False, True), "decoding_nms": (True, True)}
#: untimed images before the measurements, with and without NMS
_WARM = 3
#: generated images, of VOC's usual size, if no directory is given
_GENERATED, _HEIGHT, _WIDTH = 16, 375, 500
_MEAN = (104.0, 117.0, 123.0)

#: the path of an image, or an encoded one in memory
File = bytes | Path


def check_detector(path: Path) -> None:
    """Raises CaffeError if a prototxt is not that of a detector on images, as far as its text shows."""
    layers = read_net(path).layer
    count = sum(layer.type == "DetectionOutput" for layer in layers)
    if count != 1:
        raise CaffeError(f"{path} has {count} DetectionOutput layers; a detector has one")


def find_files(folder: str | None, count: int) -> list[File]:
    """At most `count` images of a directory, each of which can be decoded; generated ones without a directory."""
    if folder is None:
        random = np.random.default_rng(0)
        made: list[File] = []
        for _ in range(min(_GENERATED, count)):
            coarse = random.integers(0, 256, (_HEIGHT // 8, _WIDTH // 8, 3), dtype=np.uint8)
            made.append(cv2.imencode(".jpg", cv2.resize(coarse, (_WIDTH, _HEIGHT)))[1].tobytes())
        return made
    if not Path(folder).is_dir():
        raise DataError(f"-image_dir '{folder}' is not a directory")
    files: list[File] = list(find_images([folder])[:count])
    # An image that cannot be read should not end a measurement of hours.
    for file in tqdm(files, desc="checking the images", unit="image", disable=None, leave=False):
        _pixels(file, 8, 8)
    return files


def measure(
    path: Path, weights: str | None, files: Sequence[File], count: int, seconds: float | None, note: str
) -> dict[str, Any]:
    """Images a second of one detector by the names of FIGURES, its size, and the number of images that were timed.

    seconds: with fewer images than `count`, each figure takes about this long at most. note: is shown beside the
    progress. Raises CaffeError for a net or weights that do not fit.
    """
    bare, full = _build(path, weights)
    name, size = full.inputs[0], full.blobs[full.inputs[0]].shape
    mean = torch.tensor(_MEAN, device=full.device)

    def planes(image: Tensor) -> Tensor:
        return (image.to(full.device).float() - mean).permute(2, 0, 1)[None].contiguous()

    with torch.no_grad():
        _estimate_statistics(bare, {name: planes(_pixels(files[0], size[2], size[3]))})
    runs: list[Callable[..., Any]] = []
    for net in (bare, full):
        net.inference_steps = prepack(net)
        for step in net.steps:
            step.layer.static_shape = step.layer.type_name == "DetectionOutput"
        runs.append(GraphedForward(net) if net.device.type == "cuda" else net)

    def timed(number: int, *, nms: bool, decoding: bool) -> float:
        """Seconds of one image; without `decoding` its pixels are in memory when the time begins."""
        file = files[number % len(files)]
        began = perf_counter()
        image = _pixels(file, size[2], size[3])
        if not decoding:
            began = perf_counter()
        outputs = runs[nms]({name: planes(image)}, frozenset())[1]
        for output in outputs.values():
            output.cpu()
        return perf_counter() - began

    figures: dict[str, float] = {}
    with torch.no_grad():
        warm = [[timed(number, nms=nms, decoding=True) for number in range(min(_WARM, count))] for nms in (False, True)]
        if seconds is not None:
            count = min(count, max(1, int(seconds / max(each[-1] for each in warm))))
        with Progress(len(FIGURES) * count, unit="image") as progress:
            progress.note(note)
            for figure, (nms, decoding) in FIGURES.items():
                total = 0.0
                for number in range(count):
                    total += timed(number, nms=nms, decoding=decoding)
                    progress.advance()
                figures[figure] = round(count / total, 3)
    return {
        "name": full.name.removesuffix("_deploy") or path.parent.parent.name, "input": f"{size[3]} x {size[2]}",
        **figures, "images": count, "parameters": sum(p.numel() for p in full.learnable_params),
        "operations": _operations(full),
    }  # fmt: skip


def _build(path: Path, weights: str | None) -> tuple[Net, Net]:
    """The net without and with DetectionOutput; the two share their weights."""
    param = read_net(path)
    torch.manual_seed(1)
    with log.quiet():
        full = Net(param, TEST)
        if len(full.inputs) != 1:
            raise CaffeError(
                f"{path} has {len(full.inputs)} inputs; a detector on images has one: give the deploy prototxt"
            )
        if weights is not None:
            copy_trained_from(full, weights)
        del param.layer[next(i for i, layer in enumerate(param.layer) if layer.type == "DetectionOutput") :]
        bare = Net(param, TEST)
        share_trained_layers_with(bare, full)
    return bare, full


def _pixels(file: File, height: int, width: int) -> Tensor:
    """A decoded and resized image, height×width×3 BGR bytes."""
    data = file.read_bytes() if isinstance(file, Path) else file
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise DataError(f"{file if isinstance(file, Path) else 'an image'}: is not an image")
    return torch.from_numpy(cv2.resize(image, (width, height)))


def _estimate_statistics(net: Net, batch: dict[str, Tensor]) -> None:
    """Gives BatchNorm layers without statistics those of a batch.

    Otherwise each would multiply its input by 1 / sqrt(eps), and the scores of a deep net would not be finite.
    """
    layers = [step.layer for step in net.steps if isinstance(step.layer, BatchNorm) and not step.layer.blobs[2].any()]
    for layer in layers:
        layer.use_global_stats = False
    if layers:
        net(batch)
    for layer in layers:
        layer.use_global_stats = True


def _operations(net: Net) -> int:
    """Multiplications and additions of one image's convolutions and inner products, by their shapes."""
    count = 0
    for step in net.steps:
        if step.layer.type_name in ("Convolution", "Deconvolution", "InnerProduct"):
            place = step.bottoms[0] if step.layer.type_name == "Deconvolution" else step.tops[0]
            positions = 1
            for side in net.blobs[place].shape[2:] if step.layer.type_name != "InnerProduct" else ():
                positions *= int(side)
            count += 2 * positions * step.layer.blobs[0].numel()
    return count
