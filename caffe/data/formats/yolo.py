"""YOLO's text files: one per image, a line `class cx cy width height` per object, in shares of the image's sides.

The lines of segments and turned boxes, `class x1 y1 x2 y2 …`, count with the upright box around the points. Class
names are in another file, of which there are many kinds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from caffe.data.formats.dataset import Parsed, box_of, number, text_of_people
from caffe.data.formats.folder import Folder
from caffe.errors import DataError, shown

TITLE = "YOLO text"
#: files with one class name per line
_NAME_FILES = frozenset(("classes.txt", "_darknet.labels", "obj.names", "predefined_classes.txt"))
#: text files that are not about an image, whatever images are called
NOT_LABELS = _NAME_FILES | {"readme.txt", "requirements.txt", "license.txt"}
#: of a mapping of numbers to names; a number over this is something else
_MOST_CLASSES = 100_000
#: how far beyond its image a rounded coordinate may be
_ROUNDING = 0.01
#: a data.yaml of a thousand classes has 30 kB; larger files are something else
_MAX_YAML = 1 << 20
#: every value stays the text that it is: a class called `no` is not False. libyaml's where PyYAML has it, ten times as
#: fast
_YAML_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def is_labels(data: bytes) -> bool:
    """Whether a text file's first line is of numbers, as many as a label has. An empty file is an image without objects."""
    words = _first_line(data).split()
    return not words or (len(words) >= 5 and all(number(word) is not None for word in words))


def why_not(data: bytes) -> str:
    """What is wrong with a text file beside an image that is not `is_labels`."""
    return f"line 1: expected 'class cx cy width height', five numbers, found '{shown(_first_line(data), 60)}'"


def _first_line(data: bytes) -> str:
    return text_of_people(data[:4096]).strip().partition("\n")[0].strip()


def parse(data: bytes, names: list[str], where: str, *, keypoints: bool = False) -> Parsed:
    """The objects of a file that `is_labels`. `names` are from the file `where`; without any, classes have numbers."""
    result = Parsed(relative=True)
    for line, text in enumerate(text_of_people(data).splitlines(), 1):
        words = text.split()
        if not words:
            continue
        values = [number(word) for word in words]
        given = [value for value in values if value is not None]
        if len(given) < len(words) or len(words) < 5 or (len(words) > 6 and len(words) % 2 == 0 and not keypoints):
            result.faults.append(f"line {line}: expected 'class cx cy width height', found '{shown(text)}'")
            continue
        index, coordinates = given[0], given[1:]
        if index != int(index) or index < 0 or (names and (index >= len(names) or not names[int(index)])):
            known = f"; {where} names the classes {_numbers(names)}" if names else ""
            result.faults.append(f"line {line}: there is no class {shown(words[0])}{known}")
            continue
        if len(words) == 6 and not keypoints:
            result.notes["lines with a score behind the box, which is not used"] += 1
        outline = len(words) > 6 and not keypoints
        used = coordinates if outline else coordinates[:4]
        beyond = [value for value in used if not -_ROUNDING <= value <= 1 + _ROUNDING]
        if beyond:
            result.faults.append(
                f"line {line}: {beyond[0]:g} is not between 0 and 1; coordinates are shares of the image's sides. Text "
                "with pixels, 'label xmin ymin xmax ymax', is for convert_annoset -label_type=txt"
            )
            continue
        if outline:
            corners = box_of(zip(used[::2], used[1::2], strict=True))
        else:
            cx, cy, width, height = used
            corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
        name = names[int(index)] if names else f"class_{int(index)}"
        result.add(f"line {line}", name, corners)
    return result


def find_names(folder: Folder) -> tuple[list[str], str, bool]:
    """Class names in the order of their numbers, the file that has them, and whether labels have keypoints.

    Of several files, the one nearest to the folder's root counts. Raises DataError for one that cannot be read.
    """
    files = [path for paths in folder.files.values() for path in paths]
    files.sort(key=lambda path: (len(path.parts), path.suffix.lower() not in (".yaml", ".yml"), str(path)))
    for path in files:
        names: list[str] = []
        keypoints = False
        if path.suffix.lower() in (".yaml", ".yml"):
            document = _yaml(path, folder)
            names, keypoints = _listed(document.get("names"), path, folder), isinstance(document.get("kpt_shape"), list)
        elif path.name.lower() in _NAME_FILES or path.suffix.lower() == ".names":
            names = read_names(path)
        elif path.name == "notes.json":  # Label Studio's
            names = _label_studio(path)
        if names:
            return names, folder.shown(path), keypoints
    return [], "", False


def read_names(path: Path) -> list[str]:
    """The lines of a file with one class name per line."""
    try:
        text = text_of_people(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    return [line.strip() for line in text.strip().splitlines()]


def _numbers(names: list[str]) -> str:
    gaps = [str(index) for index, name in enumerate(names) if not name]
    return f"0 to {len(names) - 1}" + (
        f" without {', '.join(gaps[:10])}{', …' if len(gaps) > 10 else ''}" if gaps else ""
    )


def _yaml(path: Path, folder: Folder) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_YAML:
            return {}
        document = yaml.load(text_of_people(path.read_bytes()), _YAML_LOADER)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        first = str(error).replace("\n", " ")
        raise DataError(f"'{folder.shown(path)}' is not YAML: {shown(first, 160)}") from None
    return document if isinstance(document, dict) else {}


def _listed(names: object, path: Path, folder: Folder) -> list[str]:
    """`names` of a data.yaml: a list, or a mapping of numbers to names."""
    if isinstance(names, dict | list):
        for name in names.values() if isinstance(names, dict) else names:
            # a short file can refer to the same list again and again, which as text has no end
            if not isinstance(name, str):
                raise DataError(f"'{folder.shown(path)}': 'names' has something that is not a name")
    if isinstance(names, dict):
        by_number = {number(key): str(name) for key, name in names.items()}
        if len(by_number) < len(names) or any(
            key is None or key != int(key) or not 0 <= key < _MOST_CLASSES for key in by_number
        ):
            raise DataError(
                f"'{folder.shown(path)}': the keys of 'names' are not different whole numbers from 0 on: "
                f"{shown(str([*names]))}"
            )
        return [by_number.get(index, "") for index in range(int(max(key or 0 for key in by_number)) + 1)]
    return names if isinstance(names, list) else []


def _label_studio(path: Path) -> list[str]:
    try:
        categories = json.loads(path.read_bytes())["categories"]
        return [str(each["name"]) for each in sorted(categories, key=lambda each: int(each["id"]))]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return []
