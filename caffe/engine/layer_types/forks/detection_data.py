"""DetectionData of Cascade R-CNN (Cai and Vasconcelos 2018): images of a window file, and what anchors are to predict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.distort import check_distortion, distort, draw_distortion
from caffe.data.augment.object_view import ObjectView, nearest
from caffe.data.feed.anchor_labels import AnchorMap, LabelRules
from caffe.data.feed.object_file import ListedImage
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import record_rng
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.object_data import ObjectDataLayer, ObjectImages, label_rows, record_of

#: sides that follow from short_size and long_size are multiples of this
MULTIPLE = 32
_SHUFFLES = ("random", "random_aspect", "random_mix_aspect")


def has(param: Any, *names: str) -> bool:
    """Whether a message has all of these fields."""
    return all(param.HasField(name) for name in names)


def rounded_side(side: float) -> int:
    """The nearest multiple of 32."""
    return nearest(side / MULTIPLE) * MULTIPLE


class _Sizes:
    """The sizes of images and of batches, from the layer's parameter."""

    def __init__(self, param: Any) -> None:
        self._param = param

    def resized(self, height: int, width: int, ratio: float) -> tuple[int, int]:
        """What an image of a size is resized to; `ratio` is the batch's template_ratio."""
        param = self._param
        if has(param, "resize_width", "resize_height"):
            return param.resize_height, param.resize_width
        if has(param, "resize_ratio"):
            scale = param.resize_ratio
        elif has(param, "short_size", "long_size"):
            scale = rounded_side(param.short_size * ratio) / min(height, width)
        else:
            return height, width
        return max(1, nearest(height * scale)), max(1, nearest(width * scale))

    def canvas(self, height: int, width: int, ratio: float) -> tuple[int, int]:
        """The size of a batch's data if its first image has this size."""
        param = self._param
        if has(param, "crop_width", "crop_height"):
            return param.crop_height, param.crop_width
        if has(param, "crop_short_size", "crop_long_size"):
            short, long = param.crop_short_size, param.crop_long_size
        elif has(param, "resize_width", "resize_height"):
            return param.resize_height, param.resize_width
        elif has(param, "short_size", "long_size") and not has(param, "resize_ratio"):
            short, long = (rounded_side(side * ratio) for side in (param.short_size, param.long_size))
        else:
            return self.resized(height, width, ratio)
        # With a fixed size of the images, that of the batches is fixed, too.
        high = height >= width or has(param, "resize_width", "resize_height")
        return (long, short) if high else (short, long)


