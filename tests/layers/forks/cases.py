"""The cases of all modules beside this one whose names begin with `cases_`."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.layer_harness import Case

MODULES = [
    importlib.import_module(f"{__package__}.{path.stem}") for path in sorted(Path(__file__).parent.glob("cases_*.py"))
]
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
