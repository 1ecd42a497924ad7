"""The findings as an HTML page of its own, pictures included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caffe.data.images import Image
from caffe.dataset_check.findings import KINDS, TINY, Findings
from caffe.dataset_check.statistics import per_image_names
from caffe.web_page.environment import data_url, environment

#: how many entries of a kind the page lists
_LISTED = 100


def page(
    findings: Findings, numbers: dict[str, Any], albums: Mapping[str, Sequence[tuple[str, Image, Image | None]]]
) -> str:
    """Returns the page. `albums`: by set, the name, picture and augmented picture (or None) of some images."""
    return (
        environment("caffe.dataset_check")
        .get_template("check.html.j2")
        .render(
            title=", ".join(each.name for each in findings.sets),
            numbers=numbers,
            layout=findings.layout,
            findings=[(KINDS[name], entries) for name, entries in findings.entries.items()],
            listed=_LISTED,
            tiny=TINY,
            groups=per_image_names(),
            albums={
                name: [
                    {"name": each, "before": data_url(before), "after": "" if after is None else data_url(after)}
                    for each, before, after in album
                ]
                for name, album in albums.items()
            },
        )
    )
