"""The original's answers: a selection beside this file, and the whole set beside the checkout if it exists."""

from __future__ import annotations

from pathlib import Path

ANSWERS = Path(__file__).resolve().parent / "answers"
#: the whole set, of which the selection is a part
WHOLE_SET = Path(__file__).resolve().parents[3] / "shared" / "golden"


def case_files(kind: str) -> list[Path]:
    """The cases of a kind, by name. Cases that are checked in are read from there, even if the whole set exists."""
    files = {file.name: file for folder in (WHOLE_SET, ANSWERS) for file in folder.glob(f"{kind}_*.npz")}
    return [files[name] for name in sorted(files)]
