"""`caffe version`, and `--version` of every command: this package's version and that of the Caffe it stands for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import caffe
from caffe.cli.flags import FlagParser, run

EXAMPLES = """\
examples:
  caffe version
  caffe --version
"""


def versions() -> str:
    """Both versions and PyTorch's, in words. The package's own comes from its metadata, that is from pyproject.toml."""
    return (
        f"caffe version {caffe.__version__} (the Caffe whose files, commands and Python interface these are)\n"
        f"mdssd-caffe version {_installed('mdssd-caffe')} (this package), with PyTorch {_installed('torch')}"
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown, not installed"


def parser() -> FlagParser:
    """The command's flags."""
    return FlagParser("caffe version", description="Show the versions of Caffe, of this package and of PyTorch.",
                      epilog=EXAMPLES)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe version", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser().parse_args(argv)
    print(versions())


if __name__ == "__main__":
    sys.exit(main())
