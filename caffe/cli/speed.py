"""`caffe speed`: images a second of whole detectors, one image at a time (the paper's Table V)."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import WEIGHTS, FlagParser, number, run
from caffe.cli.net_flags import add_acceleration, weight_files
from caffe.errors import CaffeError
from caffe.files import check_target, write_text

_MODELS = Path(__file__).resolve().parents[2] / "models"
#: the four networks of the paper
DEFAULT = ("SSD300", "MDSSD300", "SSD512", "MDSSD512")
EXAMPLES = """\
MODEL is a deploy prototxt, or a directory with deploy.prototxt. Without MODEL: SSD and MDSSD at 300 and 512 pixels.

examples:
  caffe speed -images 200 -json speed.json
  caffe speed -images 2000 -seconds 60 models/*/VOC
  caffe speed -gpu 0 models/MDSSD300/VOC -weights mdssd_iter_120000.caffemodel -image_dir VOC2007/JPEGImages

Each figure is for one image at a time, after a few untimed ones: the net alone (from pixels in memory to the scores of
every default box), with NMS, with decoding (the JPEG is read, decoded and resized), and with both. Without -weights they
are random. NMS then gets far more boxes than from a trained net, so its figures are a lower limit. An operation is a
multiplication or an addition, of convolutions and inner products. 'caffe time' times one net layer by layer.

Models are measured one after another. After Ctrl-C, or if one of them fails, the figures of the others are printed and
in -json all the same.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe speed", description="Measure the images a second of detectors.", epilog=EXAMPLES)
    p.add_argument("models", metavar="MODEL", nargs="*", help="deploy prototxt, or a directory with deploy.prototxt")
    p.flag("weights", aliases=WEIGHTS, default="", help="weights of the models, separated by ',', in the same order")
    p.flag("images", default=2000, type=number(int, 1), help="images to time")
    p.flag(
        "seconds", type=number(float, 0, over=True),
        help="limit of each of a model's four measurements; slow models are timed with fewer images (default: none)",
    )  # fmt: skip
    p.flag("image_dir", help="directory of the images (default: generated ones of 500 x 375)")
    p.flag("gpu", default="", help="run on this GPU; default: the CPU")
    p.flag("json", help="also write the figures to this file, for caffe report -speed")
    add_acceleration(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe speed", _command, argv)


def _command(argv: Sequence[str]) -> None:
    flags = parser().parse_args(argv)
    if not flags.models and not _MODELS.is_dir():
        raise CaffeError(
            "without MODEL it measures the networks of a checkout of this project, and this package was installed "
            "without one; give a deploy prototxt"
        )
    paths = [_deploy(name) for name in flags.models or [str(_MODELS / name / "VOC") for name in DEFAULT]]
    weights = weight_files(flags.weights)
    if weights and len(weights) != len(paths):
        raise CaffeError(
            f"-weights has {len(weights)} files for {len(paths)} models; give one for each, in their order"
        )
    if flags.json:
        check_target(flags.json)

    from caffe.cli import detector_speed
    from caffe.cli.net_flags import accelerate
    from caffe.data.feed.memory import keep_freed_memory

    for path in paths:
        detector_speed.check_detector(path)
    devices.use_one(flags.gpu)
    accelerate(flags)
    keep_freed_memory()
    files = detector_speed.find_files(flags.image_dir, flags.images)
    facts = _facts(flags.gpu, flags.precision, flags.images, bool(weights))
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    try:
        for place, path in enumerate(paths):
            note = f"{place + 1} of {len(paths)}: {str(path).removesuffix('/deploy.prototxt')}"
            try:
                row = detector_speed.measure(
                    path, weights[place] if weights else None, files, flags.images, flags.seconds, note
                )
            except (CaffeError, RuntimeError, MemoryError) as error:
                failures.append(f"{path}: {_reason(error)}")
                log.error(log.here(), failures[-1])
                continue
            rows.append(row)
            log.info(log.here(), f"{note}: {row['net']:.3g} images/s, {row['decoding_nms']:.3g} with decoding and NMS")
            if flags.json:
                write_text(flags.json, json.dumps({**facts, "models": rows}, indent=1) + "\n")
    finally:
        if rows:
            _print(rows, facts)
    if failures:
        raise CaffeError(f"{len(failures)} of {len(paths)} models were not measured:\n  " + "\n  ".join(failures))


def _print(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    from caffe.detection.report import table

    print(
        table(
            ["model", "input", "net", "with NMS", "with decoding", "with both", "images", "parameters", "operations"],
            [[row["name"], row["input"], *(f"{row[key]:.3g}" for key in ("net", "nms", "decoding", "decoding_nms")),
              f"{row['images']:,}", f"{row['parameters'] / 1e6:.1f} M", f"{row['operations'] / 1e9:.1f} G"]
             for row in rows],
        ), end="",
    )  # fmt: skip
    print(f"\nimages a second, batch 1, {facts['precision']}, on {facts['machine']}")
    if facts["weights"] == "random":
        print("random weights: NMS gets far more boxes than from a trained net")


def _reason(error: Exception) -> str:
    """What kept a model from being measured. An error that is a defect of the program is raised again."""
    import torch

    if isinstance(error, CaffeError):
        return str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
        return "out of memory"
    raise error


def _facts(gpu: str, precision: str, images: int, trained: bool) -> dict[str, Any]:
    """What the figures of all models are measured with."""
    import torch

    return {
        "machine": _machine(gpu), "threads": torch.get_num_threads(), "precision": precision, "images": images,
        "batch": 1, "python": platform.python_version(), "torch": torch.__version__,
        "weights": "given" if trained else "random", "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def _deploy(name: str) -> Path:
    path = Path(name) / "deploy.prototxt" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise CaffeError(f"{path}: no such file; give a deploy prototxt, or a directory with deploy.prototxt")
    return path


def _machine(gpu: str) -> str:
    """The processor, or the GPU, in words."""
    import torch

    if gpu:
        return str(torch.cuda.get_device_name())
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main())
