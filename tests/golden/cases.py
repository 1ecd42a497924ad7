"""Where the original's answers are: a selection beside this file, and the whole set beside the checkout if it is there."""

from __future__ import annotations

from pathlib import Path

ANSWERS = Path(__file__).resolve().parent / "answers"
#: the whole set, of which the selection is a part
WHOLE_SET = Path(__file__).resolve().parents[3] / "shared" / "golden"


def case_files(kind: str) -> list[Path]:
    """The cases of a kind, by name. Those checked in are read from there, wherever the others are."""
    files = {file.name: file for folder in (WHOLE_SET, ANSWERS) for file in folder.glob(f"{kind}_*.npz")}
    return [files[name] for name in sorted(files)]