class _Images(ObjectImages):
    """Records: images scaled and cut to the size of their batch, their label maps and objects."""

    def __init__(
        self, param: Any, transform: Any, maps: list[AnchorMap], mean: NDArray[np.float32], *listed: Any
    ) -> None:
        super().__init__(*listed)
        self.param, self.transform, self.maps, self.mean = param, transform, maps, mean
        self.sizes = _Sizes(param)
        self.rules = LabelRules(
            param.fg_threshold,
            param.ignore_fg_threshold,
            param.pickup_iou_thr,
            pixel=1,
            objects_first=True,
            margin=param.anchor_ignore_margin_ratio if has(param, "anchor_ignore_margin_ratio") else None,
            inside=param.anchor_ignore_iou_thr if has(param, "anchor_ignore_iou_thr") else None,
        )

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        kind = self.param.shuffle
        if kind == "random":
            return super()._permute(epoch)
        rng = np.random.default_rng([self.seed, epoch])
        high = np.array([image.height >= image.width for _, image in self.lines])
        groups = [rng.permutation(np.flatnonzero(of)) for of in (high, ~high)]
        if rng.integers(2):
            groups.reverse()
        if kind == "random_aspect":
            return np.concatenate(groups)
        return _alternating(groups[0], groups[1], self.param.mix_group_size)

    def ratio_of(self, batch: int) -> float:
        """The template_ratio of a batch, drawn from the given ones."""
        ratios = self.param.template_ratio
        if not ratios:
            return 1.0
        return float(ratios[int(np.random.default_rng([self.seed, batch]).integers(len(ratios)))])

    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        param, size = self.param, self.param.batch_size
        batch = turn // size
        ratio = self.ratio_of(batch)
        first: ListedImage = self.line(batch * size)[2][1]
        canvas = self.sizes.canvas(first.height, first.width, ratio)
        epoch, index, (_, listed) = self.line(place)
        rng = record_rng(self.seed, epoch, index)
        image = self.read(place).image
        if has(param, "distort_param"):
            image = distort(image, draw_distortion(param.distort_param, rng))
        view = ObjectView(image, listed.boxes.copy(), listed.regions.copy())
        if self.transform.mirror and rng.integers(2):
            view.mirror()
        height, width = image.shape[:2]
        view.resize(*self.sizes.resized(height, width, ratio))
        chosen, center = view.choose(canvas, rng)
        scale = (1.0, 1.0)
        if rng.random() < param.multiscale_prob:
            scale = self._scale(None if chosen is None else view.boxes[chosen], rng)
        view.place(canvas, center, scale, rng)
        data = record_of(view, canvas, self.mean, self.transform.scale, room)
        least = (param.min_gt_width, param.min_gt_height)
        return data, label_rows(view, listed, canvas, self.maps, self.rules, least, difficult=True)

    def _scale(self, box: NDArray[np.float64] | None, rng: np.random.Generator) -> tuple[float, float]:
        """By how much (across, down) an image is scaled, whose chosen object has a box; None: it has no object."""
        param = self.param
        if has(param, "low_scale_ratio", "high_scale_ratio"):
            low, high = param.low_scale_ratio, param.high_scale_ratio
        elif not has(param, "min_scale", "max_scale"):
            return 1.0, 1.0
        elif box is None:
            low = high = 2.0  # as in the fork
        else:
            sides = box[2:] - box[:2] + 1
            size = math.sqrt(max(float(sides[0]), 1) * max(float(sides[1]), 1))
            low, high = param.min_scale / size, param.max_scale / size
        factor = 2.0 ** rng.uniform(math.log2(low), math.log2(high))
        if not has(param, "min_whaspect", "max_whaspect"):
            return factor, factor
        aspect = 2.0 ** rng.uniform(math.log2(param.min_whaspect), math.log2(param.max_whaspect))
        return factor * math.sqrt(aspect), factor / math.sqrt(aspect)


