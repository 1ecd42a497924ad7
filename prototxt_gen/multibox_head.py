"""The prediction layers: box offsets, class scores and default boxes of each source blob, then concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    def boxes_per_cell(self) -> int:
        """Squares of min_size and of sqrt(min_size · max_size), and two boxes per aspect ratio."""
        return 2 + 2 * len(self.aspect_ratios)


def multibox_head(
    net: NetSpec, sources: Sequence[Source], sizes: Sequence[tuple[float, float]], num_classes: int
) -> None:
    """Adds the heads and `mbox_loc` (N × 4·boxes), `mbox_conf` (N × classes·boxes), `mbox_priorbox` (1 × 2 × 4·boxes).

    `sizes` are (min, max) in pixels, one pair per source.
    """
    blobs = []
    for source, (min_size, max_size) in zip(sources, sizes, strict=True):
        blob = source.name
        if source.l2norm:
            blob = f"{source.name}_norm"
            l2norm(net, blob, source.name)
        blobs.append(blob)
        _predictor(net, blob, "loc", 4 * source.boxes_per_cell)
        _predictor(net, blob, "conf", num_classes * source.boxes_per_cell)
        net[f"{blob}_mbox_priorbox"] = L.PriorBox(
            net[blob],
            net.data,
            min_size=min_size,
            max_size=max_size,
            aspect_ratio=source.aspect_ratios,
            flip=True,
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
