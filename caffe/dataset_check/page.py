"""The findings as an HTML page of its own, pictures included."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
from jinja2 import Environment, PackageLoader, StrictUndefined

from caffe.data.images import Image
from caffe.dataset_check.findings import KINDS, TINY, Findings
from caffe.dataset_check.statistics import per_image_names

#: how many entries of a kind the page lists
_LISTED = 100


def page(
    findings: Findings, numbers: dict[str, Any], albums: Mapping[str, Sequence[tuple[str, Image, Image | None]]]
) -> str:
    """Returns the page. `albums`: by set, the name, picture and augmented picture (or None) of some images."""
    # names of files and classes are other people's text, so everything is escaped
    environment = Environment(
        loader=PackageLoader("caffe.dataset_check"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("check.html.j2").render(
        title=", ".join(each.name for each in findings.sets),
        numbers=numbers,
        layout=findings.layout,
        findings=[(KINDS[name], entries) for name, entries in findings.entries.items()],
        listed=_LISTED,
        tiny=TINY,
        groups=per_image_names(),
        albums={
            name: [
                {"name": each, "before": _embedded(before), "after": _embedded(after)} for each, before, after in album
            ]
            for name, album in albums.items()
        },
    )


def _embedded(image: Image | None) -> str:
    """A picture as a data URL; empty for None."""
    if image is None:
        return ""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
