"""Made ground truth and detections for the tests of scores and errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe.detection import hoiem, voc

Box = tuple[float, float, float, float]


def truth_of(*objects: tuple[str, str, Box, bool], images: tuple[str, ...] = ()) -> voc.GroundTruth:
    """Ground truth from (image, class, box, difficult). images: additional images, without objects."""
    table: dict[str, dict[str, list[tuple[Box, bool]]]] = {}
    for image, name, box, difficult in objects:
        table.setdefault(name, {}).setdefault(image, []).append((box, difficult))
    names = dict.fromkeys([*images, *(image for image, *_ in objects)])
    return voc.GroundTruth(
        tuple(names),
        {
            name: {
                image: voc.Objects(np.array([b for b, _ in found], np.float64), np.array([d for _, d in found]))
                for image, found in by_image.items()
            }
            for name, by_image in table.items()
        },
    )


def detections_of(*rows: tuple[str, float, Box]) -> voc.Detections:
    return voc.Detections(
        tuple(image for image, _, _ in rows),
        np.array([s for _, s, _ in rows], np.float64),
        np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
    )


def square(x: float, y: float = 1, side: float = 10) -> Box:
    return (x, y, x + side - 1, y + side - 1)


def made(
    seed: int, images: int = 20, names: tuple[str, ...] = ("cat", "dog", "tree"), *, ties: bool = False
) -> tuple[voc.GroundTruth, dict[str, voc.Detections]]:
    """Crowded images with difficult objects, and detections with every kind of error. ties: scores with one decimal."""
    rng = np.random.default_rng(seed)
    objects: list[tuple[str, str, Box, bool]] = []
    rows: dict[str, list[tuple[str, float, Box]]] = {name: [] for name in names}

    def score() -> float:
        value = float(rng.random())
        return round(value, 1) if ties else value

    for image in map(str, range(images)):
        for _ in range(int(rng.integers(0, 6))):
            name = names[rng.integers(len(names))]
            corner, sides = rng.integers(1, 60, 2), rng.integers(5, 40, 2)
            box = np.concatenate([corner, corner + sides - 1])
            objects.append((image, name, tuple(box.tolist()), bool(rng.random() < 0.15)))
            for _ in range(int(rng.integers(0, 4))):
                other = name if rng.random() < 0.7 else names[rng.integers(len(names))]
                moved = box + rng.integers(-4, 5, 4)
                moved[2:] = np.maximum(moved[2:], moved[:2])
                rows[other].append((image, score(), tuple(moved.tolist())))
        for _ in range(int(rng.integers(0, 3))):
            corner, sides = rng.integers(1, 80, 2), rng.integers(5, 40, 2)
            rows[names[rng.integers(len(names))]].append(
                (image, score(), (*corner.tolist(), *(corner + sides).tolist()))
            )
    truth = truth_of(*objects, images=tuple(map(str, range(images))))
    return truth, {name: detections_of(*found) for name, found in rows.items()}


def diagnose(truth: voc.GroundTruth, *rows: tuple[str, float, Box], name: str = "cat", **options: Any) -> Any:
    """Hoiem's analysis of the detections of one class."""
    return hoiem.diagnose(truth, {name: detections_of(*rows)}, least_objects=1, **options)[name]


def kinds(result: Any) -> list[str]:
    """What each detection is wrong in: loc, sim, oth or bg; - if it is not wrong."""
    masks = {kind: result.false_positives.kind(kind) for kind in ("loc", "sim", "oth", "bg")}
    return ["".join(k for k, mask in masks.items() if mask[i]) or "-" for i in range(len(masks["loc"]))]
