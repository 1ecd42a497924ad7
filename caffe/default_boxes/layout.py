"""Default boxes as the PriorBox layers of a net place them: a few shapes for each source, at every cell of its map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from caffe.errors import DataError

#: PriorBox takes ratios that are nearer than this for the same
SAME_RATIO = 1e-6


@dataclass(frozen=True)
class Shapes:
    """What decides the sizes of one source's boxes: the fields of a PriorBoxParameter, sizes in pixels of the input.

    `max_sizes` is empty or has one for each of `min_sizes`. `aspect_ratios` are those besides 1; with `flip` each r
    stands for 1/r as well.
    """

    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...] = ()
    aspect_ratios: tuple[float, ...] = ()
    flip: bool = True

    @property
    def count(self) -> int:
        """Boxes of each cell."""
        ratios = len(self.aspect_ratios) * (2 if self.flip else 1)
        return len(self.min_sizes) * (1 + bool(self.max_sizes) + ratios)

    def sizes(self) -> NDArray[np.float64]:
        """Widths and heights in pixels, count × 2, in PriorBox's order; it cuts min and max sizes to whole pixels."""
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
        """What makes these no default boxes of an input of `height` × `width` pixels; None where nothing does."""
        if not self.min_sizes:
            return "has no min size; it takes at least one"
        if len(self.max_sizes) not in (0, len(self.min_sizes)):
            return (
                f"has {len(self.max_sizes)} max sizes for {len(self.min_sizes)} min sizes; give none, or one for each"
            )
        for name, values in (("min size", self.min_sizes), ("max size", self.max_sizes)):
            for value in values:
                if not (math.isfinite(value) and value >= 1):
                    return f"has {name} {value:g}; sizes are at least one pixel"
        for smallest, largest in zip(self.min_sizes, self.max_sizes or self.min_sizes, strict=True):
            side = math.sqrt(smallest * largest)
            limit = max(height, width)
            if self.max_sizes and largest <= smallest:
                return f"has max size {largest:g} for min size {smallest:g}; a max size is greater than its min size"
            if side > limit:
                boxes = f"sizes {smallest:g} and {largest:g} make a box of" if self.max_sizes else "a min size of"
                return f"is over the image: {boxes} {side:g} pixels, and the input has {limit:g}"
        seen = [1.0]
        for ratio in self.aspect_ratios:
            if not (math.isfinite(ratio) and ratio > 0):
                return f"has aspect ratio {ratio:g}; ratios are over 0"
            if any(abs(ratio - other) < SAME_RATIO for other in seen):
                why = "always there" if abs(ratio - 1) < SAME_RATIO else "there already"
                return f"has aspect ratio {ratio:g}, which is {why}" + (" as a reciprocal" if ratio < 1 else "")
            seen += [ratio, 1 / ratio] if self.flip else [ratio]
        return None


@dataclass(frozen=True)
class Source:
    """A blob that predicts: the grid of its cells, `rows` × `columns`, and its boxes. Steps are in input pixels."""

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
        """Boxes of all cells."""
        return self.cells * self.shapes.count

    @property
    def step(self) -> float:
        """The larger distance of two neighbouring cells."""
        return max(self.step_h, self.step_w)

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x of the columns and y of the rows in pixels."""
        columns, rows = np.arange(self.columns, dtype=np.float64), np.arange(self.rows, dtype=np.float64)
        return (columns + self.offset) * self.step_w, (rows + self.offset) * self.step_h


@dataclass(frozen=True)
class Layout:
    """All default boxes of a net. `height` and `width` are the input's, in pixels; sources come shallow to deep."""

    network: str
    height: int
    width: int
    sources: tuple[Source, ...] = field(default=())

    @property
    def count(self) -> int:
        """How many default boxes the net has."""
        return sum(source.count for source in self.sources)

    def with_shapes(self, shapes: Sequence[Shapes]) -> Layout:
        """The same sources with other boxes, one `Shapes` for each."""
        pairs = zip(self.sources, shapes, strict=True)
        return replace(self, sources=tuple(replace(source, shapes=new) for source, new in pairs))

    def boxes(self) -> Iterator[tuple[Source, NDArray[np.float64]]]:
        """Each source with all of its boxes in pixels, count × 4 (xmin, ymin, xmax, ymax), in PriorBox's order."""
        for source in self.sources:
            x, y = source.centres()
            sizes = source.shapes.sizes()
            centre = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]
            corners = np.concatenate([centre - sizes / 2, centre + sizes / 2], axis=-1).reshape(-1, 4)
            if source.clip:
                corners = np.clip(corners, 0, [self.width, self.height] * 2)
            yield source, corners

    def check(self, where: str) -> None:
        """Raises DataError, beginning with `where`, for sizes or ratios that are none."""
        for source in self.sources:
            fault = source.shapes.fault(self.height, self.width)
            if fault:
                raise DataError(f"{where}: source '{source.name}' {fault}")
