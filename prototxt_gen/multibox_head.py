"""The prediction layers: box offsets, class scores and default boxes of each source blob, then concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe.default_boxes.layout import Shapes
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from prototxt_gen.layers import convolution, l2norm

#: how the offsets of center and size are scaled
VARIANCE = [0.1, 0.1, 0.2, 0.2]


@dataclass(frozen=True)
class Source:
    """A blob with predictions. `step` is the distance of its cells in input pixels."""

    name: str
    #: besides 1; each r includes 1/r
    aspect_ratios: tuple[int, ...]
    step: int
    #: predict from `<name>_norm`, the blob after L2 normalization
    l2norm: bool = False

    @property
    def blob(self) -> str:
        """The blob that its predictions are made from."""
        return f"{self.name}_norm" if self.l2norm else self.name

    def shapes(self, min_size: float, max_size: float) -> Shapes:
        """Squares of min_size and of sqrt(min_size · max_size), and two boxes for each aspect ratio."""
        return Shapes((min_size,), (max_size,), self.aspect_ratios)


def multibox_head(net: NetSpec, sources: Sequence[Source], boxes: Sequence[Shapes], num_classes: int) -> None:
    """Adds the heads and `mbox_loc` (N × 4·boxes), `mbox_conf` (N × classes·boxes), `mbox_priorbox` (1 × 2 × 4·boxes).

    `boxes` are the default boxes of each source.
    """
    blobs = []
    for source, shapes in zip(sources, boxes, strict=True):
        blob = source.blob
        if source.l2norm:
            l2norm(net, blob, source.name)
        blobs.append(blob)
        _predictor(net, blob, "loc", 4 * shapes.count)
        _predictor(net, blob, "conf", num_classes * shapes.count)
        net[f"{blob}_mbox_priorbox"] = L.PriorBox(
            net[blob],
            net.data,
            min_size=shapes.min_sizes,
            max_size=shapes.max_sizes,
            aspect_ratio=shapes.aspect_ratios,
            flip=shapes.flip,
            clip=False,
            variance=VARIANCE,
            step=source.step,
            offset=0.5,
        )
    net.mbox_loc = L.Concat(*(net[f"{blob}_mbox_loc_flat"] for blob in blobs), axis=1)
    net.mbox_conf = L.Concat(*(net[f"{blob}_mbox_conf_flat"] for blob in blobs), axis=1)
    net.mbox_priorbox = L.Concat(*(net[f"{blob}_mbox_priorbox"] for blob in blobs), axis=2)


def _predictor(net: NetSpec, blob: str, what: str, channels: int) -> None:
    """A 3 × 3 convolution whose channels come last in memory, so that each cell's boxes are adjacent."""
    name = f"{blob}_mbox_{what}"
    convolution(net, name, blob, channels, kernel=3, pad=1)
    net[f"{name}_perm"] = L.Permute(net[name], order=[0, 2, 3, 1])
    net[f"{name}_flat"] = L.Flatten(net[f"{name}_perm"], axis=1)
