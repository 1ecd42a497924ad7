"""A Net that classifies images (pycaffe's `caffe.Classifier`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe import io
from caffe.pycaffe import Net


class Classifier(Net):
    """A net of one input and one output of class scores, with the preprocessing that its input takes.

    Images are first resized to `image_dims` (height, width; the input's size unless given), from which `predict` takes
    crops of the input's size. The other arguments are those of `caffe.io.Transformer`.
    """

    def __init__(
        self,
        model_file: str | os.PathLike[str],
        pretrained_file: str | os.PathLike[str],
        image_dims: Sequence[int] | None = None,
        mean: NDArray[Any] | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(os.fspath(model_file), 1, weights=os.fspath(pretrained_file))
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims = self.crop_dims if image_dims is None or len(image_dims) == 0 else image_dims

    def predict(self, inputs: Sequence[NDArray[Any]], oversample: bool = True) -> NDArray[Any]:
        """Scores of N images (height × width × channels, floats in [0, 1]): N × classes.

        With `oversample` they are the mean over the ten crops of `caffe.io.oversample`; without, those of the center
        crop.
        """
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            images = io.oversample(images, self.crop_dims)
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            images = images[:, top : top + height, left : left + width]
        name = self.inputs[0]
        prepared = np.stack([self.transformer.preprocess(name, image) for image in images])
        scores = np.asarray(self.forward_all(None, **{name: prepared})[self.outputs[0]])
        return scores.reshape(len(inputs), 10, -1).mean(axis=1) if oversample else scores


def input_transformer(
    net: Net,
    mean: NDArray[Any] | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """The Transformer for a net's first input, from images of height × width × channels."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].data.shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
