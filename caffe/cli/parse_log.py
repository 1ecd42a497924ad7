"""`parse_log`: turns a training log into two tables, <log>.train and <log>.test."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import FlagParser, boolean, run
from caffe.files import replacing
from caffe.solver.log_reader import Row, read_training_log

EXAMPLES = """\
examples:
  caffe train -solver solver.prototxt 2>&1 | tee train.log
  parse_log train.log .          writes train.log.train and train.log.test

Columns: NumIters, Seconds since training began, LearningRate, then one for each output of the net.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser(
        "parse_log",
        description="Parse a Caffe training log into two CSV files containing training and testing information.",
        epilog=EXAMPLES,
    )
    p.add_argument("logfile_path", help="path to the log file, or to the directory of -log_dir with several runs' logs")
    p.add_argument("output_dir", help="directory for the CSV files")
    p.flag("verbose", default=False, type=boolean, help="print what was written")
    p.flag("delimiter", default=",", help="column delimiter in the output files")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("parse_log", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    log = read_training_log(flags.logfile_path)
    for kind, rows in (("train", log.train), ("test", log.test)):
        path = Path(flags.output_dir) / f"{Path(os.path.abspath(flags.logfile_path)).name}.{kind}"
        if rows:
            with replacing(path) as temporary:
                temporary.write_text(_table(rows, flags.delimiter), newline="")
        if flags.verbose:
            print(f"Wrote {path}" if rows else f"Not writing {path}; no lines to write")
    return 0


def _table(rows: list[Row], delimiter: str) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    sys.exit(main())
