#!/usr/bin/env python3
"""The tables of one or more experiments, as Markdown and, with --json, as data.

    python experiments/small_objects/table.py build/small_objects/*

Values are in percent: the mean over seeds ± their standard deviation. Differences are paired by seed and have the 95 %
interval of their mean. They are in bold if the interval excludes 0.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from caffe.cli.flags import run
from caffe.errors import CaffeError
from caffe.files import write_text
from experiments.small_objects.decoder_control import CONTROLS
from experiments.small_objects.intervals import Summary, paired, summarize
from experiments.small_objects.plan import ARMS, BOXES, FAMILIES, Plan
from experiments.small_objects.preparation import Folder

#: the measures that the tables show
SHOWN = ("XS", "S", "M", "L", "XL", "AP_N", "mAP", "COCO AP", "AP small", "AP medium", "AP large", "AR")
#: the measures of the learning curve
CURVE = ("XS", "S", "mAP")
#: the comparisons: first − second, by the names of the arms
DIFFERENCES = (
    ("MDSSD − SSD, released boxes, equal iterations", "mdssd300-released", "ssd300-released"),
    ("MDSSD − SSD, designed boxes, equal iterations", "mdssd300-designed", "ssd300-designed"),
    ("MDSSD − SSD, released boxes, equal time", "mdssd300-released", "ssd300-released-longer"),
    ("MDSSD − SSD, designed boxes, equal time", "mdssd300-designed", "ssd300-designed-longer"),
    ("designed − released boxes, SSD", "ssd300-designed", "ssd300-released"),
    ("designed − released boxes, MDSSD", "mdssd300-designed", "mdssd300-released"),
    ("MDSSD − SSD, released boxes, both from SSD's function", "mdssd300-released-function", "ssd300-released-function"),
    ("MDSSD − SSD, designed boxes, both from SSD's function", "mdssd300-designed-function", "ssd300-designed-function"),
    (
        "MDSSD − SSD, designed boxes, both from SSD's function, equal time",
        "mdssd300-designed-function",
        "ssd300-designed-function-longer",
    ),
    ("MDSSD − MDSSD without deep sides, designed boxes", "mdssd300-designed", "mdssd300-shallow-designed"),
    (
        "MDSSD without deep sides − SSD, designed boxes, both from SSD's function",
        "mdssd300-shallow-designed-function",
        "ssd300-designed-function",
    ),
    (
        "MDSSD − MDSSD without deep sides, designed boxes, both from SSD's function",
        "mdssd300-designed-function",
        "mdssd300-shallow-designed-function",
    ),
    (
        "MDSSD − MDSSD without deep sides, designed boxes, from random numbers",
        "mdssd300-designed-scratch",
        "mdssd300-shallow-designed-scratch",
    ),
    (
        "MDSSD without deep sides − SSD, designed boxes, from random numbers",
        "mdssd300-shallow-designed-scratch",
        "ssd300-designed-scratch",
    ),
    (
        "MDSSD − SSD, designed boxes, from random numbers, equal time",
        "mdssd300-designed-scratch",
        "ssd300-designed-scratch-longer",
    ),
    (
        "MDSSD − MDSSD that starts with a small deep side, designed boxes, from random numbers",
        "mdssd300-designed-scratch",
        "mdssd300-small_deep-designed-scratch",
    ),
    (
        "MDSSD that starts with a small deep side − MDSSD without deep sides, designed boxes, from random numbers",
        "mdssd300-small_deep-designed-scratch",
        "mdssd300-shallow-designed-scratch",
    ),
    ("start of SSD's function − the paper's, SSD, released boxes", "ssd300-released-function", "ssd300-released"),
    ("start of SSD's function − the paper's, SSD, designed boxes", "ssd300-designed-function", "ssd300-designed"),
    ("start of SSD's function − the paper's, MDSSD, released boxes", "mdssd300-released-function", "mdssd300-released"),
    ("start of SSD's function − the paper's, MDSSD, designed boxes", "mdssd300-designed-function", "mdssd300-designed"),
    *(
        (
            f"{mdssd.upper()} − {other.upper()}, {boxes} boxes, from random numbers",
            f"{mdssd}-{boxes}-scratch",
            f"{other}-{boxes}-scratch",
        )
        for boxes in BOXES
        for networks in FAMILIES.values()
        for mdssd in networks
        if mdssd.startswith("mdssd")
        for other in networks
        if other != mdssd
    ),
    *(
        (
            f"DSSD321 − DSSD321 with the control {control}",
            "dssd321-designed-scratch",
            f"dssd321-{control}-designed-scratch",
        )
        for control in CONTROLS
    ),
)

#: measure → seed → value; NaN without objects
Measured = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Results:
    """The measures of an experiment: `final` by arm, `curve` by arm and iteration, and the costs of arms."""

    plan: Plan
    final: dict[str, Measured]
    curve: dict[str, list[tuple[int, Measured]]]
    costs: dict[str, dict[str, float]]


def read(out: Path, arms: Iterable[str] = ARMS) -> Results:
    """Reads the results of these arms so far. Unfinished arms and seeds are left out of `final`."""
    plan = Plan.read(out / "plan.json")
    folder = Folder(out, plan)
    costs = json.loads(folder.costs.read_text(encoding="utf-8")) if folder.costs.exists() else {}
    final: dict[str, Measured] = {}
    curve: dict[str, list[tuple[int, Measured]]] = {}
    for name, arm in ((name, ARMS[name]) for name in arms):
        if not (out / "runs" / name).is_dir() or (arm.longer and arm.mdssd.model not in costs):
            continue
        points = [(i, _measured(out / "runs" / name, i)) for i in plan.checkpoints(folder.iterations(arm))]
        curve[name] = points
        if points[-1][1]:
            final[name] = points[-1][1]
    return Results(plan, final, curve, costs)


def _measured(folder: Path, iteration: int) -> Measured:
    values: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob(f"seed*/score_{iteration}.json")):
        seed = int(path.parent.name.removeprefix("seed"))
        for measure, value in json.loads(path.read_text(encoding="utf-8"))["measures"].items():
            values.setdefault(measure, {})[seed] = math.nan if value is None else value
    return values


# ---- Markdown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table. All columns except the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(summary: Summary) -> str:
    """Returns text such as `43.1 ± 2.0` in percent, or a dash without values."""
    if not summary.n:
        return "–"
    return f"{100 * summary.mean:.1f}" + ("" if summary.n == 1 else f" ± {100 * summary.deviation:.1f}")


def interval(summary: Summary) -> str:
    """Returns text such as `+1.2 [−0.3, +2.7]` in points, in bold if 0 is outside. One seed has no interval."""
    if not summary.n:
        return "–"
    text = _signed(summary.mean)
    if summary.n > 1:
        low, high = summary.mean - summary.half_width, summary.mean + summary.half_width
        text += f" [{_signed(low)}, {_signed(high)}]"
    return f"**{text}**" if summary.decided else text


def _signed(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−")  # + 0.0: no −0.0


def differences(final: Mapping[str, Measured]) -> dict[str, dict[str, Summary]]:
    """Returns the paired differences of the available arms, by comparison, then by measure."""
    return {
        title: {m: paired(final[first].get(m, {}), final[second].get(m, {})) for m in SHOWN}
        for title, first, second in DIFFERENCES
        if first in final and second in final
    }


def markdown(results: Results) -> str:
    """Returns the tables of an experiment."""
    plan = results.plan
    if not results.final:
        return f"## {plan.data}\n\nNothing is finished yet.\n"
    seeds = {name: len(values["mAP"]) for name, values in results.final.items()}
    limit = f", at most {plan.max_boxes:,} default boxes" if plan.max_boxes else ""
    compared = differences(results.final)
    parts = [
        f"## {plan.data}\n",
        f"Width {plan.width}, {plan.iterations} iterations of {plan.batch} images, {plan.augmentation} augmentation, "
        f"{plan.precision} on {'the CPU' if plan.gpu == 'none' else 'a GPU'}{limit}.\n",
        table(
            ["%", "seeds", *SHOWN],
            [
                [name, str(seeds[name]), *(spread(summarize([*values.get(m, {}).values()])) for m in SHOWN)]
                for name, values in results.final.items()
            ],
        ),
        *(
            [
                "Differences in points:\n",
                table(
                    ["", *SHOWN], [[title, *(interval(row[m]) for m in SHOWN)] for title, row in compared.items()]
                ),
            ]
            if compared
            else []
        ),
        "The learning curve, means over seeds:\n",
        table(["%", "iteration", *CURVE], _curve_rows(results)),
        "Cost:\n",
        table(
            ["", "parameters, M", "multiply-adds, G", "default boxes", "ms per image", "ms per iteration"],
            [
                [name, f"{c['parameters'] / 1e6:.2f}", f"{c['multiply_adds'] / 1e9:.2f}", f"{c['default_boxes']:,.0f}",
                 f"{c['seconds_per_image'] * 1e3:.1f}", f"{c['seconds_per_iteration'] * 1e3:.0f}"]
                for name, c in results.costs.items()
            ],
        ),
    ]  # fmt: skip
    return "\n".join(parts)


def _curve_rows(results: Results) -> list[list[str]]:
    return [
        [name, str(iteration), *(spread(summarize([*values.get(m, {}).values()])) for m in CURVE)]
        for name, points in results.curve.items()
        for iteration, values in points
        if values
    ]


# ---- data


def as_json(results: Results) -> dict[str, Any]:
    """Returns the same numbers as data, with the values of each seed, and the plan without the paths of this machine."""

    def summary(value: Summary) -> dict[str, float | int | None]:
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in value._asdict().items()}

    def values(measured: Measured) -> dict[str, dict[str, float | None]]:
        return {m: {str(s): None if math.isnan(v) else v for s, v in by.items()} for m, by in measured.items()}

    return {
        "plan": {name: value for name, value in vars(results.plan).items() if name not in ("folder", "weights")},
        "final": {name: values(measured) for name, measured in results.final.items()},
        "curve": {
            name: {str(iteration): values(measured) for iteration, measured in points}
            for name, points in results.curve.items()
        },
        "differences": {
            title: {m: summary(s) for m, s in row.items()} for title, row in differences(results.final).items()
        },
        "costs": results.costs,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("table.py", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="directories written by run.py")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    flags = parser.parse_args(argv)
    missing = [folder for folder in flags.folders if not (folder / "plan.json").is_file()]
    if missing:
        raise CaffeError(f"{missing[0]} is not a directory of run.py: it has no plan.json")
    everything = [read(folder) for folder in flags.folders]
    print("\n".join(map(markdown, everything)), end="")
    if flags.json:
        data = {results.plan.data: as_json(results) for results in everything}
        write_text(flags.json, json.dumps(data, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
