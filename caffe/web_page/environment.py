"""Jinja environments of pages that are one file each: `base.html.j2`, which a page's template extends, and its style."""

from __future__ import annotations

import base64

import cv2
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from caffe.detection.box_drawing import Image


def environment(package: str) -> Environment:
    """Returns an environment with the templates of a package and the common ones.

    Everything that a template shows is escaped, because names of files and classes are other people's text.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("caffe.web_page")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters["thousands"] = lambda value: f"{value:,}"
    return made


def data_url(image: Image, quality: int = 85) -> str:
    """Returns a picture, H×W×3 BGR bytes, as the data URL of a JPEG."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