def _alternating(first: NDArray[np.int64], second: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`size` of the first, as many of the second, and so on until one of them ends; then what is left."""
    parts, taken, turn = [], [0, 0], 0
    groups = (first, second)
    while all(taken[i] < len(groups[i]) for i in (0, 1)):
        part = groups[turn][taken[turn] : taken[turn] + size]
        parts.append(part)
        taken[turn] += len(part)
        turn = 1 - turn
    return np.concatenate([*parts, first[taken[0] :], second[taken[1] :]])


@register
class DetectionData(ObjectDataLayer):
    """Tops: data N × 3 × H × W, a label map N × 6 × h × w for each stride, and with output_gt_boxes the objects.

    A row of the objects is image, x1, y1, x2, y2, label, ignored, difficult; a batch without objects has a row of -1. The
    source is a window file whose objects say whether they are difficult (see `caffe.data.feed.object_file`).

    Images are distorted, turned over at random (transform_param's mirror), and resized: to resize_width × resize_height,
    by resize_ratio, or so that the shorter side is short_size. In multiscale_prob of the cases they are then scaled by a
    random factor from low_scale_ratio to high_scale_ratio, or so that an object chosen at random gets a size from
    min_scale to max_scale, and stretched to an aspect from min_whaspect to max_whaspect of their own. A part around the
    object of the size of the batch is taken; a smaller image is put on zeros.

    A batch's size is crop_width × crop_height, or crop_short_size and crop_long_size, or the images' size, or short_size
    and long_size. Of the last, and of crop_short_size and crop_long_size, the longer is the height if the batch's first
    image is as high as wide or higher, as the window file says. short_size and long_size are multiplied by one of
    template_ratio and rounded to multiples of 32. shuffle: random; random_aspect, where an epoch's high images come before
    or after its wide ones; random_mix_aspect, where groups of mix_group_size of both alternate.

    Label maps are as ImageGtData's, with these differences: both border pixels belong to a box; objects come before
    regions without interest, which take ignore_fg_threshold; pickup_iou_thr is an option; anchors may have to be in the
    image (anchor_ignore_iou_thr) or reach at most anchor_ignore_margin_ratio of half their sides beyond it.

    Of transform_param, only mirror, mean_value and scale exist. As in the fork, `scale` and `resize_param` of the layer's
    own parameter have no effect.
    """

    type_name = "DetectionData"
    tops = (2, None)
    row = 8

    def setup(self, bottom: Sequence[Shape]) -> None:
        param, transform = self.param.detection_data_param, self.param.transform_param
        if param.batch_size < 1:
            self.fail("detection_data_param needs a batch_size over 0")
        maps = self.anchor_maps(param, "stride")
        self.check_tops(len(maps), param.output_gt_boxes)
        mean = self.means(("mirror", "mean_value", "scale"))
        self._check_sizes(param)
        self._check_scales(param)
        if has(param, "distort_param"):
            check_distortion(param.distort_param, self.where)
        images = self.listed(param.source, difficult=True)
        order, seed = self.order(len(images))
        # As in the fork, the default has no effect.
        listed = (images, param.root_folder, order, seed, has(param, "shuffle"), param.cache_images)
        records = _Images(param, transform, maps, mean, *listed)
        shape = (images[-1].height, images[-1].width)
        if has(param, "short_size", "long_size") or has(param, "crop_short_size", "crop_long_size"):
            shape = (2, 1)
        self.start(
            records, maps, records.sizes.canvas(*shape, records.ratio_of(0)), param.batch_size, param.output_gt_boxes
        )

    def _check_sizes(self, param: Any) -> None:
        kinds = [
            names
            for names in (("resize_width", "resize_height"), ("resize_ratio",), ("short_size", "long_size"))
            if any(param.HasField(name) for name in names)
        ]
        if len(kinds) > 1:
            self.fail(f"has {' and '.join(name for names in kinds for name in names)}; give one kind of size")
        crops = [
            names
            for names in (("crop_width", "crop_height"), ("crop_short_size", "crop_long_size"))
            if has(param, *names)
        ]
        if len(crops) > 1:
            self.fail("has crop_width and crop_height, and crop_short_size and crop_long_size; give one kind of crop")
        sides = [name for names in [*kinds, *crops] for name in names]
        for name in sides:
            if not getattr(param, name) > 0:
                self.fail(f"needs {' and '.join(sides)} over 0; {name} is {getattr(param, name):g}")
        for short, long in (("short_size", "long_size"), ("crop_short_size", "crop_long_size")):
            if has(param, short, long) and getattr(param, long) <= getattr(param, short):
                self.fail(f"{long} must be over {short}; found {getattr(param, long)} and {getattr(param, short)}")
        least = min(param.template_ratio, default=1)
        if not least > 0 or (has(param, "short_size", "long_size") and rounded_side(param.short_size * least) < 1):
            self.fail(f"short_size {param.short_size} times template_ratio {least:g} is nearer to 0 than to {MULTIPLE}")

    def _check_scales(self, param: Any) -> None:
        pairs = (("min_scale", "max_scale"), ("low_scale_ratio", "high_scale_ratio"), ("min_whaspect", "max_whaspect"))
        given = [pair for pair in pairs if any(param.HasField(name) for name in pair)]
        if pairs[0] in given and pairs[1] in given:
            self.fail("has min_scale or max_scale, and low_scale_ratio or high_scale_ratio; give one kind of scale")
        for low, high in given:
            if has(param, low, high) and not 0 < getattr(param, low) <= getattr(param, high):
                self.fail(f"needs 0 < {low} <= {high}; found {getattr(param, low):g} and {getattr(param, high):g}")
        if not 0 <= param.multiscale_prob <= 1:
            self.fail(f"multiscale_prob is {param.multiscale_prob:g}; it must be from 0 to 1")
        if not param.fg_threshold > 0:
            self.fail(f"fg_threshold must be over 0, not {param.fg_threshold:g}")
        if has(param, "shuffle") and param.shuffle not in _SHUFFLES:
            self.fail(f"shuffle is '{param.shuffle}'; it must be one of {', '.join(_SHUFFLES)}")
        if param.mix_group_size < 1:
            self.fail("mix_group_size must be at least 1")
