"""Which images the words of a command line stand for, and other words of detection commands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from caffe.data.label_map import LabelMap
from caffe.errors import CaffeError, DataError
from caffe.files import decoded

#: what OpenCV decodes
IMAGE_ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".gif",
        ".avif",
        ".sr",
        ".ras",
    ]
)
VIDEO_ENDINGS = frozenset([".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mjpeg"])


def find_images(paths: Sequence[str | Path], endings: Collection[str] = IMAGE_ENDINGS) -> list[Path]:
    """The images that paths stand for: an image itself, those in a folder (by name), or those that a text list names.

    An image is a file with one of `endings`; a list may have others. The names in a list are
    relative to the current directory, one per line. Raises DataError if there are none.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in endings)
            if not inside:
                raise DataError(f"no image in directory '{path}' (with extension {' '.join(sorted(endings))})")
            images += inside
        elif path.suffix.lower() in endings:
            images.append(path)
        else:
            images += _listed(path)
    return images


def _listed(path: Path) -> list[Path]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    try:
        names = [line.strip() for line in decoded(data).splitlines() if line.strip()]
    except UnicodeDecodeError:
        return [path]  # an image under an unusual name
    if "\0" in "".join(names[:1]):
        return [path]
    if not names:
        raise DataError(f"list '{path}' is empty")
    return [Path(name) for name in names]


def channel_means(text: str) -> list[float]:
    """`mean_value` as ssd_detect takes it: numbers separated by commas. Raises CaffeError for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CaffeError(
            f"mean_value '{text}': give numbers separated by ',', such as 104,117,123 (blue, green, red)"
        ) from None


def class_thresholds(text: str, label_map: LabelMap | None) -> dict[int, float]:
    """Thresholds by label, from `person=0.5,3=0.25`: a class's name (or display name) in the label map, or its label.

    Raises CaffeError for a class that the map does not have, and for anything else.
    """
    names = {} if label_map is None else {i.display_name: i.label for i in label_map.items}
    names |= {} if label_map is None else {i.name: i.label for i in label_map.items}
    thresholds: dict[int, float] = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        name = name.strip()
        label = names.get(name, int(name) if name.isdecimal() else None)
        if label is None or (label_map is not None and label not in label_map):
            known = f"label map '{label_map.where}' has {', '.join(label_map.names)}" if label_map else "give its label"
            raise CaffeError(f"class_thresholds '{part}': '{name}' is not a class; {known}")
        try:
            thresholds[label] = float(value)
        except ValueError:
            raise CaffeError(
                f"class_thresholds '{part}': '{value}' is not a number; give CLASS=SCORE, as in cat=0.5"
            ) from None
    return thresholds


def camera_number(text: str) -> int:
    """The number of a camera. Raises CaffeError for anything else."""
    if not text.isdecimal():
        raise CaffeError(f"'{text}' is not the number of a camera; the first is 0")
    return int(text)
