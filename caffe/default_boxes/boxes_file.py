"""The JSON file of default boxes, which `design_boxes` writes, users edit, and the generators read.

    {
     "network": "MDSSD300_VOC_deploy",
     "input": [300, 300],
     "sources": [
      {"name": "module1", "step": 4, "min_sizes": [8, 14], "max_sizes": [11, 20], "aspect_ratios": [2], "flip": true},
      …
     ]
    }

`input` is the height and width in pixels. `max_sizes`, `aspect_ratios` and `flip` (default: true) are optional.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe.default_boxes.layout import Layout, Shapes
from caffe.errors import DataError, shown
from caffe.files import write_text

_SOURCE_KEYS = {"name", "step", "min_sizes", "max_sizes", "aspect_ratios", "flip"}
_NEEDED = ("name", "step", "min_sizes")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class FileSource:
    """The boxes of one source in a file. `step`: distance between cells in pixels, (vertical, horizontal)."""

    name: str
    step: tuple[float, float]
    shapes: Shapes


@dataclass(frozen=True)
class BoxesFile:
    """The contents of a boxes file. `path` is used in error messages."""

    path: str
    network: str
    height: int
    width: int
    sources: tuple[FileSource, ...]

    def shapes_for(
        self, network: str, size: tuple[int, int], sources: Sequence[tuple[str, tuple[float, float]]]
    ) -> tuple[Shapes, ...]:
        """Returns the boxes of each source of a network. Raises DataError if the file is for a different network.

        size: height and width of the network's input in pixels. sources: the name of each prediction source's blob with
        its step in pixels (vertical, horizontal).
        """
        if (self.height, self.width) != size:
            raise DataError(
                f"boxes file '{self.path}' is for an input of {self.width} x {self.height} pixels ('{self.network}'), "
                f"and {network}'s is {size[1]} x {size[0]}; make one with design_boxes -net for {network}"
            )
        here, wanted = [source.name for source in self.sources], [name for name, _ in sources]
        if here != wanted:
            number = f"{len(here)} source{'s' * (len(here) != 1)}"
            raise DataError(
                f"boxes file '{self.path}' is for another network ('{self.network}'): it has {number}, "
                f"{', '.join(here)}; {network} has {len(wanted)}, {', '.join(wanted)}"
            )
        for source, (name, step) in zip(self.sources, sources, strict=True):
            if source.step != step:
                raise DataError(
                    f"boxes file '{self.path}': source '{name}' has step {_step_text(source.step)}, and in {network} "
                    f"it is {_step_text(step)}"
                )
        return tuple(source.shapes for source in self.sources)


def layout_with(layout: Layout, boxes: BoxesFile) -> Layout:
    """Returns the layout with the boxes of a file. Raises DataError if the file is for a different net."""
    sources = [(source.name, (source.step_h, source.step_w)) for source in layout.sources]
    return layout.with_shapes(boxes.shapes_for(layout.network, (layout.height, layout.width), sources))


def write_boxes(path: str | Path, layout: Layout) -> None:
    """Writes the boxes of a layout. The file appears complete or not at all."""
    rows = []
    for source in layout.sources:
        row: dict[str, Any] = {"name": source.name, "step": _step_value((source.step_h, source.step_w))}
        row["min_sizes"] = [_plain(v) for v in source.shapes.min_sizes]
        row["max_sizes"] = [_plain(v) for v in source.shapes.max_sizes]
        row["aspect_ratios"] = [_plain(v) for v in source.shapes.aspect_ratios]
        row["flip"] = source.shapes.flip
        rows.append("  " + json.dumps(row))
    head = f' "network": {json.dumps(layout.network)},\n "input": [{layout.height}, {layout.width}],\n'
    write_text(path, "{\n" + head + ' "sources": [\n' + ",\n".join(rows) + "\n ]\n}\n")


def read_boxes(path: str | Path) -> BoxesFile:
    """Reads a boxes file. Raises DataError, with the source and the field at fault, if it is not valid."""
    try:
        data = Path(path).read_bytes()[: _MAX_BYTES + 1]
    except OSError as error:
        raise DataError(f"cannot read boxes file '{path}': {error.strerror}; design_boxes -out makes one") from None
    if len(data) > _MAX_BYTES:
        raise DataError(f"'{path}' is not a boxes file: it is larger than {_MAX_BYTES >> 20} MB")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"boxes file '{path}' is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("sources"), list):
        raise DataError(f"'{path}' is not a boxes file: it needs an object with 'input' and a list 'sources'")
    size = document.get("input")
    if not (isinstance(size, list) and len(size) == 2 and all(_is_size(v) for v in size)):
        raise DataError(f"boxes file '{path}': 'input' must be [height, width] in pixels, such as [300, 300]")
    if not document["sources"]:
        raise DataError(f"boxes file '{path}' has no source")
    sources = tuple(_source(str(path), number, row, size) for number, row in enumerate(document["sources"], 1))
    network = document.get("network")
    return BoxesFile(str(path), shown(network) if isinstance(network, str) else "no name", size[0], size[1], sources)


def _source(path: str, number: int, row: Any, size: Sequence[int]) -> FileSource:
    where = f"boxes file '{path}', source {number}"
    if not isinstance(row, dict):
        raise DataError(f"{where}: not an object with {', '.join(_NEEDED)}")
    name = row.get("name")
    if isinstance(name, str) and name:
        where += f" ('{shown(name)}')"
    missing = [key for key in _NEEDED if key not in row]
    if missing:
        raise DataError(f"{where}: '{missing[0]}' is missing")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: 'name' must be the name of a blob with predictions")
    strange = sorted(set(row) - _SOURCE_KEYS)
    if strange:
        raise DataError(
            f"{where}: unknown field '{shown(strange[0])}'; the fields are {', '.join(sorted(_SOURCE_KEYS))}"
        )
    flip = row.get("flip", True)
    if not isinstance(flip, bool):
        raise DataError(f"{where}: 'flip' must be true or false")
    step = row["step"] if isinstance(row["step"], list) else [row["step"]] * 2
    steps = _numbers(where, "step", step)
    if len(steps) != 2 or min(steps) <= 0:
        raise DataError(f"{where}: 'step' must be one positive number, or two: [vertical, horizontal]")
    lists = {key: _numbers(where, key, row.get(key, [])) for key in ("min_sizes", "max_sizes", "aspect_ratios")}
    shapes = Shapes(**lists, flip=flip)
    fault = shapes.fault(*size)
    if fault:
        raise DataError(f"{where} {fault}")
    return FileSource(name, (steps[0], steps[1]), shapes)


def _numbers(where: str, key: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise DataError(f"{where}: '{key}' must be a list of numbers")
    try:
        return tuple(_plain(float(value)) for value in values)
    except OverflowError:
        raise DataError(f"{where}: '{key}' has a number that is too large") from None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16


def _plain(value: float) -> float:
    """The value as an int if it is a whole number."""
    return int(value) if value == value and abs(value) < 1e9 and value == int(value) else value


def _step_value(step: tuple[float, float]) -> float | list[float]:
    return _plain(step[0]) if step[0] == step[1] else [_plain(v) for v in step]


def _step_text(step: tuple[float, float]) -> str:
    return f"{step[0]:g}" if step[0] == step[1] else f"[{step[0]:g}, {step[1]:g}]"
