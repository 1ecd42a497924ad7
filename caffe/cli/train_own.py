"""`train_own`: from a folder of annotated photographs to a trained, scored detector."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe.cli import startup
from caffe.cli.flags import WEIGHTS, FlagParser, boolean, number, run
from caffe.cli.import_annotations import add_dataset_flags, read_divided
from caffe.errors import CaffeError, counted

if TYPE_CHECKING:
    from caffe.recipe.rule import Machine

_EPILOG = """\
FOLDER holds images and annotations in any layout that import_annotations reads. The steps, each a command that is
printed and can be repeated: import_annotations, convert_annoset, design_boxes, a generator of prototxt_gen/,
check_dataset, caffe train, caffe test with the best snapshot, score_voc, ssd_detect, caffe report. Everything is written
below -out:
    best.caffemodel, model/deploy.prototxt, data/labelmap.prototxt    the detector
    report.html, score/, pictures/                                  what it does on the test images
    check/check.html                                                problems in the data
    commands.sh                                                     the commands

Called again, it goes on where it was stopped, and repeats what depends on changed flags or photographs. With a higher
-max_iter, training goes on from the last snapshot.

    scripts/train_own.sh photographs
    scripts/train_own.sh photographs -out jobs/raccoon -dry_run
    train_own photographs -weights VGG_ILSVRC_16_layers_fc_reduced.caffemodel -gpu 0
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("train_own", _main, argv)


def _parser() -> FlagParser:
    parser = FlagParser(
        prog="train_own", description="Trains and scores a detector on a folder of annotated photographs.",
        epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("folder", metavar="FOLDER", help="directory of the images and annotations; it is not changed")
    parser.flag("out", default="", help="directory for everything that is written (default: jobs/NAME of FOLDER)")
    parser.flag("dry_run", type=boolean, default=False, help="only print the choices and the commands")
    parser.flag("weights", aliases=WEIGHTS, default="",
                help="VGG's or an SSD's weights to start from (default: a narrow SSD300's)")  # fmt: skip
    parser.flag("network", choices=("ssd300", "ssd512", "mdssd300", "mdssd512"),
                metavar="NAME", help="ssd300, ssd512, mdssd300 or mdssd512 (default: by the sizes of the objects)")  # fmt: skip
    parser.flag("max_iter", type=number(int, 1), help="training iterations (default: by the number of images)")
    parser.flag("batch", type=number(int, 1), help="images per update (default: by the machine)")
    parser.flag("gpu", help="the GPU to use: its number, or none (default: the first, if there is one)")
    add_dataset_flags(parser)
    return parser


def _main(argv: Sequence[str]) -> int:
    flags = _parser().parse_args(argv)
    # the rest takes a while to import
    from caffe.recipe.checkout import checkout
    from caffe.recipe.rule import Wishes, choose, read_start
    from caffe.recipe.run import Run
    from caffe.recipe.survey import survey

    root = checkout()
    folder = Path(flags.folder).expanduser().resolve()
    out = Path(flags.out or f"jobs/{folder.name}").expanduser().resolve()
    if out == folder or out in folder.parents:
        raise CaffeError(f"-out '{out}' contains the photographs; give another directory")
    weights = read_start(Path(flags.weights or root / "demo/pretrain/ssd300_narrow.caffemodel").expanduser().resolve())
    machine = _machine(flags.gpu or "auto")
    dataset, parts = read_divided(flags, [out])
    data = survey(parts, root / "models/SSD300/VOC/deploy.prototxt")
    recipe = choose(data, machine, weights, Wishes(flags.network or "", flags.max_iter or 0, flags.batch or 0))
    classes = counted(len(data.objects), "class", "classes")
    print(f"{dataset.format} in '{flags.folder}': {counted(data.objects.total(), 'object')} of {classes}")
    print(f"{counted(data.train_images, 'image')} for training, {data.test_images:,} for testing: {parts.how}")
    print("".join(f"- {reason}\n" for reason in recipe.reasons), end="", flush=True)

    words = _import_flags(flags) + ([f"-without={out}"] if folder in out.parents else [])
    whole = Run(out, root, folder, recipe, data, words, flags.seed)
    if flags.dry_run:
        whole.show()
        return 0
    try:
        whole.run()
    except KeyboardInterrupt:
        reached = f" after iteration {whole.iteration:,}" if whole.iteration else ""
        print(f"\nStopped{reached}. This goes on:\n  {_typed('train_own', root)} {shlex.join(argv)}", flush=True)
        return startup.INTERRUPTED
    longer = [*_without(argv, "max_iter"), f"-max_iter={2 * recipe.max_iter}"]
    place = whole.place
    detector = map(str, (place.model / "deploy.prototxt", place.best, "PHOTOGRAPH", "-labelmap_file", place.labels))
    print(
        f"\nEverything is in {out}; commands.sh has the commands. To detect in other photographs, and to train longer:"
    )
    print(f"  {_typed('ssd_detect', root)} {shlex.join(detector)} -draw drawn")
    print(f"  {_typed('train_own', root)} {shlex.join(longer)}")
    return 0


def _typed(command: str, root: Path) -> str:
    """A command as it can be typed here: its script, if the environment is not active."""
    script = {"ssd_detect": "detect"}.get(command, command)
    return command if shutil.which(command) else f"{root}/scripts/{script}.sh"


def _without(argv: Sequence[str], flag: str) -> list[str]:
    """A command's words without a flag and its value."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        if not word.startswith("-") or name.replace("-", "_") != flag:
            kept.append(word)
        elif not equals:
            next(words, None)
    return kept


def _import_flags(flags: argparse.Namespace) -> list[str]:
    """The flags of import_annotations that differ from its defaults."""
    defaults = _parser().parse_args([flags.folder])
    words = []
    for name in ("format", "names", "test_share", "own_split", "seed", "skip_faulty", "keep_unannotated"):
        value = getattr(flags, name)
        if value != getattr(defaults, name):
            value = Path(value).expanduser().resolve() if name == "names" else value
            words.append(f"-{name}={str(value).lower() if isinstance(value, bool) else value}")
    return words


def _machine(gpu: str) -> Machine:
    import torch

    from caffe.recipe.rule import Machine

    cores = len(os.sched_getaffinity(0))
    if gpu == "none" or (gpu == "auto" and not torch.cuda.is_available()):
        return Machine(cores)
    from caffe.cli.devices import parse_gpus

    gpus = parse_gpus("0" if gpu == "auto" else gpu)
    if len(gpus) != 1:
        raise CaffeError(f"-gpu {gpu}: train_own uses one GPU; the commands that it prints take several")
    return Machine(cores, gpus[0], torch.cuda.get_device_properties(gpus[0]).total_memory)


if __name__ == "__main__":
    raise SystemExit(main())
