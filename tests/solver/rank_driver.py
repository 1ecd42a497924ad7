"""`caffe` with the tests' data layer registered, in every rank that it starts: python rank_driver.py train -solver …"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe.cli import caffe
from caffe.solver import launch

# registers the layer; by the name that the tests import it by
importlib.import_module("counting_records")


def command(argv: Sequence[str]) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), *argv]


if __name__ == "__main__":
    launch.caffe_command = command
    sys.exit(caffe.main())
