"""The findings as text and as JSON."""

from __future__ import annotations

from typing import Any

from caffe.dataset_check.findings import KINDS, Findings
from caffe.dataset_check.statistics import per_image_names
from caffe.detection.report import table
from caffe.errors import counted, shown

#: how many entries of a kind the text names
NAMED = 5


def text(findings: Findings, numbers: dict[str, Any], *, short: bool = False) -> str:
    """Returns the findings with some of their places, and unless `short` the tables of classes and images."""
    lines = [
        f"{name}: {counted(values['images'], 'image')}, {counted(values['objects'], 'object')}"
        for name, values in numbers["sets"].items()
    ]
    lines.append("")
    for kind in KINDS.values():
        entries = findings.of(kind.name)
        if not entries:
            continue
        lines.append(f"{'FAULT' if kind.serious else 'note '}  {kind.what} ({len(entries):,}): {kind.remedy}")
        if not short:
            lines += [f"         {shown(str(entry), 200)}" for entry in entries[:NAMED]]
            if len(entries) > NAMED:
                lines.append(f"         … and {len(entries) - NAMED:,} more")
    if not findings.entries:
        lines.append("No problems were found.")
    result = "\n".join(lines) + "\n"
    return result if short else "\n".join((result, class_table(findings, numbers), per_image_table(numbers)))


def class_table(findings: Findings, numbers: dict[str, Any]) -> str:
    """Returns a table with a row per class: objects in each set, sides, aspect ratio and size at the input."""
    sets = [each.name for each in findings.sets]
    heading = ["class", *sets, "images", "width", "height", "ratio (median)"]
    if findings.layout is not None:
        heading += ["size at the input", "under 8, 16, 32"]
    rows = []
    for name, values in numbers["classes"].items():
        row = [
            shown(name, 30),
            *(f"{values['objects'][each]:,}" for each in sets),
            f"{sum(values['images'].values()):,}",
        ]
        row += [_range(values["width"]), _range(values["height"]), _median(values["aspect ratio"])]
        if findings.layout is not None:
            row += [_range(values["size at the input"]), ", ".join(f"{count:,}" for count in values["under"].values())]
        rows.append(row)
    return table(heading, rows)


def per_image_table(numbers: dict[str, Any]) -> str:
    """Returns a table of how many images have how many objects."""
    rows = [
        [name, *(f"{values['objects per image'][group]:,}" for group in per_image_names())]
        for name, values in numbers["sets"].items()
    ]
    return table(["images by their objects", *per_image_names()], rows)


def _range(quartiles: list[float] | None) -> str:
    return "-" if quartiles is None else f"{quartiles[0]:.0f} to {quartiles[4]:.0f}, median {quartiles[2]:.0f}"


def _median(quartiles: list[float] | None) -> str:
    return "-" if quartiles is None else f"{quartiles[2]:.2f}"


def values(findings: Findings, numbers: dict[str, Any]) -> dict[str, Any]:
    """Returns everything for JSON: the numbers, and every entry of every kind."""
    layout = findings.layout
    return {
        "input": None
        if layout is None
        else {"network": layout.network, "height": layout.height, "width": layout.width},
        **numbers,
        "findings": {
            name: {
                "what": KINDS[name].what,
                "remedy": KINDS[name].remedy,
                "serious": KINDS[name].serious,
                "count": len(entries),
                "entries": [
                    {"set": e.where, "image": e.image, "object": e.object, "detail": e.detail} for e in entries
                ],
            }
            for name, entries in findings.entries.items()
        },
    }
