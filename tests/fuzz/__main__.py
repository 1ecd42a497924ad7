"""Fuzzes the readers: `python -m tests.fuzz --kind weights --count 10000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from tests.fuzz.harness import MEMORY, case, run
from tests.fuzz.kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz",
        description="Feeds mutated inputs to everything that reads a stranger's file. Each must be answered or refused "
        f"with one error that names the file, within a second (nets: five) and {MEMORY >> 20} MB.",
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="what to fuzz; may be repeated (default: all)")
    parser.add_argument("--count", type=int, default=10_000, help="cases of each kind (default: 10000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other cases (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the inputs that failed there")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print the input of one case of one kind and end")
    args = parser.parse_args()
    if args.show is not None:
        sys.stdout.buffer.write(case((args.kind or [next(iter(KINDS))])[0], args.seed, args.show))
        return 0
    failed = 0
    for kind in args.kind or KINDS:
        problems: Counter[str] = Counter()
        answered, slowest = 0, 0.0
        for outcome in tqdm(run(kind, args.seed, args.count), total=args.count, desc=kind, disable=None):
            answered += outcome.answered and outcome.problem is None
            slowest = max(slowest, outcome.seconds)
            if outcome.problem is not None:
                problems[outcome.problem] += 1
                if problems[outcome.problem] == 1:
                    tqdm.write(f"{kind} --seed {outcome.seed} --show {outcome.number}: {outcome.problem}")
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    (args.keep / f"{kind}-{outcome.seed}-{outcome.number}").write_bytes(
                        case(kind, outcome.seed, outcome.number)
                    )
        count = sum(problems.values())
        failed += count
        print(
            f"{kind}: {args.count} cases, {answered} answered, {args.count - answered - count} refused, {count} failed; "
            f"slowest {slowest:.2f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
