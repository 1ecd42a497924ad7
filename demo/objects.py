"""Six kinds of objects, drawn with random shape, colors and texture. Each painter fills a BGR picture and its mask.

A painter takes a random generator and a side in pixels and returns (picture, mask): side × side × 3 float32 in 0 to 255
and side × side float32 in 0 to 1, the object centered and about as large as the square. Colors overlap between kinds,
as those of real objects do: a green bottle, a green car and a leaf differ in shape.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Picture = np.ndarray
Painter = Callable[[np.random.Generator, int], tuple[Picture, Picture]]


def _color(
    rng: np.random.Generator,
    hues: tuple[int, int] = (0, 180),
    saturation: tuple[int, int] = (90, 256),
    value: tuple[int, int] = (70, 235),
) -> tuple[float, float, float]:
    """A BGR color from ranges of OpenCV's 8-bit HSV (hue 0 to 179: red 0, yellow 30, green 60, blue 120)."""
    hsv = np.array([[[rng.integers(*hues), rng.integers(*saturation), rng.integers(*value)]]], np.uint8)
    b, g, r = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return float(b), float(g), float(r)


def _scaled(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    b, g, r = (min(255.0, v * factor) for v in color)
    return b, g, r


def _blank(side: int, color: tuple[float, float, float]) -> tuple[Picture, Picture]:
    return np.full((side, side, 3), color, np.float32), np.zeros((side, side), np.float32)


def _point(side: int, xy: tuple[float, float]) -> tuple[int, int]:
    """A point given as fractions of the side, in pixels."""
    x, y = xy
    return round(x * side), round(y * side)


def _outline(side: int, *xy: tuple[float, float]) -> np.ndarray:
    """A polygon for cv2: N × 2, its corners in pixels."""
    return np.array([_point(side, corner) for corner in xy], np.int32)


def ball(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """A sphere lit from one side, plain or with a band or panels."""
    picture, mask = _blank(side, _color(rng))
    second = _color(rng)
    middle = side // 2
    style = rng.integers(3)
    if style == 1:
        angle = int(rng.integers(180))
        cv2.ellipse(picture, (middle, middle), (side, round(side * 0.14)), angle, 0, 360, second, -1)
    elif style == 2:
        turn = rng.uniform(0, 2 * np.pi)
        for k in range(5):
            x, y = 0.5 + 0.3 * np.cos(turn + k * 1.2566), 0.5 + 0.3 * np.sin(turn + k * 1.2566)
            cv2.circle(picture, _point(side, (x, y)), round(side * 0.11), second, -1)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    light = rng.uniform(0, 2 * np.pi)
    shade = 1.05 - 2.6 * ((x - 0.17 * np.cos(light)) ** 2 + (y - 0.17 * np.sin(light)) ** 2)
    picture *= np.clip(shade, 0.2, 1.2)[..., None]
    glint = _point(side, (0.5 + 0.2 * np.cos(light), 0.5 + 0.2 * np.sin(light)))
    cv2.circle(picture, glint, max(1, round(side * 0.05)), (245, 245, 245), -1)
    cv2.circle(mask, (middle, middle), round(side * 0.48), 1.0, -1)
    return picture, mask


def bottle(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """Upright: body, shoulders, neck, cap and a label; green, brown or blue glass."""
    glass = _color(rng, ((8, 20), (40, 80), (95, 125))[rng.integers(3)], (110, 230), (60, 190))
    picture, mask = _blank(side, glass)
    half, neck = rng.uniform(0.15, 0.22), rng.uniform(0.05, 0.08)
    shoulder = rng.uniform(0.3, 0.42)
    right = [(0.5 + neck, 0.03), (0.5 + neck, shoulder - 0.1), (0.5 + half, shoulder), (0.5 + half, 0.97)]
    outline = _outline(side, *right, *[(1 - x, y) for x, y in reversed(right)])
    cv2.fillPoly(mask, [outline], 1.0)
    top, bottom = rng.uniform(0.5, 0.58), rng.uniform(0.72, 0.85)
    cv2.rectangle(
        picture,
        _point(side, (0, top)),
        _point(side, (1, bottom)),
        _color(rng, saturation=(10, 120), value=(170, 255)),
        -1,
    )
    line = (top + bottom) / 2
    cv2.line(picture, _point(side, (0.42, line)), _point(side, (0.58, line)), _color(rng), max(1, side // 24))
    cv2.rectangle(picture, _point(side, (0, 0)), _point(side, (1, 0.1)), _color(rng), -1)
    x = np.abs(np.arange(side, dtype=np.float32) / side - 0.5) / half
    picture *= np.clip(1.15 - 0.65 * x**2, 0.3, 1.2)[None, :, None]
    cv2.line(picture, _point(side, (0.5 - half * 0.5, shoulder)), _point(side, (0.5 - half * 0.5, 0.94)),
             _scaled(glass, 1.7), max(1, side // 40))  # fmt: skip
    return picture, mask


def car(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """From the side: body, cabin with windows, two wheels, lamps."""
    paint = _color(rng)
    picture, mask = _blank(side, paint)
    roof, front, back = rng.uniform(0.27, 0.34), rng.uniform(0.2, 0.32), rng.uniform(0.7, 0.84)
    body = _outline(side, (0.02, 0.6), (0.08, 0.5), (front, 0.48), (front + 0.12, roof), (back - 0.1, roof),
                   (back, 0.48), (0.95, 0.5), (0.98, 0.64), (0.97, 0.72), (0.03, 0.72))  # fmt: skip
    cv2.fillPoly(mask, [body], 1.0)
    glass = (rng.uniform(120, 190), rng.uniform(90, 140), rng.uniform(60, 100))
    cabin = _outline(
        side, (front + 0.05, 0.48), (front + 0.14, roof + 0.04), (back - 0.12, roof + 0.04), (back - 0.05, 0.48)
    )
    cv2.fillPoly(picture, [cabin], glass)
    post = (front + back) / 2
    cv2.line(picture, _point(side, (post, roof)), _point(side, (post, 0.7)), _scaled(paint, 0.6), max(1, side // 30))
    cv2.rectangle(picture, _point(side, (0, 0.65)), _point(side, (1, 0.73)), _scaled(paint, 0.5), -1)
    cv2.circle(picture, _point(side, (0.06, 0.57)), max(1, side // 30), (200, 245, 255), -1)
    cv2.circle(picture, _point(side, (0.95, 0.57)), max(1, side // 30), (30, 30, 220), -1)
    radius = rng.uniform(0.09, 0.12)
    for x in (0.23, 0.77):
        hub = _point(side, (x, 0.7))
        cv2.circle(picture, hub, round(side * radius), (30, 30, 30), -1)
        cv2.circle(picture, hub, round(side * radius * 0.5), (170, 170, 170), -1)
        cv2.circle(mask, hub, round(side * radius), 1.0, -1)
    if rng.random() < 0.5:  # facing the other way
        picture, mask = picture[:, ::-1].copy(), mask[:, ::-1].copy()
    return picture, mask


def crate(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """Wooden planks in a frame, with one or two braces."""
    wood = _color(rng, (6, 24), (70, 190), (110, 215))
    picture, mask = _blank(side, wood)
    height = rng.uniform(0.65, 0.94) / 2
    box = (0.03, 0.5 - height, 0.97, 0.5 + height)
    dark, light = _scaled(wood, 0.5), _scaled(wood, 1.3)
    planks = int(rng.integers(3, 6))
    for k in range(planks):
        x = box[0] + (box[2] - box[0]) * k / planks
        cv2.rectangle(picture, _point(side, (x, box[1])), _point(side, (x + 0.94 / planks, box[3])),
                      _scaled(wood, rng.uniform(0.75, 1.1)), -1)  # fmt: skip
        cv2.line(picture, _point(side, (x, box[1])), _point(side, (x, box[3])), dark, max(1, side // 40))
    thick = max(1, round(side * 0.09))
    cv2.line(picture, _point(side, (box[0], box[1])), _point(side, (box[2], box[3])), light, thick)
    if rng.random() < 0.5:
        cv2.line(picture, _point(side, (box[0], box[3])), _point(side, (box[2], box[1])), light, thick)
    cv2.rectangle(picture, _point(side, box[:2]), _point(side, box[2:]), _scaled(wood, 1.15), 2 * thick)
    cv2.rectangle(picture, _point(side, box[:2]), _point(side, box[2:]), dark, max(1, side // 40))
    cv2.rectangle(mask, _point(side, box[:2]), _point(side, box[2:]), 1.0, -1)
    return picture, mask


def leaf(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """Pointed at both ends, with veins; at any angle, green or in autumn colors."""
    green = _color(rng, (4, 30) if rng.random() < 0.25 else (32, 85), (120, 240), (70, 210))
    picture, mask = _blank(side, green)
    width = rng.uniform(0.16, 0.26)
    along = np.linspace(0.03, 0.97, 24)
    bulge = width * np.sin(np.pi * (along - 0.03) / 0.94) ** rng.uniform(0.7, 1.2)
    edge = [(x, 0.5 - w) for x, w in zip(along, bulge, strict=True)]
    cv2.fillPoly(mask, [_outline(side, *edge, *[(x, 1 - y) for x, y in reversed(edge)])], 1.0)
    vein, thin = _scaled(green, rng.choice([0.5, 1.6])), max(1, side // 50)
    cv2.line(picture, _point(side, (0, 0.5)), _point(side, (1, 0.5)), vein, max(1, side // 28))
    for x in np.arange(0.15, 0.85, 0.12):
        for to in (0.5 - width, 0.5 + width):
            cv2.line(picture, _point(side, (x, 0.5)), _point(side, (x + 0.12, to)), vein, thin)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 360), 1.0)
    return cv2.warpAffine(picture, turn, (side, side), borderMode=cv2.BORDER_REPLICATE), cv2.warpAffine(
        mask, turn, (side, side)
    )


def tyre(rng: np.random.Generator, side: int) -> tuple[Picture, Picture]:
    """A ring with treads, seen from the front or at an angle; what is behind it shows through."""
    rubber = rng.uniform(25, 90)
    picture, mask = _blank(side, (rubber, rubber, rubber * rng.uniform(0.9, 1.1)))
    slant = rng.uniform(0.6, 1.0)
    middle = (side // 2, side // 2)
    outer = rng.uniform(0.46, 0.48)
    inner = rng.uniform(0.2, 0.28)
    spokes = int(rng.integers(14, 24))
    for k in range(spokes):
        a = 2 * np.pi * k / spokes
        ends = [_point(side, (0.5 + r * slant * np.cos(a), 0.5 + r * np.sin(a))) for r in (outer, outer - 0.08)]
        cv2.line(picture, ends[0], ends[1], (rubber * 2,) * 3, max(1, side // 36))
    rim = (side * (inner + 0.05) * slant, side * (inner + 0.05))
    cv2.ellipse(
        picture,
        middle,
        (round(rim[0]), round(rim[1])),
        0,
        0,
        360,
        _color(rng, saturation=(0, 120), value=(120, 250)),
        -1,
    )
    cv2.ellipse(mask, middle, (round(side * outer * slant), round(side * outer)), 0, 0, 360, 1.0, -1)
    cv2.ellipse(mask, middle, (round(side * inner * slant), round(side * inner)), 0, 0, 360, 0.0, -1)
    return picture, mask


PAINTERS: dict[str, Painter] = {
    "ball": ball,
    "bottle": bottle,
    "car": car,
    "crate": crate,
    "leaf": leaf,
    "tyre": tyre,
}
