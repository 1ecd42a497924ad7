"""The flags of the generators, and writing their files."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe import log
from caffe.cli.flags import LABEL_MAP, FlagParser, boolean, run
from caffe.errors import CaffeError, shown
from caffe.files import replacing
from caffe.proto.text import to_text
from prototxt_gen.inputs import Inputs, dataset_inputs, find_inputs
from prototxt_gen.layers import Width
from prototxt_gen.network import FINE_TUNING, FIRST, WHOLE, Network, deploy_net, test_net, train_net
from prototxt_gen.settings import DATASETS, Settings, check_steps, divide_batch, even_test_batch, scaled_steps
from prototxt_gen.solver import file_name, solver

if TYPE_CHECKING:
    from prototxt_gen.start import Start

DEFAULT_DATASET = "voc"
#: the beginning of the first line of every file
MADE_BY = "# Made by: "
EXAMPLES = """
examples:
  python prototxt_gen/{program}
      the paper's network for VOC, into models/{name}/VOC: the files that are already there
  python prototxt_gen/{program} --dataset coco --gpus 0,1 --images_per_gpu 8
      for COCO, into jobs/{name}/COCO; 8 images at a time on each of two GPUs, with iter_size for the batch of {batch}
  python prototxt_gen/{program} --label_map my/labelmap.prototxt --train_lmdb my/train_lmdb --test_lmdb my/test_lmdb \\
      --test_name_size my/test_name_size.txt --output my/{lower} --max_iter 20000
      for your own data: the label map gives the number of classes, the list that of test images
{start}  python prototxt_gen/{program} --width 0.25 --gpus none --batch 8
      a quarter of the channels, trained on the CPU
"""
START_EXAMPLE = """\
  python prototxt_gen/{program} --start_from ssd{size}.caffemodel
      also writes start.caffemodel, initial weights that compute what this SSD{size} computes
"""


def main(network: Network, argv: Sequence[str] | None = None) -> int:
    """The command line of one network's generator; returns the exit status."""
    return run(f"{network.name.lower()}.py", lambda arguments: _command(network, arguments), argv)


def _command(network: Network, arguments: Sequence[str]) -> None:
    flags = _parser(network).parse_args(arguments)
    settings = resolve(network, flags)
    if not settings.deep_side:
        network = network.without_deep_sides()
    if settings == released(network, flags.dataset):
        # Files equal to the checked-in ones name the same command, whatever the flags were.
        arguments = [] if flags.dataset == DEFAULT_DATASET else ["--dataset", flags.dataset]
    start = make_start(network, settings, flags.start_from) if getattr(flags, "start_from", None) else None
    command = shlex.join(["python", f"prototxt_gen/{network.name.lower()}.py", *arguments])
    written = write(network, settings, command)
    weights = None if settings.training == WHOLE else network.weights
    if start is not None:
        weights = f"{settings.output}/start.caffemodel"
        start.save(weights)
        written.append(
            "\n  ".join([f"{weights}, initial weights that compute what {flags.start_from} computes", *start.notes])
        )
    gpus = f" -gpu {','.join(map(str, settings.gpus))}" if settings.gpus else ""
    devices = max(1, len(settings.gpus))
    kind = f"GPU{'s' if devices > 1 else ''}" if settings.gpus else "process"
    batch = settings.batch_per_gpu * devices * settings.iter_size
    print(
        f"{settings.net_name}: {network.size} x {network.size} input, {settings.num_classes} classes with background, "
        f"from {settings.label_map}\n"
        f"trained on {settings.train_lmdb}, tested on the {settings.num_test_images} images of {settings.test_lmdb}\n"
        f"batch {batch} = {settings.batch_per_gpu} images x {devices} {kind} x iter_size {settings.iter_size}\n"
        f"{settings.max_iter} iterations, learning rate {settings.base_lr:g}, a tenth at "
        f"{', '.join(map(str, settings.steps)) or 'no step'}\n"
        + ("" if start else _new_heads(network, settings))
        + "".join(f"wrote {path}\n" for path in written)
        + f"train with: caffe train -solver {settings.output}/solver.prototxt"
        + (f" -weights {weights}" if weights else "")
        + gpus
    )
    if (second := fine_tuning(network, settings)) is not None:
        print(
            f"then with: caffe train -solver {settings.output}/{file_name('solver', second)} -weights "
            f"{settings.snapshot_prefix}_iter_{settings.max_iter}.caffemodel{gpus}"
        )


