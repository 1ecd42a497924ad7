"""What `caffe train -log_dir` writes beside the log: metrics, TensorBoard events and test pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caffe.cli.flags import FlagParser, boolean, number
from caffe.errors import CaffeError

if TYPE_CHECKING:
    from caffe.solver.watchers import Watcher


def add_side_outputs(parser: FlagParser) -> None:
    """The flags -tensorboard and -test_pictures."""
    parser.flag(
        "tensorboard", default=False, type=boolean,
        help="also write TensorBoard event files to -log_dir (needs the package tensorboard)",
    )  # fmt: skip
    parser.flag(
        "test_pictures", default=8, type=number(int, 0, 1000),
        help="draw so many test images with their detections at each test, with -log_dir; 0: none",
    )  # fmt: skip


def watchers(flags: argparse.Namespace) -> list[Watcher]:
    """Those that the flags ask for. Raises CaffeError for -tensorboard without -log_dir, or without the package."""
    if flags.tensorboard and not flags.log_dir:
        raise CaffeError("-tensorboard needs -log_dir, the directory for its event files")
    if not flags.log_dir:
        return []
    from caffe.solver.metrics import MetricsFile, TensorBoard
    from caffe.solver.test_pictures import TestPictures

    result: list[Watcher] = [MetricsFile(flags.log_dir)]
    if flags.test_pictures:
        result.append(TestPictures(flags.log_dir, flags.test_pictures))
    if flags.tensorboard:
        result.append(TensorBoard(Path(flags.log_dir) / "tensorboard"))
    return result
