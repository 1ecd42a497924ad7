"""The result of a soak run: a table by quarters of its time, and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.soak.run import Life, Sample, Soak


def steady(samples: Sequence[Sample], ranks: int, workers: int, lives: Sequence[Life]) -> list[Sample]:
    """The samples of lives of one kind, without their first ten seconds: what start-up takes is not what leaks."""
    chosen = {life.number for life in lives if (life.ranks, life.workers) == (ranks, workers)}
    start: dict[int, float] = {}
    for sample in samples:
        start.setdefault(sample.life, sample.seconds)
    return [s for s in samples if s.life in chosen and s.seconds - start[s.life] > 10]


def table(soak: Soak) -> str:
    """Medians of memory, descriptors and processes, by kind of life and quarter of the run, as Markdown."""
    lines = [
        "| ranks, workers | quarter | samples | processes | memory, MB | descriptors | /dev/shm, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    end = max((sample.seconds for sample in soak.samples), default=0.0)
    for ranks, workers in sorted({(life.ranks, life.workers) for life in soak.lives}):
        own = steady(soak.samples, ranks, workers, soak.lives)
        for quarter in range(4):
            part = [s for s in own if quarter * end / 4 <= s.seconds < (quarter + 1) * end / 4 + (quarter == 3)]
            if part:
                lines.append(
                    f"| {ranks}, {workers} | {quarter + 1} | {len(part)} | {median(s.processes for s in part):g} "
                    f"| {median(s.megabytes for s in part):.0f} | {median(s.descriptors for s in part):g} "
                    f"| {median(s.shared_megabytes for s in part):.1f} |"
                )
    return "\n".join(lines) + "\n"


def summary(soak: Soak) -> str:
    """What happened, in a few lines."""
    events = Counter(life.event for life in soak.lives)
    done = sum(max(0, life.last - life.first) for life in soak.lives)
    lines = [
        f"{len(soak.lives)} lives: " + ", ".join(f"{count} × {event}" for event, count in sorted(events.items())),
        f"{done:,} iterations computed, the newest snapshot is of iteration {(soak.newest() or (0,))[0]:,}",
        f"{sum(life.orphans for life in soak.lives)} processes left behind, {len(soak.problems)} problems",
    ]
    return "\n".join([*lines, *soak.problems]) + "\n"


def plot(soak: Soak, path: Path) -> None:
    """Memory, descriptors, processes and shared memory over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.seconds / 60 for sample in soak.samples]
    panels = [
        ("memory of all processes, MB", [s.megabytes for s in soak.samples]),
        ("descriptors", [s.descriptors for s in soak.samples]),
        ("processes", [s.processes for s in soak.samples]),
        ("/dev/shm, MB", [s.shared_megabytes for s in soak.samples]),
        ("iteration", [s.iteration for s in soak.samples]),
    ]
    figure, axes = pyplot.subplots(len(panels), sharex=True, figsize=(9, 9), layout="constrained")
    for axis, (name, values) in zip(axes, panels, strict=True):
        axis.plot(minutes, values, ".", markersize=2)
        axis.set_ylabel(name, fontsize=8)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