def _new_heads(network: Network, settings: Settings) -> str:
    """Returns a message about heads that cannot load trained weights because their number of boxes differs."""
    released = network.default_boxes("released", settings.dataset)
    new = [
        f"{source.blob} ({before.count} boxes to {after.count})"
        for source, before, after in zip(network.sources, released, settings.boxes or released, strict=True)
        if after.count != before.count
    ]
    if not new:
        return ""
    return (
        f"heads that start from scratch, because their number of boxes differs: {', '.join(new)}; to load weights of "
        "a net with the released boxes, remove the layers <name>_mbox_loc and <name>_mbox_conf of these from the file\n"
    )


def make_start(network: Network, settings: Settings, ssd: str) -> Start:
    """Returns the initial weights for --start_from."""
    from prototxt_gen.vgg import VGGNetwork

    assert isinstance(network, VGGNetwork)
    from prototxt_gen.start import start_from  # this imports PyTorch, which is not needed for the prototxts

    with log.quiet():
        return start_from(ssd, network, settings)


def resolve(network: Network, flags: argparse.Namespace) -> Settings:
    """Returns the settings for `flags`. Raises CaffeError for files that do not exist or do not match each other.

    Without --output, files that are equal to the checked-in ones go to models/. Everything else, and everything with
    --start_from, goes to jobs/.
    """
    inputs = find_inputs(DATASETS[flags.dataset], flags)
    settings = _settings(network, flags, inputs, "models")
    if flags.output or (settings == released(network, flags.dataset) and not getattr(flags, "start_from", None)):
        return settings
    return _settings(network, flags, inputs, "jobs")


def released(network: Network, dataset: str) -> Settings | None:
    """Returns the settings of the files under models/, which are those of a run without flags on any machine.

    Returns None in a directory without the data set's label map, because it has no models/ either.
    """
    if not Path(DATASETS[dataset].label_map).is_file():
        return None
    flags = _parser(network).parse_args(["--dataset", dataset])
    return _settings(network, flags, dataset_inputs(DATASETS[dataset]), "models")


def _settings(network: Network, flags: argparse.Namespace, inputs: Inputs, folder: str) -> Settings:
    dataset = DATASETS[flags.dataset]
    fits = flags.images_per_gpu or network.images_per_gpu
    batch_per_gpu, iter_size = divide_batch(flags.batch or network.batch, len(flags.gpus), fits)
    schedule = network.schedule(flags.dataset)
    max_iter = flags.max_iter or schedule.max_iter
    steps = scaled_steps(schedule.steps, schedule.max_iter, max_iter) if flags.steps is None else flags.steps
    check_steps(steps, max_iter)

    if flags.boxes and flags.scales != "released":
        raise CaffeError(f"--boxes {flags.boxes} and --scales {flags.scales} both give the default boxes; give one")

    width = Width(flags.width, flags.min_channels)
    deep_side = not (network.fuses and flags.without_deep_side)
    net = network.name if width.fraction == 1 else f"{network.name}x{float(width.fraction):.4g}"
    if not deep_side:
        net += "-shallow"
    data_name = flags.name or (_name_of(inputs.label_map) if inputs.own_classes else dataset.name)
    net_name = f"{net}_{data_name}"
    output = (flags.output or f"{folder}/{net}/{data_name}").rstrip("/") or "/"
    own_name = inputs.own_classes or flags.name
    result_dir = f"results/{data_name}/{net}" if own_name else dataset.result_dir.format(net=net)
    return Settings(
        net_name=net_name,
        dataset=flags.dataset,
        scales=flags.scales,
        width=width,
        label_map=inputs.label_map,
        num_classes=inputs.num_classes,
        train_lmdb=inputs.train_lmdb,
        test_lmdb=inputs.test_lmdb,
        test_name_size=inputs.test_name_size,
        num_test_images=inputs.num_test_images,
        test_batch=flags.test_batch or even_test_batch(inputs.num_test_images),
        gpus=flags.gpus,
        batch_per_gpu=batch_per_gpu,
        iter_size=iter_size,
        augmentation=flags.augmentation,
        solver_type=flags.solver_type,
        base_lr=flags.base_lr or schedule.base_lr,
        max_iter=max_iter,
        steps=steps,
        snapshot=flags.snapshot or min(10_000, max_iter),
        snapshot_prefix=flags.snapshot_prefix or f"{output}/{net_name}",
        test_interval=flags.test_interval or min(10_000, max_iter),
        random_seed=flags.random_seed,
        result_dir=flags.result_dir or result_dir,
        result_prefix="comp4_det_test_" if dataset.result_format == "VOC" else f"detections_{net.lower()}",
        result_format=dataset.result_format,
        output=output,
        boxes=network.boxes_of(flags.boxes) if flags.boxes else None,
        frozen=flags.freeze,
        offset=getattr(flags, "offset", "published").replace("centred", "centered"),
        training=WHOLE if getattr(flags, "from_scratch", False) else FIRST,
        deep_side=deep_side,
    )


