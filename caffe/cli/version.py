"""`caffe version`, and `--version` of every command: this package's version and that of the Caffe it stands for."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def provenance() -> str:
    """What a run was made with, in one line: versions of the packages and of Python, and the commit of the source.

    The commit is that of the git checkout that the package is imported from, with `-dirty` if files differ from it.
    """
    parts = [
        f"mdssd-caffe {_installed('mdssd-caffe')}", f"PyTorch {_installed('torch')}", f"NumPy {_installed('numpy')}",
        f"Python {platform.python_version()}",
    ]  # fmt: skip
    commit = _commit()
    return ", ".join([*parts, f"commit {commit}"] if commit else parts)


def _commit() -> str:
    """The commit of the checkout; empty for an installed package, and without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


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
