"""The JSON of scripts/speed.sh, checked before a page shows it."""

from __future__ import annotations

from math import isfinite
from typing import Any

from caffe.errors import DataError

_NUMBERS = ("net", "nms", "decoding_nms", "parameters", "operations")


def check(value: Any, where: str) -> dict[str, Any]:
    """Returns the contents; raises DataError if they are not what scripts/speed.sh writes."""
    rows = value.get("models") if isinstance(value, dict) else None
    good = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("input"), str)
        and all(isinstance(row.get(name), int | float) and isfinite(row[name]) for name in _NUMBERS)
        for row in rows
    )
    if not good or not all(isinstance(value.get(name), str) for name in ("machine", "precision")):
        raise DataError(f"{where}: is not the JSON that scripts/speed.sh -json writes")
    result: dict[str, Any] = value
    return result
