"""The JSON of scripts/speed.sh, checked before a page shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from caffe.detection.coco_files import is_finite
from caffe.errors import CaffeError, DataError

_NUMBERS = ("net", "nms", "decoding_nms", "parameters", "operations")


def read(path: str | Path) -> dict[str, Any]:
    """Returns the contents of a file. Raises CaffeError if it cannot be read or is not what scripts/speed.sh writes."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CaffeError(f"-speed {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"-speed {path}: is not JSON: {error}") from None
    return check(value, str(path))


def check(value: Any, where: str) -> dict[str, Any]:
    """Returns the contents; raises DataError if they are not what scripts/speed.sh writes."""
    rows = value.get("models") if isinstance(value, dict) else None
    good = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("input"), str)
        and all(is_finite(row.get(name)) for name in _NUMBERS)
        for row in rows
    )
    if not good or not all(isinstance(value.get(name), str) for name in ("machine", "precision")):
        raise DataError(f"{where}: is not the JSON that scripts/speed.sh -json writes")
    result: dict[str, Any] = value
    return result
