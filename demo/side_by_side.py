"""Combines pictures with the detections of several models: one row per model, for the scenes with most small objects."""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

#: objects count as small if their longer side is less than this, in pixels
SMALL = 24
#: heights of a picture and of a row's title, in pixels
HEIGHT, TITLE = 300, 30


def small_objects(annotation: Path) -> int:
    """Returns the number of objects in a VOC annotation that are small and not difficult."""
    count = 0
    for found in ElementTree.parse(annotation).getroot().iter("object"):
        box = found.find("bndbox")
        assert box is not None  # demo/scenes.py writes one for each object
        xmin, ymin, xmax, ymax = (int(box.findtext(side, "0")) for side in ("xmin", "ymin", "xmax", "ymax"))
        difficult = found.findtext("difficult") == "1"
        count += not difficult and max(xmax - xmin, ymax - ymin) + 1 < SMALL
    return count


def read(path: Path) -> np.ndarray:
    """Returns a picture (H×W×3, BGR, uint8)."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"side_by_side: cannot read {path}")
    return picture


def row(title: str, pictures: list[Path], widths: list[int]) -> np.ndarray:
    """Returns the pictures side by side below a title."""
    cells = []
    for path, width in zip(pictures, widths, strict=True):
        cells.append(cv2.resize(read(path), (width, HEIGHT), interpolation=cv2.INTER_AREA))
    joined = np.hstack(cells)
    band = np.full((TITLE, joined.shape[1], 3), 255, np.uint8)
    cv2.putText(band, title, (8, TITLE - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([band, joined])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python demo/side_by_side.py --output both.jpg --annotations demo_run/data/scenes/Annotations "
        "SSD300 demo_run/ssd300/pictures MDSSD300 demo_run/pictures",
    )
    parser.add_argument(
        "models", nargs="+", metavar="TITLE FOLDER", help="for each model, a title and the directory of its pictures"
    )
    parser.add_argument("--annotations", type=Path, required=True, help="directory of the scenes' VOC annotations")
    parser.add_argument("--count", type=int, default=4, help="scenes to show (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="image file to write")
    options = parser.parse_args()
    if len(options.models) % 2:
        parser.error("each model needs a title and a directory")
    models = [(title, Path(folder)) for title, folder in zip(options.models[::2], options.models[1::2], strict=True)]

    first = models[0][1]
    names = sorted(path.name for path in first.glob("*.png"))
    if not names:
        parser.error(f"{first} has no pictures")
    by_small = sorted(names, key=lambda name: -small_objects(options.annotations / f"{Path(name).stem}.xml"))
    chosen = sorted(by_small[: options.count])
    widths = []
    for name in chosen:
        height, width = read(first / name).shape[:2]
        widths.append(round(width * HEIGHT / height))
    sheet = np.vstack([row(title, [folder / name for name in chosen], widths) for title, folder in models])
    if not cv2.imwrite(str(options.output), sheet, [cv2.IMWRITE_JPEG_QUALITY, 90]):
        raise SystemExit(f"side_by_side: cannot write {options.output}")
    print(f"wrote {options.output}: {', '.join(chosen)}")


if __name__ == "__main__":
    main()
