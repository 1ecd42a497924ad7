"""torchvision's ResNet-101 under the layer names of Caffe's (`ResNet101Body` in caffe.model_libs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from caffe.interop.checkpoint import read_checkpoint
from caffe.interop.layout import Layout, gather
from caffe.interop.preprocessing import Preprocessing, absorb, caffe_input
from caffe.proto.weights import LayerWeights

#: conv2 to conv5: a stage's blocks
_BLOCKS = (
    ["2a", "2b", "2c"],
    ["3a", *(f"3b{i}" for i in range(1, 4))],
    ["4a", *(f"4b{i}" for i in range(1, 23))],
    ["5a", "5b", "5c"],
)
NOTE = (
    "torchvision's ResNet-101 has the stride of a stage in its 3 x 3 convolution (branch2b), and pads its first pooling by "
    "1; a net that has the stride in branch2a and branch1 alone, like Caffe's, computes something else until it is trained"
)


def _layers() -> dict[str, tuple[str, ...]]:
    layers: dict[str, tuple[str, ...]] = {}

    def add(conv: str, norm: str, scale: str, source: str, source_norm: str) -> None:
        layers[conv] = (f"{source}.weight",)
        layers[norm] = (f"{source_norm}.running_mean", f"{source_norm}.running_var")
        layers[scale] = (f"{source_norm}.weight", f"{source_norm}.bias")

    add("conv1", "bn_conv1", "scale_conv1", "conv1", "bn1")
    for stage, names in enumerate(_BLOCKS, start=1):
        for index, name in enumerate(names):
            block = f"layer{stage}.{index}"
            branches = {f"branch2{'abc'[i]}": (f"{block}.conv{i + 1}", f"{block}.bn{i + 1}") for i in range(3)}
            if index == 0:
                branches["branch1"] = (f"{block}.downsample.0", f"{block}.downsample.1")
            for branch, sources in branches.items():
                add(f"res{name}_{branch}", f"bn{name}_{branch}", f"scale{name}_{branch}", *sources)
    return layers


LAYOUT = Layout(
    "torchvision's resnet101",
    _layers(),
    Preprocessing.of_unit_range("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    r".*\.num_batches_tracked|fc\..*",
)


def import_resnet101(
    path: str | Path, mean: Sequence[float], known: Mapping[str, Layout]
) -> tuple[list[LayerWeights], list[str]]:
    """Convolutions, BatchNorm and Scale layers, for images less `mean` (blue, green, red).

    conv1 has no bias in the file and none in Caffe's net: what the other mean adds goes into bn_conv1's mean. Returns
    notes on what differs. Raises ProtoError for files of another kind.
    """
    layers = gather(path, read_checkpoint(path), LAYOUT, known)
    (weight,), (running_mean, variance) = layers["conv1"], layers["bn_conv1"]
    weight, added, border = absorb(weight, np.zeros(len(weight), np.float32), LAYOUT.preprocessing, caffe_input(mean))
    layers["conv1"], layers["bn_conv1"] = [weight], [running_mean - added, variance]
    one = np.ones(1, np.float32)
    made = []
    for name, arrays in layers.items():
        if name.startswith("bn"):
            made.append(LayerWeights(name, "BatchNorm", [*arrays, one]))
        else:
            made.append(LayerWeights(name, "Scale" if name.startswith("scale") else "Convolution", arrays))
    notes = [NOTE]
    if border > 1e-6:
        notes.append(
            f"the means of the images differ: at the image's border conv1's outputs differ by up to {border:.3g}"
        )
    return made, notes
