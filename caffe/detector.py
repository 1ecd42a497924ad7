"""A Net that classifies windows of images, as R-CNN does (pycaffe's `caffe.Detector`). SSD needs none of this."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe import io
from caffe.classifier import input_transformer
from caffe.errors import CaffeError
from caffe.pycaffe import Net

Windows = Iterable[tuple[str, Sequence[Any]]]


class Detector(Net):
    """A net of one input and one output of class scores, run on windows warped to the input's size.

    `context_pad`: the number of pixels at each side of the input that show the window's surroundings. The other
    arguments are those of `caffe.io.Transformer`.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(os.fspath(model_file), 1, weights=os.fspath(pretrained_file))
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Windows) -> list[dict[str, Any]]:
        """Scores for windows of image files.

        Takes pairs of a file name and its windows (ymin, xmin, ymax, xmax in pixels). Returns a dict per window:
        `filename`, `window`, and `prediction`, the scores.
        """
        detections: list[dict[str, Any]] = []
        crops = []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                crops.append(self.crop(image, np.asarray(window)))
                detections.append({"window": window, "filename": filename})
        if not crops:
            return []
        name = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(None, **{name: prepared})[self.outputs[0]]
        for detection, prediction in zip(detections, scores, strict=True):
            detection["prediction"] = prediction
        return detections

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict[str, Any]]:
        """`detect_windows` on windows from the package selective_search_ijcv_with_python (it runs MATLAB)."""
        try:
            selective_search = importlib.import_module("selective_search_ijcv_with_python")
        except ImportError:
            raise CaffeError(
                "selective search needs the package selective_search_ijcv_with_python, which is not installed; "
                "give your own windows instead: detect_windows, or detect --crop_mode=list with a .csv of them"
            ) from None
        paths = [os.path.abspath(name) for name in image_fnames]
        windows = selective_search.get_windows(paths, cmd="selective_search_rcnn")
        return self.detect_windows(zip(paths, windows, strict=True))

    def crop(self, im: NDArray[Any], window: NDArray[Any]) -> NDArray[Any]:
        """The part of an image (height × width × channels) in a window (ymin, xmin, ymax, xmax).

        With context, it has the input's size already: the window with its surroundings, the mean outside the image.
        """
        if not self.context_pad:
            ymin, xmin, ymax, xmax = (int(edge) for edge in window)
            return im[ymin:ymax, xmin:xmax]

        size = int(self.crop_dims[0])  # a square input
        scale = size / (size - 2.0 * self.context_pad)
        half = (np.array(window[2:]) - window[:2] + 1) / 2.0
        center = window[:2] + half
        box = np.round(np.concatenate([center - scale * half, center + scale * half]))
        to_input = size / (box[2:] - box[:2] + 1)
        # Rows and columns of the input outside the image, before it and within it.
        before = [round(float(pad)) for pad in np.maximum(0, -box[:2]) * to_input]
        limits = np.array(im.shape[:2])
        box = np.clip(box, 0, np.concatenate([limits, limits])).astype(int)
        extent = box[2:] - box[:2] + 1
        height, width = (
            min(round(float(e * s)), size - pad) for e, s, pad in zip(extent, to_input, before, strict=True)
        )
        context = im[box[0] : box[2], box[1] : box[3]]
        if context.size == 0:
            raise CaffeError(f"window {tuple(window)} is outside its image of {limits[0]} x {limits[1]}")
        out = np.ones(self.crop_dims, dtype=np.float32) * self.crop_mean
        out[before[0] : before[0] + height, before[1] : before[1] + width] = io.resize_image(context, (height, width))
        return out

    def configure_crop(self, context_pad: int | None) -> None:
        """Sets how much context windows get, and the value of pixels outside the image: the mean of an image."""
        name = self.inputs[0]
        inverse = [int(axis) for axis in np.argsort(self.transformer.transpose[name])]
        self.crop_dims = np.array(self.blobs[name].data.shape[1:])[inverse]
        self.context_pad = context_pad
        if not context_pad:
            return
        mean = self.transformer.mean.get(name)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, dtype=np.float32)
            return
        crop_mean = mean.astype(np.float32).transpose(inverse)
        if name in self.transformer.channel_swap:
            crop_mean = crop_mean[:, :, np.argsort(self.transformer.channel_swap[name])]
        self.crop_mean = crop_mean / self.transformer.raw_scale.get(name, 1)