def fine_tuning(network: Network, settings: Settings) -> Settings | None:
    """Returns the settings of the second training, if there is one: shorter or longer as the first one is."""
    if settings.training == WHOLE or settings.dataset not in network.fine_tuning:
        return None
    first, second = network.schedule(settings.dataset), network.fine_tuning[settings.dataset]
    max_iter = max(1, round(second.max_iter * settings.max_iter / first.max_iter))
    return replace(
        settings,
        training=FINE_TUNING,
        base_lr=settings.base_lr * second.base_lr / first.base_lr,
        max_iter=max_iter,
        steps=tuple(step for step in scaled_steps(second.steps, second.max_iter, max_iter) if step),
        snapshot=min(settings.snapshot, max_iter),
        snapshot_prefix=f"{settings.snapshot_prefix}_{FINE_TUNING}",
        test_interval=min(settings.test_interval, max_iter),
    )


def _name_of(label_map: str) -> str:
    return Path(label_map).stem.removeprefix("labelmap").strip("_-") or Path(label_map).stem


def write(network: Network, settings: Settings, command: str) -> list[str]:
    """Writes train, test, deploy and solver.prototxt into `settings.output`; each appears complete or not at all.

    A network with a second training also gets train_ft.prototxt and solver_ft.prototxt. Files that are about to be
    replaced with different contents are named first.
    """
    # The solver comes last: if it exists, its nets exist.
    messages = {
        "train": train_net(network, settings),
        "test": test_net(network, settings),
        "deploy": deploy_net(network, settings),
    }
    if (second := fine_tuning(network, settings)) is not None:
        messages["train_ft"] = train_net(network, second)
        messages["solver_ft"] = solver(second)
    messages["solver"] = solver(settings)
    texts = {
        f"{settings.output}/{name}.prototxt": f"{MADE_BY}{command}\n{to_text(message)}"
        for name, message in messages.items()
    }
    Path(settings.output).mkdir(parents=True, exist_ok=True)
    Path(settings.snapshot_prefix).parent.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        if Path(path).is_file() and (old := Path(path).read_text(encoding="utf-8", errors="replace")) != text:
            print(f"replacing {path}, {_origin(old)}")
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)
    return list(texts)


def _origin(text: str) -> str:
    first = text.partition("\n")[0]
    return (
        f"made by: {shown(first.removeprefix(MADE_BY), 200)}"
        if first.startswith(MADE_BY)
        else "not made by a generator"
    )


