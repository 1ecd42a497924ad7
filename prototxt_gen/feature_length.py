"""The mean length of the feature vectors of a trunk, over the positions of some training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.engine.weights import share_trained_layers_with
from caffe.net_spec import NetSpec
from prototxt_gen.data import MEAN, input_data
from prototxt_gen.settings import Settings
from prototxt_gen.vgg import vgg16

#: number of images to measure
IMAGES = 32


def mean_lengths(net: Net, blobs: Sequence[str], size: int, settings: Settings) -> tuple[dict[str, float], str]:
    """Returns the mean L2 length of each blob's vectors over all positions of some images, and what the images are.

    `net` has the trained trunk. The images are records spread over the training LMDB. If it does not exist yet, they
    are noise with the spectrum of natural images.
    """
    spec = NetSpec()
    input_data(spec, size)
    vgg16(spec, "data", settings.width)
    param = spec.to_proto()
    for layer in param.layer:
        layer.convolution_param.ClearField("weight_filler")  # the weights are those of `net`
    trunk = Net(param, TEST)
    share_trained_layers_with(trunk, net)
    if Path(settings.train_lmdb, "data.mdb").is_file():
        source = LmdbSource(settings.train_lmdb)
        records = np.unique(np.linspace(0, len(source) - 1, IMAGES).round().astype(int)).tolist()
        images, described = _of_records(source, records, size), f"{len(records)} images of {settings.train_lmdb}"
    else:
        images = _noise(size)
        described = (
            f"{IMAGES} images of noise, because there is no LMDB {settings.train_lmdb} yet; "
            "run this again when it is built"
        )
    sums, count = dict.fromkeys(blobs, 0.0), 0
    for image in images:
        data = torch.from_numpy(image.astype(np.float32) - np.array(MEAN, np.float32)).permute(2, 0, 1)[None]
        with torch.no_grad():
            _, found = trunk({"data": data.contiguous()}, keep=blobs)
        for blob in blobs:
            sums[blob] += float(_lengths(found[blob]).mean())
        count += 1
    return {blob: total / count for blob, total in sums.items()}, described


def _lengths(features: Tensor) -> Tensor:
    return features.double().square().sum(1).sqrt()


def _of_records(source: LmdbSource, records: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
    for record in records:
        image = decode_datum(source.annotated_datum(record).datum, source.where(record), force_color=True)
        yield cv2.resize(image, (size, size)).astype(np.uint8)


def _noise(size: int) -> Iterator[NDArray[np.uint8]]:
    """Yields seeded noise whose amplitude falls with frequency as in photographs (1/f), with correlated channels."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    falloff = 1 / np.maximum(frequency, 1 / size)

    def texture() -> NDArray[np.float64]:
        spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * falloff
        plane = np.fft.irfft2(spectrum, s=(size, size))
        return np.asarray((plane - plane.mean()) / plane.std())

    for _ in range(IMAGES):
        gray = texture()
        color = np.stack([0.9 * gray + 0.45 * texture() for _ in range(3)], axis=2)
        yield np.clip(np.array(MEAN) + 55 * color, 0, 255).astype(np.uint8)
