"""Sheets of images for looking at detections: two models side by side, false detections, missed objects, best and worst.

A sheet is one image, H×1600×3, uint8, BGR. Its text stays readable when a page shows it at half that width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from caffe.detection.box_drawing import Color, Image, class_color
from caffe.detection.cases import SHOWN, Corners, FalseDetection, ImageScore, MissedObject, Shown, shown_detections
from caffe.detection.image_folder import Images
from caffe.detection.voc import Detections, GroundTruth
from caffe.errors import shown

WIDTH = 1600
_COLUMNS = 3
_GAP = 16
_LINE = 3
#: height of text and of its line, in pixels
_TEXT, _TEXT_LINE = 24, 32
#: images are at most this much taller than wide; taller ones are made smaller
_TALLEST = 1.0
_PAPER: Color = (255, 255, 255)
_INK: Color = (47, 41, 36)
#: of objects, correct detections, false ones and missed objects
GREEN: Color = (60, 160, 40)
BLUE: Color = (200, 110, 30)
RED: Color = (50, 40, 215)
ORANGE: Color = (0, 130, 240)
_STATE_COLORS = {"true": BLUE, "false": RED, "difficult": (140, 140, 140)}


@dataclass(frozen=True)
class _Mark:
    """A box to draw on a tile, in pixels of the image."""

    box: Corners
    color: Color
    text: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class _Tile:
    """An image, or the part of it between corners, with boxes and lines of text below."""

    image: Image
    marks: Sequence[_Mark]
    captions: Sequence[str] = ()
    part: Corners | None = None


@dataclass(frozen=True)
class _Ink:
    """A text at its top left corner, on a patch (xmin, ymin, xmax, ymax) with a color of its own if there is one."""

    at: tuple[int, int]
    text: str
    color: Color = _INK
    patch: tuple[int, int, int, int] | None = None
    ground: Color = _PAPER


# ---- the sheets


def side_by_side(
    images: Images, names: Sequence[str], truth: GroundTruth, models: Mapping[str, Mapping[str, Detections]], *,
    score: float = SHOWN,
) -> Image:  # fmt: skip
    """Draws the objects and each model's detections with a score of `score` or more, one image per row.

    One color per class (MDSSD, Figures 7 and 8). Detections that are false have dashed boxes. Raises DataError for
    images that cannot be read.
    """
    labels = {
        name: place for place, name in enumerate(sorted({*truth.classes, *(c for m in models.values() for c in m)}))
    }
    found = {model: shown_detections(truth, classes, names, score) for model, classes in models.items()}
    tiles: list[_Tile] = []
    for name in names:
        image = images.read(name)
        objects = [
            _Mark(_box(box), class_color(labels[c]), c, dashed=bool(difficult))
            for c, by_image in truth.objects.items()
            if name in by_image
            for box, difficult in zip(by_image[name].boxes, by_image[name].difficult, strict=True)
        ]
        tiles.append(_Tile(image, objects, [name]))
        for model in models:
            marks = [_detection(d, class_color(labels[d.name])) for d in found[model][name]]
            tiles.append(_Tile(image, marks, [_counts(found[model][name])]))
    heads = ["objects (difficult ones dashed)", *models]
    return _compose(tiles, len(models) + 1, heads)


def false_sheet(images: Images, false: Sequence[FalseDetection]) -> Image:
    """Draws false detections (red) with the nearest object (green) and their kind (MDSSD, Figure 9)."""
    tiles = []
    for number, case in enumerate(false, 1):
        image = images.read(case.image)
        marks = [_Mark(case.box, RED, f"{case.name} {case.score:.2f}")]
        near = case.nearest
        about = "no object in this image"
        if near is not None:
            hard = ", difficult" if near.difficult else ""
            marks.insert(0, _Mark(near.box, GREEN, near.name, dashed=near.difficult))
            about = f"nearest: {near.name}{hard}, IoU {near.overlap:.2f}"
        kind = f"{case.kind}, duplicate" if case.duplicate else case.kind
        part = _around([case.box, *([near.box] if near is not None and near.overlap > 0 else [])], image)
        tiles.append(_Tile(image, marks, [f"{number}. {case.name} {case.score:.2f}: {kind}", about, case.image], part))
    return _compose(tiles, _COLUMNS)


def missed_sheet(images: Images, missed: Sequence[MissedObject]) -> Image:
    """Draws missed objects (orange) with the nearest detection (red) and how often such objects are found (Figure 10)."""
    tiles = []
    for number, case in enumerate(missed, 1):
        image = images.read(case.image)
        marks = [_Mark(case.box, ORANGE, case.name)]
        near = case.nearest
        about = "no detection meets it"
        if near is not None:
            marks.insert(0, _Mark(near.box, RED, f"{near.name} {near.score:.2f}", dashed=True))
            about = f"nearest: {near.name} {near.score:.2f}, IoU {near.overlap:.2f}"
        captions = [f"{number}. {case.name}: {100 * case.chance:.0f} % of such are found", about, case.image]
        tiles.append(_Tile(image, marks, captions, _around([case.box], image)))
    return _compose(tiles, _COLUMNS)


def image_sheet(
    images: Images, scores: Sequence[ImageScore], truth: GroundTruth, found: Mapping[str, Detections], *,
    score: float = SHOWN,
) -> Image:  # fmt: skip
    """Draws images with their own AP: objects (green), correct detections (blue) and false ones (red)."""
    detections = shown_detections(truth, found, [s.image for s in scores], score)
    tiles = []
    for number, case in enumerate(scores, 1):
        objects = [
            _Mark(_box(box), GREEN, "" if difficult else name, dashed=bool(difficult))
            for name, by_image in truth.objects.items()
            if case.image in by_image
            for box, difficult in zip(by_image[case.image].boxes, by_image[case.image].difficult, strict=True)
        ]
        marks = [*objects, *(_detection(d, _STATE_COLORS[d.state], dashed=False) for d in detections[case.image])]
        noun = "object" if case.objects == 1 else "objects"
        captions = [
            f"{number}. AP {100 * case.average_precision:.0f} %",
            f"{case.objects} {noun}, {case.found} found, {case.false} false",
            case.image,
        ]
        tiles.append(_Tile(images.read(case.image), marks, captions))
    return _compose(tiles, _COLUMNS)


def _detection(detection: Shown, color: Color, dashed: bool | None = None) -> _Mark:
    dashed = detection.state == "false" if dashed is None else dashed
    return _Mark(detection.box, color, f"{detection.name} {detection.score:.2f}", dashed)


def _counts(detections: Sequence[Shown]) -> str:
    true, false = (sum(d.state == state for d in detections) for state in ("true", "false"))
    return f"{true} correct, {false} false"


def _box(corners: Any) -> Corners:
    xmin, ymin, xmax, ymax = map(float, corners)
    return xmin, ymin, xmax, ymax


def _around(boxes: Sequence[Corners], image: Image) -> Corners:
    """Returns the part of an image that shows boxes with their surroundings: at least a third of its shorter side."""
    height, width = image.shape[:2]
    xmin, ymin = (min(min(b[i] for b in boxes), (width, height)[i] - 1) for i in (0, 1))
    xmax, ymax = (max(max(b[i] for b in boxes), 0) for i in (2, 3))
    side = max(1.8 * (xmax - xmin), 1.8 * 4 / 3 * (ymax - ymin), min(height, width) / 3 * 4 / 3)
    wide, high = min(side, width), min(side * 3 / 4, height)
    left = min(max((xmin + xmax - wide) / 2, 0), width - wide)
    top = min(max((ymin + ymax - high) / 2, 0), height - high)
    return left, top, left + wide, top + high


# ---- drawing


def _compose(tiles: Sequence[_Tile], columns: int, heads: Sequence[str] = ()) -> Image:
    """Lays tiles out in rows, with a head above each column."""
    width = (WIDTH - (columns + 1) * _GAP) // columns
    drawn = [_draw(tile, width) for tile in tiles]
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    head = _TEXT_LINE + _GAP if heads else 0
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    sheet = np.full((head + sum(heights) + _GAP * (len(rows) + 1), WIDTH, 3), _PAPER, np.uint8)
    if heads:
        texts = [((_GAP + column * (width + _GAP), _GAP), text) for column, text in enumerate(heads)]
        sheet = _write(sheet, [_Ink(at, _fitted(text, width)) for at, text in texts])
    top = head + _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = _GAP + column * (width + _GAP)
            sheet[top : top + tile.shape[0], left : left + width] = tile
        top += height + _GAP
    return sheet


def _draw(tile: _Tile, width: int) -> Image:
    """Draws a tile at a width; its height depends on the image and the captions."""
    height, full = tile.image.shape[:2]
    left, top, right, bottom = tile.part or (0.0, 0.0, float(full), float(height))
    x0, y0 = int(left), int(top)
    crop = tile.image[y0 : max(int(np.ceil(bottom)), y0 + 1), x0 : max(int(np.ceil(right)), x0 + 1)]
    scale = min(width / crop.shape[1], width * _TALLEST / crop.shape[0])
    size = (max(round(crop.shape[1] * scale), 1), max(round(crop.shape[0] * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = np.full((size[1], width, 3), 245, np.uint8)
    inset = (width - size[0]) // 2
    picture[:, inset : inset + size[0]] = cv2.resize(np.ascontiguousarray(crop), size, interpolation=method)
    canvas = picture[:, inset : inset + size[0]].copy()
    texts: list[tuple[tuple[int, int, int, int], str, Color]] = []
    for mark in tile.marks:
        corners = [(value - (x0, y0)[i % 2]) * scale for i, value in enumerate(mark.box)]
        # the border of the box is drawn inside the picture, even if the box reaches beyond it
        limits = (size[0] - 1, size[1] - 1)
        xmin, ymin, xmax, ymax = (round(min(max(v, 0), limits[i % 2])) for i, v in enumerate(corners))
        _rectangle(canvas, (xmin, ymin, xmax, ymax), mark.color, mark.dashed)
        if mark.text:
            texts.append(((xmin, ymin, xmax, ymax), _fitted(mark.text, size[0]), mark.color))
    canvas = _tags(canvas, texts)
    picture[:, inset : inset + size[0]] = canvas
    below = np.full((_TEXT_LINE * len(tile.captions) + 4, width, 3), _PAPER, np.uint8)
    lines = [_Ink((0, 4 + i * _TEXT_LINE), _fitted(text, width)) for i, text in enumerate(tile.captions)]
    return np.concatenate([picture, _write(below, lines)])


def _rectangle(canvas: Image, corners: tuple[int, int, int, int], color: Color, dashed: bool) -> None:
    xmin, ymin, xmax, ymax = corners
    if not dashed:
        cv2.rectangle(canvas, (xmin, ymin), (xmax, ymax), color, _LINE)
        return
    step = 12
    for x in range(xmin, xmax + 1, 2 * step):
        for y in (ymin, ymax):
            cv2.line(canvas, (x, y), (min(x + step, xmax), y), color, _LINE)
    for y in range(ymin, ymax + 1, 2 * step):
        for x in (xmin, xmax):
            cv2.line(canvas, (x, y), (x, min(y + step, ymax)), color, _LINE)


def _tags(canvas: Image, texts: Sequence[tuple[tuple[int, int, int, int], str, Color]]) -> Image:
    """Writes the text of each box, given by its corners, on a patch of its color.

    It is above the box, at its top if the box is large, or below it, where no other text is; the next lines above and
    below are tried too. A small box is not covered.
    """
    height, width = canvas.shape[:2]
    size, line = _TEXT - 4, _TEXT - 1
    taken: list[tuple[int, int, int]] = []
    inks: list[_Ink] = []
    for (xmin, ymin, _, ymax), text, color in texts:
        wide = int(_font(size).getlength(text)) + 6
        left = max(0, min(xmin, width - wide))
        inside = [ymin, ymin + line] if ymax - ymin > 4 * line else []
        beside = [y for step in range(3) for y in (ymin - line * (step + 1), ymax + 2 + line * step)]
        places = [y for y in [beside[0], *inside, *beside[1:]] if 0 <= y <= height - line]

        def free(y: int, left: int = left, right: int = left + wide) -> bool:
            return not any(left < end and x < right and abs(y - top) < line for x, top, end in taken)

        top = next(filter(free, places), places[0] if places else max(min(ymin, height - line), 0))
        taken.append((left, top, left + wide))
        dark = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2] < 140
        ink = (255, 255, 255) if dark else (0, 0, 0)
        inks.append(_Ink((left + 3, top), text, ink, (left, top, left + wide, top + line), color))
    return _write(canvas, inks, size)


def _write(canvas: Image, inks: Sequence[_Ink], size: int = _TEXT) -> Image:
    """Returns the canvas with texts, the last one on top. Any script that the font has."""
    if not inks:
        return canvas
    picture = Picture.fromarray(np.ascontiguousarray(canvas[:, :, ::-1]))
    draw = ImageDraw.Draw(picture)
    for ink in inks:
        if ink.patch is not None:
            draw.rectangle(ink.patch, fill=ink.ground[::-1])
        draw.text(ink.at, ink.text, fill=ink.color[::-1], font=_font(size))
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which is always there."""
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _fitted(text: str, width: int) -> str:
    """A text that fits into a width, cut at its end."""
    text = shown(text, 200)
    if _font(_TEXT).getlength(text) <= width:
        return text
    while text and _font(_TEXT).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
