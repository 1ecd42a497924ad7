"""A plot of objects, default boxes, and the share of objects that they reach."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe.default_boxes.layout import Layout
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import THRESHOLD, Reach
from caffe.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: the maximum number of objects to draw, spread evenly over the data set
_DRAWN = 8000


def draw(
    objects: Objects, layouts: Mapping[str, Layout], reaches: Mapping[str, Reach], path: str | Path
) -> None:  # fmt: skip
    """Writes a PNG: each layout's boxes and the objects by width and height; below, the share reached by size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(layouts)
    figure = plt.figure(figsize=(6 * max(count, 2), 10), layout="constrained")
    grid = figure.add_gridspec(2, count, height_ratios=(3, 2))
    chosen = np.linspace(0, len(objects) - 1, min(len(objects), _DRAWN)).astype(int)
    sides = objects.sides[chosen]
    side = max(next(iter(layouts.values())).height, next(iter(layouts.values())).width)
    low = max(1.0, 0.8 * float(min(sides.min(), *(s.shapes.sizes().min() for each in layouts.values()
                                                for s in each.sources))))  # fmt: skip
    for column, (name, layout) in enumerate(layouts.items()):
        axes = figure.add_subplot(grid[0, column])
        reached = reaches[name].matched[chosen] >= THRESHOLD
        for mask, color, what in ((reached, "#7f9fbf", "reached"), (~reached, "#d62728", "not reached")):
            axes.plot(*sides[mask].T, ".", color=color, markersize=2, alpha=0.5, label=f"objects {what}")
        for number, source in enumerate(layout.sources):
            sizes = source.shapes.sizes()
            label = f"{source.name} ({source.shapes.count} at each of {source.cells:,} cells)"
            axes.plot(*sizes.T, "s", color=f"C{number}", markeredgecolor="black", markersize=7, label=label)
        axes.set(
            xscale="log", yscale="log", xlim=(low, 1.6 * side), ylim=(low, 1.6 * side), aspect="equal",
            xlabel="width, pixels of the input", ylabel="height", title=f"{name}: {layout.count:,} default boxes",
        )  # fmt: skip
        axes.legend(fontsize="x-small", loc="lower right")
    _by_size(figure.add_subplot(grid[1, :]), objects, reaches)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def _by_size(axes: Axes, objects: Objects, reaches: Mapping[str, Reach]) -> None:
    """Plots the share of objects that are reached by size, and their number, in bins of a third of an octave."""
    first, last = np.floor(3 * np.log2(objects.size.min())), np.ceil(3 * np.log2(objects.size.max()) + 1e-9)
    edges = 2 ** (np.arange(first, max(last, first + 1) + 1) / 3)
    counts, _ = np.histogram(objects.size, edges)
    middle = np.sqrt(edges[1:] * edges[:-1])
    beside = axes.twinx()
    beside.bar(middle, counts, width=np.diff(edges), color="#dddddd", edgecolor="white", zorder=0)
    beside.set_ylabel("objects (bars)")
    axes.set_zorder(beside.get_zorder() + 1)
    axes.patch.set_visible(False)
    for name, reach in reaches.items():
        hits, _ = np.histogram(objects.size[reach.matched >= THRESHOLD], edges)
        share = np.divide(100.0 * hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        axes.plot(middle, share, "o-", label=name)
    axes.set(
        xscale="log", ylim=(-2, 102), xlabel="size: square root of the area, pixels of the input",
        ylabel=f"objects that overlap their box by {THRESHOLD}, %",
    )  # fmt: skip
    ticks = [size for size in (4, 8, 16, 32, 64, 128, 256) if edges[0] <= size <= edges[-1]]
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.legend(loc="lower right")
