"""Default boxes as the PriorBox layers of a net place them: a few shapes per source, at every cell of its map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError

#: PriorBox treats ratios that differ by less than this as equal
SAME_RATIO = 1e-6
#: the second square may be larger than the input by this factor: that of the published SSD513 is 3 % larger
_BEYOND = 1.05


@dataclass(frozen=True)
class Shapes:
    """The shapes of one source's boxes: fields of PriorBoxParameter, with sizes in pixels of the input.

    `max_sizes` is empty or has one value per min size. `aspect_ratios` leaves out 1, which is always there. With
    `flip`, each ratio r also stands for 1/r.
    """

    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...] = ()
    aspect_ratios: tuple[float, ...] = ()
    flip: bool = True

    @property
    def count(self) -> int:
        """The number of boxes per cell."""
        ratios = len(self.aspect_ratios) * (2 if self.flip else 1)
        return len(self.min_sizes) * (1 + bool(self.max_sizes) + ratios)

    def sizes(self) -> NDArray[np.float64]:
        """Returns widths and heights in pixels, [count, 2], in PriorBox's order.

        Min and max sizes are truncated to whole pixels, as PriorBox does.
        """
        rows = []
        for index, size in enumerate(map(math.trunc, self.min_sizes)):
            rows.append((float(size), float(size)))
            if self.max_sizes:
                rows.append((math.sqrt(size * math.trunc(self.max_sizes[index])),) * 2)
            for ratio in self.aspect_ratios:
                root = math.sqrt(ratio)
                rows.append((size * root, size / root))
                if self.flip:
                    rows.append((size / root, size * root))
        return np.array(rows)

    def fault(self, height: float, width: float) -> str | None:
        """Returns what is wrong with these boxes for an input of `height` × `width` pixels, or None."""
        if not self.min_sizes:
            return "has no min size; it needs at least one"
        if len(self.max_sizes) not in (0, len(self.min_sizes)):
            return f"has {len(self.max_sizes)} max sizes for {len(self.min_sizes)} min sizes; give none, or one each"
        for name, values in (("min size", self.min_sizes), ("max size", self.max_sizes)):
            for value in values:
                if not (math.isfinite(value) and value >= 1):
                    return f"has {name} {value:g}; a size must be at least one pixel"
        for smallest, largest in zip(self.min_sizes, self.max_sizes or self.min_sizes, strict=True):
            side = math.sqrt(smallest * largest)
            limit = max(height, width)
            slack = _BEYOND if smallest <= limit else 1.0
            if self.max_sizes and largest <= smallest:
                return f"has max size {largest:g} for min size {smallest:g}; it must be greater than the min size"
            if side > limit * slack:
                boxes = f"sizes {smallest:g} and {largest:g} make a box of" if self.max_sizes else "a min size of"
                return f"does not fit the image: {boxes} {side:g} pixels, and the input has {limit:g}"
        seen = [1.0]
        for ratio in self.aspect_ratios:
            if not (math.isfinite(ratio) and ratio > 0):
                return f"has aspect ratio {ratio:g}; ratios must be positive"
            if any(abs(ratio - other) < SAME_RATIO for other in seen):
                why = "always there" if abs(ratio - 1) < SAME_RATIO else "there already"
                return f"has aspect ratio {ratio:g}, which is {why}" + (" as a reciprocal" if ratio < 1 else "")
            seen += [ratio, 1 / ratio] if self.flip else [ratio]
        return None


@dataclass(frozen=True)
class Source:
    """A source of predictions: a blob, the grid of its cells (`rows` × `columns`), and its boxes.

    Steps are in pixels of the input; the offset is a share of a step.
    """

    name: str
    rows: int
    columns: int
    step_h: float
    step_w: float
    shapes: Shapes
    offset: float = 0.5
    clip: bool = False

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    @property
    def count(self) -> int:
        """The number of boxes over all cells."""
        return self.cells * self.shapes.count

    @property
    def step(self) -> float:
        """The distance between neighboring cells in pixels; the larger of the two directions."""
        return max(self.step_h, self.step_w)

    def centers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the x coordinates of the columns' centers, [columns], and the y of the rows', [rows], in pixels."""
        columns, rows = np.arange(self.columns, dtype=np.float64), np.arange(self.rows, dtype=np.float64)
        return (columns + self.offset) * self.step_w, (rows + self.offset) * self.step_h


@dataclass(frozen=True)
class Layout:
    """All default boxes of a net. `height` and `width`: input size in pixels; sources: from shallow to deep."""

    network: str
    height: int
    width: int
    sources: tuple[Source, ...] = field(default=())

    @property
    def count(self) -> int:
        """The number of default boxes of the net."""
        return sum(source.count for source in self.sources)

    def with_shapes(self, shapes: Sequence[Shapes]) -> Layout:
        """Returns the layout with new boxes: one `Shapes` per source."""
        pairs = zip(self.sources, shapes, strict=True)
        return replace(self, sources=tuple(replace(source, shapes=new) for source, new in pairs))

    def boxes(self) -> Iterator[tuple[Source, NDArray[np.float64]]]:
        """Yields each source with its boxes in pixels, [count, 4] (xmin, ymin, xmax, ymax), in PriorBox's order."""
        for source in self.sources:
            x, y = source.centers()
            sizes = source.shapes.sizes()
            center = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]
            corners = np.concatenate([center - sizes / 2, center + sizes / 2], axis=-1).reshape(-1, 4)
            if source.clip:
                corners = np.clip(corners, 0, [self.width, self.height] * 2)
            yield source, corners

    def check(self, where: str) -> None:
        """Raises DataError for invalid sizes or ratios. The message begins with `where`."""
        for source in self.sources:
            fault = source.shapes.fault(self.height, self.width)
            if fault:
                raise DataError(f"{where}: source '{source.name}' {fault}")
