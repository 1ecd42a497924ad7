"""The prediction layers: box offsets, class scores and default boxes of each source blob, then concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe.default_boxes.layout import Shapes
from caffe.model_libs.blocks import ConvBNLayer
from caffe.model_libs.resnet import ResBody
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from prototxt_gen.layers import Width, convolution, l2norm

#: how the offsets of center and size are scaled
VARIANCE = [0.1, 0.1, 0.2, 0.2]


@dataclass(frozen=True)
class Source:
    """A blob with predictions. `step` is the distance of its cells in input pixels."""

    name: str
    #: besides 1; each r includes 1/r
    aspect_ratios: tuple[float, ...]
    step: int
    #: predict from `<name>_norm`, the blob after L2 normalization
    l2norm: bool = False
    #: predict from `res<name>_inter<channels>`, the blob after a residual block: DSSD's prediction module
    residual: int = 0
    #: side of the convolutions that predict, in cells
    kernel: int = 3
    #: where the first box's center is written to be, in steps
    offset: float = 0.5

    @property
    def blob(self) -> str:
        """The blob that its predictions are made from."""
        if self.residual:
            return f"res{self.block}"
        return f"{self.name}_norm" if self.l2norm else self.name

    @property
    def block(self) -> str:
        """The name of its prediction module."""
        return f"{self.name}_inter{self.residual}"

    def shapes(self, min_size: float, max_size: float) -> Shapes:
        """Squares of min_size and of sqrt(min_size · max_size), and two boxes for each aspect ratio."""
        return Shapes((min_size,), (max_size,), self.aspect_ratios)


@dataclass(frozen=True)
class Head:
    """What the prediction layers of all sources have in common."""

    #: at the end of the names of the layers that predict
    postfix: str = ""
    #: batch normalization after the convolutions that predict
    batch_norm: bool = False
    #: channels of a 3 × 3 convolution before each of them, with batch normalization and ReLU; 0 for none
    before: int = 0


PLAIN_HEAD = Head()


def multibox_head(
    net: NetSpec, sources: Sequence[Source], boxes: Sequence[Shapes], num_classes: int, head: Head, width: Width,
    fixed_statistics: bool = False, *, centered: bool = False,
) -> None:  # fmt: skip
    """Adds the heads and `mbox_loc` (N × 4·boxes), `mbox_conf` (N × classes·boxes), `mbox_priorbox` (1 × 2 × 4·boxes).

    `boxes` are the default boxes of each source. `fixed_statistics`: batch normalization does not learn. `centered`:
    boxes are centered on their cells, whatever offset a source has.
    """
    blobs = []
    for source, shapes in zip(sources, boxes, strict=True):
        blob = source.blob
        blobs.append(blob)
        if source.l2norm:
            l2norm(net, blob, source.name)
        if source.residual:
            inner, outer = width(source.residual), width(4 * source.residual)
            ResBody(
                net, source.name, source.block, inner, inner, outer, 1, True, use_global_stats=fixed_statistics
            )  # fmt: skip
        _predictor(net, source, f"loc{head.postfix}", 4 * shapes.count, head, width, fixed_statistics)
        _predictor(net, source, f"conf{head.postfix}", num_classes * shapes.count, head, width, fixed_statistics)
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
            offset=0.5 if centered else source.offset,
        )
    net.mbox_loc = L.Concat(*(net[f"{blob}_mbox_loc{head.postfix}_flat"] for blob in blobs), axis=1)
    net.mbox_conf = L.Concat(*(net[f"{blob}_mbox_conf{head.postfix}_flat"] for blob in blobs), axis=1)
    net.mbox_priorbox = L.Concat(*(net[f"{blob}_mbox_priorbox"] for blob in blobs), axis=2)


def _predictor(
    net: NetSpec, source: Source, what: str, channels: int, head: Head, width: Width, fixed_statistics: bool
) -> None:
    """A convolution whose channels come last in memory, so that each cell's boxes are adjacent."""
    bottom, name = source.blob, f"{source.blob}_mbox_{what}"
    if head.before:
        bottom = f"{name}_inter"
        ConvBNLayer(
            net, source.blob, bottom, True, True, width(head.before), 3, 1, 1, use_global_stats=fixed_statistics
        )
    kernel, pad = source.kernel, source.kernel // 2
    if head.batch_norm:
        ConvBNLayer(net, bottom, name, True, False, channels, kernel, pad, 1)
    else:
        convolution(net, name, bottom, channels, kernel=kernel, pad=pad)
    net[f"{name}_perm"] = L.Permute(net[name], order=[0, 2, 3, 1])
    net[f"{name}_flat"] = L.Flatten(net[f"{name}_perm"], axis=1)
