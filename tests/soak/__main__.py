"""`python -m tests.soak`: draws of the samplers, then a long training with everything that can go wrong."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

from tests.soak import draws, report
from tests.soak.run import Soak, clear, prepare

EPILOG = """\
Writes soak.json, soak.md and soak.png to the folder, and ends with status 1 if something was wrong: a process left
behind, a stack trace, another exit status than the event's, an iteration that was lost although there was time.

    python -m tests.soak -seconds 600 --folder soak_run
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.soak", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = float(os.environ.get("SOAK_S") or 3600)
    parser.add_argument(
        "-seconds", "--seconds", type=float, default=default, help="how long (default: SOAK_S, or 3600)"
    )
    parser.add_argument("--folder", type=Path, default=Path("soak_run"), help="emptied first (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other events (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=1_000_000, help="of the samplers (default: %(default)s)")
    args = parser.parse_args()

    drawn, taken, bad = draws.check(args.draws, args.seed)
    print(f"samplers: {drawn:,} crops drawn, {taken:,} taken, {bad} invalid", flush=True)
    clear(args.folder)
    prepare(args.folder)
    soak = Soak(args.folder, args.seed, lambda text: print(text, flush=True))
    try:
        soak.run(args.seconds)
    finally:
        soak.write(args.folder / "soak.json")
    text = report.summary(soak) + "\n" + report.table(soak)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today():%d %B %Y}"
    (args.folder / "soak.md").write_text(
        f"{machine}, {args.seconds:g} s\n\nsamplers: {drawn:,} crops, {bad} invalid\n{text}"
    )
    report.plot(soak, args.folder / "soak.png")
    print(text)
    return 1 if soak.problems or bad else 0


if __name__ == "__main__":
    sys.exit(main())
