"""`caffe` with the tests' data layer registered, in every rank that it starts: python rank_driver.py train -solver …"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import counting_records  # noqa: F401  (registers the layer)

from caffe.cli import caffe
from caffe.solver import launch


def command(argv: Sequence[str]) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), *argv]


if __name__ == "__main__":
    launch.caffe_command = command
    sys.exit(caffe.main())
