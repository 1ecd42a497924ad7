"""ImageGtData of MS-CNN (Cai et al. 2016): images of a window file, and what maps with one anchor each are to predict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe.data.augment.object_view import ObjectView, nearest
from caffe.data.feed.anchor_labels import AnchorMap, LabelRules
from caffe.data.feed.prefetch import Array
from caffe.data.feed.stream import record_rng
from caffe.engine.layer import Shape, register
from caffe.engine.layer_types.forks.object_data import ObjectDataLayer, ObjectImages, label_rows, record_of

#: an anchor is not looked at if regions without interest take as much of it
_IN_REGIONS = 0.4
#: an object without an anchor gets the one at its center, if some anchor overlaps it by as much
_PICKUP = 0.2
#: the most images of an epoch, for which there are lists in memory
_MOST_IMAGES = 100_000_000
#: scales in an octave, and the distance of aspect ratios
_OCTAVE, _ASPECT_STEP = 2, 0.05


class _Images(ObjectImages):
    """Records: images scaled and cut, their label maps and objects."""

    def __init__(
        self,
        param: Any,
        mirror: bool,
        canvas: tuple[int, int],
        maps: list[AnchorMap],
        mean: NDArray[np.float32],
        *listed: Any,
    ) -> None:
        super().__init__(*listed)
        self.param, self.mirror, self.canvas, self.maps, self.mean = param, mirror, canvas, maps, mean
        self.rules = LabelRules(param.fg_threshold, _IN_REGIONS, _PICKUP)

    def load_as(self, place: int, turn: int, room: Array) -> tuple[Array, Array]:
        epoch, index, (_, listed) = self.line(place)
        rng, param = record_rng(self.seed, epoch, index), self.param
        view = ObjectView(self.read(place).image, listed.boxes.copy(), listed.regions.copy())
        if self.mirror and rng.integers(2):
            view.mirror()
        if param.resize_width and param.resize_height:
            view.resize(param.resize_height, param.resize_width)
        chosen, center = view.choose(self.canvas, rng)
        scale = (1.0, 1.0)
        if param.do_multiple_scale and param.max_scale and param.min_scale and chosen is not None and rng.integers(2):
            wide, high = (view.boxes[chosen, 2:] - view.boxes[chosen, :2]).tolist()
            scale = self._scale(wide, high, rng)
        view.place(self.canvas, center, scale, rng)
        data = record_of(view, self.canvas, self.mean, param.scale, room)
        least = (param.min_gt_width, param.min_gt_height)
        return data, label_rows(view, listed, self.canvas, self.maps, self.rules, least, difficult=False)

    def _scale(self, wide: float, high: float, rng: np.random.Generator) -> tuple[float, float]:
        """By how much (across, down) an object of wide × high pixels is scaled."""
        param = self.param
        octaves = math.log2(param.max_scale / param.min_scale)
        steps = np.arange(nearest(_OCTAVE * octaves + 1)) / _OCTAVE
        # the scale that the object has, of those that it may get
        sizes, area = (param.min_scale * 2.0**steps) ** 2, wide * high
        own = steps[(np.minimum(sizes, area) / np.maximum(sizes, area)).argmax()] if area > 0 else 0
        factor = float(2.0 ** (steps[rng.integers(len(steps))] - own))
        across = down = factor
        aspects = param.HasField("min_whaspect") and param.HasField("max_whaspect")
        if aspects and rng.integers(2) and wide > 0 and high > 0:
            count = nearest((param.max_whaspect - param.min_whaspect) / _ASPECT_STEP)
            aspect = int(rng.integers(count)) * _ASPECT_STEP + param.min_whaspect
            change = aspect / (wide / high)
            least, most = 0.8 * param.min_scale, 1.2 * param.max_scale
            if rng.integers(2):
                across *= change if least <= wide * across * change <= most else 1
            else:
                down /= change if least <= high * down / change <= most else 1
        return across, down


@register
class ImageGtData(ObjectDataLayer):
    """Tops: data N × 3 × H × W, a label map N × 6 × h × w for each downsample_rate, and with output_gt_boxes the objects.

    A row of the objects is image, x1, y1, x2, y2, label, ignored; a batch without objects has the row 0 1 1 2 2 1 1.
    The source is a window file (see `caffe.data.feed.object_file`) whose image sizes count only where neither resize nor
    crop give a size: then the last image's is that of all. Images are turned over at random (transform_param's mirror),
    resized, and half of them, with do_multiple_scale, scaled in steps of half an octave so that an object chosen at random
    gets a size from min_scale to max_scale, and half of these stretched to an aspect ratio from min_whaspect to
    max_whaspect. Then crop_width × crop_height pixels around the object are taken; a smaller image is put on zeros.

    Objects that are smaller than min_gt_width × min_gt_height then, or have their center outside, are ignored: anchors
    that overlap them by more than fg_threshold have no class. An anchor has the class of the object that it overlaps
    most, if by more than fg_threshold. An object that no anchor has gets the one at its center, of the map with the best
    overlap, if that is 0.2 or more. Anchors outside the image, or to 40 % in regions without interest, have overlap 1
    and no class.

    Of transform_param, only mirror and mean_value exist. As in the fork, `mean_file` and `mirror` of the layer's own
    parameter have no effect.
    """

    type_name = "ImageGtData"
    tops = (2, None)

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.image_gt_data_param
        if param.batch_size < 1:
            self.fail("image_gt_data_param needs a batch_size over 0")
        maps = self.anchor_maps(param, "downsample_rate")
        if not maps:
            self.fail("image_gt_data_param needs a downsample_rate, field_w and field_h for at least one map")
        self.check_tops(len(maps), param.output_gt_boxes)
        mean = self.means(("mirror", "mean_value"))
        self._check_scales(param)
        images = self.listed(param.source, difficult=False)
        canvas = self._canvas(param, images[-1].height, images[-1].width)
        times = [param.fg_img_multiple if (~image.ignore).any() else 1 for image in images]
        if sum(times) > _MOST_IMAGES:
            self.fail(
                f"fg_img_multiple {param.fg_img_multiple} makes an epoch of {sum(times):,} images; that is too many"
            )
        images = [image for image, count in zip(images, times, strict=True) for _ in range(count)]
        if not images:
            self.fail("fg_img_multiple is 0, and all images have objects: none is left")
        order, seed = self.order(len(images))
        listed = (images, param.root_folder, order, seed, param.shuffle, param.cache_images)
        records = _Images(param, self.param.transform_param.mirror, canvas, maps, mean, *listed)
        self.start(records, maps, canvas, param.batch_size, param.output_gt_boxes)

    def _check_scales(self, param: Any) -> None:
        if param.do_multiple_scale and param.HasField("min_scale") and param.HasField("max_scale"):
            if not 0 < param.min_scale <= param.max_scale:
                self.fail(f"needs 0 < min_scale <= max_scale; found {param.min_scale} and {param.max_scale}")
            low, high = param.min_whaspect, param.max_whaspect
            both = param.HasField("min_whaspect") and param.HasField("max_whaspect")
            if both and not (low > 0 and nearest((high - low) / _ASPECT_STEP) > 0):
                self.fail(
                    f"needs 0 < min_whaspect, and max_whaspect at least {_ASPECT_STEP} over it; found {low:g} and "
                    f"{high:g}"
                )

    def _canvas(self, param: Any, height: int, width: int) -> tuple[int, int]:
        """The size of the data, if the last image is height × width."""
        if param.HasField("resize_width") and param.HasField("resize_height"):
            height, width = param.resize_height, param.resize_width
            if min(height, width) < 1:
                self.fail(f"resize_height and resize_width must be positive, not {height} and {width}")
        if param.HasField("crop_width") and param.HasField("crop_height"):
            crop = (param.crop_height or height, param.crop_width or width)
            if crop[0] > height or crop[1] > width:
                self.fail(f"a crop of {crop[0]}×{crop[1]} (height × width) is larger than the images, {height}×{width}")
            height, width = crop
        return height, width

    def no_objects(self) -> list[float]:
        return [0, 1, 1, 2, 2, 1, 1]
