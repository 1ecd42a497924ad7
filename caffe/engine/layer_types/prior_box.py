"""PriorBox: the default boxes of one prediction layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe.engine.layer import Layer, Shape, register
from caffe.ops.prior_box import prior_box, prior_box_sizes


@register
class PriorBox(Layer):
    """Bottoms: the feature map and the image, of which only the sizes are used. Top: 1×2×(H·W·K·4).

    prior_box_param: min_size and max_size (truncated to whole pixels), aspect_ratio, flip, clip, variance (one or four,
    default 0.1), img_size or img_h and img_w (default: the second bottom's), step or step_h and step_w (default: image
    over feature map), offset. With denser_prior_boxes (of TextBoxes) each box is followed by one that is half a step
    lower: its center is at the end of its row of cells.
    """

    type_name = "PriorBox"
    constant_tops = True
    bottoms = (2, 2)
    _size_bits: Tensor

    def setup(self, bottom: Sequence[Shape]) -> None:
        param = self.param.prior_box_param
        sizes = self.box_sizes()
        self.check_positive("variance")
        if len(param.variance) not in (0, 1, 4):
            self.fail(f"has {len(param.variance)} variance; give one or four")
        self.variances = list(param.variance) or [0.1]
        self.image = self._pair("img_h", "img_w", "img_size")
        self.step = self._pair("step_h", "step_w", "step")
        # A buffer, so that it moves with the net; as integers with the same bits, so that a net cast to another
        # precision keeps its boxes.
        self.register_buffer("_size_bits", sizes.view(torch.int32), persistent=False)
        self._made: dict[tuple[object, ...], Tensor] = {}

    def box_sizes(self) -> Tensor:
        """Widths and heights in pixels of the boxes at each position, K×2; raises NetError for fields that are wrong."""
        param = self.param.prior_box_param
        if param.width or param.height:
            self.fail("width and height of prior_box_param are for PriorBoxClustered layers")
        if not param.min_size:
            self.fail("needs at least one min_size in prior_box_param")
        self.check_positive("min_size", "aspect_ratio")
        if len(param.max_size) not in (0, len(param.min_size)):
            self.fail(
                f"has {len(param.max_size)} max_size for {len(param.min_size)} min_size: give none, or one for each"
            )
        for smallest, largest in zip(param.min_size, param.max_size, strict=False):
            if not largest > smallest:
                self.fail(f"max_size {largest:g} must be greater than its min_size {smallest:g}")
        return prior_box_sizes(param.min_size, param.max_size, param.aspect_ratio, param.flip)

    def check_positive(self, *names: str) -> None:
        """Raises NetError for values of these fields of prior_box_param that are not positive."""
        for name in names:
            for value in getattr(self.param.prior_box_param, name):
                if not value > 0:
                    self.fail(f"{name} must be positive, not {value:g}")

    @property
    def _sizes(self) -> Tensor:
        return self._size_bits.view(torch.float32)

    def _pair(self, height: str, width: str, both: str) -> tuple[float, float] | None:
        """(height, width) as the prototxt gives them, separately or as one number; None if it gives neither."""
        param = self.param.prior_box_param
        apart = [name for name in (height, width) if param.HasField(name)]
        if apart and param.HasField(both):
            self.fail(f"has both {both} and {' and '.join(apart)}: give {both}, or {height} and {width}")
        if len(apart) == 1:
            self.fail(f"has only {apart[0]}: give {height} and {width}, or {both}")
        if not apart and not param.HasField(both):
            return None
        pair = tuple(getattr(param, name) for name in ((height, width) if apart else (both, both)))
        if min(pair) <= 0:
            self.fail(f"{' and '.join(apart) or both} must be positive, not {' and '.join(f'{v:g}' for v in pair)}")
        return pair[0], pair[1]

    def takes_gradient(self, index: int) -> bool:
        return False

    def reshape(self, bottom: Sequence[Shape]) -> list[Shape]:
        for shape in bottom[: 1 if self.image else 2]:
            if len(shape) != 4:
                self.fail(f"needs bottoms with four axes (N, C, H, W), not {shape}")
        height, width = bottom[0][2:]
        boxes = self._sizes.shape[0] * (2 if self.param.prior_box_param.denser_prior_boxes else 1)
        return [(1, 2, height * width * boxes * 4)]

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:  # type: ignore[override]  # always two bottoms
        height, width = feature.shape[2:]
        image_height, image_width = self.image or image.shape[2:]
        # The boxes depend only on shapes, so they are made once for each.
        key = (height, width, image_height, image_width, feature.device)
        made = self._made.get(key)
        if made is None:
            step_h, step_w = self.step or (image_height / height, image_width / width)
            made = self._boxes(height, width, int(image_height), int(image_width), step_h, step_w, feature.device)
            if not torch.compiler.is_compiling():  # while tracing, tensors stand for values and must not be kept
                self._made[key] = made
        # a copy: what users write to the blob must not stay in the boxes of the next forward
        return made.clone()

    def _boxes(
        self, height: int, width: int, image_height: int, image_width: int, step_h: float, step_w: float,
        device: torch.device,
    ) -> Tensor:  # fmt: skip
        param, sizes = self.param.prior_box_param, self._sizes.to(device)

        def at(offset: float) -> Tensor:
            made: Tensor = prior_box(
                sizes, height, width, image_height, image_width, step_h, step_w, offset, param.clip, self.variances
            )
            return made

        boxes = at(param.offset)
        if not param.denser_prior_boxes:
            return boxes
        pair = boxes.reshape(2, -1, 1, 4).repeat(1, 1, 2, 1)
        pair[0, :, 1, 1::2] = at(1.0).reshape(2, -1, 4)[0, :, 1::2]  # the same box, lower
        return pair.reshape(1, 2, -1)