def _parser(network: Network) -> FlagParser:
    program = f"{network.name.lower()}.py"
    parser = FlagParser(
        prog=f"python prototxt_gen/{program}",
        description=f"Writes {network.name}'s train.prototxt, test.prototxt, deploy.prototxt and solver.prototxt.",
        epilog=EXAMPLES.format(
            program=program,
            name=network.name,
            lower=network.name.lower(),
            batch=network.batch,
            start=START_EXAMPLE.format(program=program, size=network.size) if network.starts_from_ssd else "",
        ),
    )
    flag = parser.flag
    flag(
        "dataset",
        default=DEFAULT_DATASET,
        choices=sorted(DATASETS),
        help="data set whose box sizes, schedule, paths and result format are used",
    )
    flag("name", help="name of the data in the nets' names and folders (default: VOC, COCO, or the label map's)")
    flag("label_map", aliases=LABEL_MAP,
         help="LabelMap prototxt; the number of classes is its number of items (default: the data set's). "
         "Classes other than the data set's also need --train_lmdb, --test_lmdb and --test_name_size")  # fmt: skip
    flag("num_classes", type=_positive, help="including the background; only to check the label map")
    flag("train_lmdb", help="training data (default: the data set's, examples/...)")
    flag("test_lmdb", help="test data (default: the data set's, examples/...)")
    flag("test_name_size", help="list of the test images (name height width), which also gives their number")
    flag("num_test_images", type=_positive, help="number of test images, if that list does not exist yet")
    flag(
        "test_batch",
        type=_positive,
        help="images per test batch (default: up to 8, so that all batches are full)",
    )
    flag("batch", type=_positive, help=f"images per update, over all GPUs and iter_size (default: {network.batch})")
    flag("gpus", type=_gpus, default="0", help="devices to divide the batch over, e.g. 0,1; none for the CPU")
    flag("images_per_gpu", type=_positive, help="maximum that fits into a GPU's memory; iter_size completes the batch")
    flag("width", type=_fraction, default="1", help="share of the channels, e.g. 0.25 or 1/4; multiples of 8")
    flag("min_channels", type=_positive, default=8, help="minimum number of channels of a layer with --width")
    flag(
        "scales", default="released", choices=("released", "linear"),
        help="default box sizes: those of the released SSD models, or evenly from 0.2 to 0.9 of the image",
    )  # fmt: skip
    flag("boxes", help="file of default boxes made by design_boxes -out, instead of --scales")
    flag("freeze", type=_names, default=(), help="layers whose weights do not change, e.g. conv1,conv2; this makes "
         "fine-tuning faster, because backward ends above them (default: none)")  # fmt: skip
    flag(
        "augmentation", default="full", choices=("full", "mirror"),
        help="of training images: SSD's, or only mirroring for short runs",
    )  # fmt: skip
    flag("solver_type", default="SGD", choices=("SGD", "Adam"), help="update rule; the paper's is SGD")
    voc, coco = network.schedule("voc"), network.schedule("coco")
    flag("base_lr", type=_rate, help=f"learning rate at the start (default: {voc.base_lr:g})")
    flag("max_iter", type=_positive, help=f"iterations (default: voc {voc.max_iter}, coco {coco.max_iter})")
    flag("steps", type=_steps, help="iterations where the rate falls to a tenth, e.g. 60000,100000 (default: those of "
         "the published schedule, scaled to max_iter); none for a constant rate")  # fmt: skip
    flag("snapshot", type=_positive, help="iterations between snapshots (default: 10000, at most max_iter)")
    flag("snapshot_prefix", help="prefix of the snapshots' paths (default: OUTPUT/name of the net)")
    flag("test_interval", type=_positive, help="iterations between tests (default: 10000, at most max_iter)")
    flag("random_seed", type=int, help="makes the run repeatable")
    if any(source.offset != 0.5 for source in network.sources):
        flag(
            "offset", default="published", choices=("published", "centered", "centred"),
            help="the published networks center their default boxes 16 pixels or more off their cells, and released "
                 "weights were trained so; centered: on their cells",
        )  # fmt: skip
    if network.fine_tuning:
        flag(
            "from_scratch", type=boolean, default=False,
            help="one training of all layers from random numbers, in place of the two that start from a trained SSD",
        )  # fmt: skip
    if network.starts_from_ssd:
        flag(
            "start_from",
            metavar="SSD.caffemodel",
            help="also write start.caffemodel, initial weights that compute what this trained SSD computes",
        )
    if network.fuses:
        flag(
            "without_deep_side", type=boolean, default=False,
            help="leave out the deconvolutions of the fusion modules; a control that shows what they contribute",
        )  # fmt: skip
    flag("output", help=f"directory for the prototxts (default: jobs/{network.name}/<name of the data>; "
         "models/... if all settings are the data set's own)")  # fmt: skip
    flag("result_dir", help="directory for the detections that testing writes (default: results/...)")
    return parser


def _checked(convert: Callable[[str], Any], good: Callable[[Any], bool], what: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None or not good(value):
            raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
        return value

    return parse


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _numbers(text: str) -> tuple[int, ...]:
    return () if text in ("", "none") else tuple(int(part) for part in text.split(","))


_positive = _checked(int, lambda n: n > 0, "a positive integer")
_rate = _checked(float, lambda rate: 0 < rate < float("inf"), "a positive number")
_fraction = _checked(Fraction, lambda part: 0 < part <= 4, "a share such as 0.25 or 1/4")
_steps = _checked(_numbers, lambda steps: all(s > 0 for s in steps), "a list of iterations such as 60000,100000")
_gpus = _checked(
    _numbers,
    lambda ids: len(set(ids)) == len(ids) and all(i >= 0 for i in ids),
    "a list of different device numbers such as 0,1, or none",
)
