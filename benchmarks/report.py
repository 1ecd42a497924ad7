"""Shared by all benchmarks: timing several candidates in turn, and the result file with machine and date."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOG_minloglevel", "1")  # print figures, not the set-up of nets
RESULTS = Path(__file__).resolve().parent / "results"


def processor() -> str:
    """The processor's name, from the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, Any]:
    """The machine that the figures were measured on."""
    import torch

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 10, warmup: int = 2
) -> dict[str, dict[str, float]]:
    """Milliseconds of each candidate, run one after another in every round so that a slow period affects all alike.

    Returns for each the fastest, the median and the slowest round.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(warmup + rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if i >= warmup:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: {"min_ms": min(t), "median_ms": statistics.median(t), "max_ms": max(t)} for name, t in times.items()}


def write_result(name: str, figures: Mapping[str, Any]) -> None:
    """Writes `results/<name>.json` with the command, the machine and the date, and prints the figures."""
    RESULTS.mkdir(exist_ok=True)
    script = Path(sys.argv[0])
    command = " ".join(["python", f"benchmarks/{script.name}", *sys.argv[1:]])
    result = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "figures": dict(figures),
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["figures"], indent=1))
    print(f"written to {path}")
