"""The parts of a checkout that are not in the installed package."""

from __future__ import annotations

from pathlib import Path

from caffe.errors import CaffeError

#: what train_own uses: the generators, their published nets, and weights to start from
_PARTS = ("prototxt_gen/ssd300.py", "models/SSD300/VOC/deploy.prototxt", "demo/pretrain/ssd300_narrow.caffemodel")


def checkout() -> Path:
    """The checkout that this package is part of. Raises CaffeError if it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    missing = [part for part in _PARTS if not (root / part).is_file()]
    if missing:
        raise CaffeError(
            f"train_own needs a checkout of this project: '{root}' has no {missing[0]}. Clone it, run 'make setup' there, "
            "and call its scripts/train_own.sh"
        )
    return root
