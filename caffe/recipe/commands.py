"""The steps from a folder to a detector, each as the commands that a user would type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe.default_boxes.net_layout import read_layout
from caffe.recipe.rule import Recipe
from caffe.recipe.survey import Survey

#: with proposals, a net has up to this many times as many default boxes
_MORE_BOXES = 1.5
#: pictures that are drawn, and the lowest score that is shown in them
PICTURES, DRAWN = 24, "0.4"


@dataclass(frozen=True)
class Step:
    """A step: its name in the record of what is done, its title, its commands, and files that it makes.

    The first word of a command is its program.
    """

    name: str
    title: str
    commands: tuple[tuple[str, ...], ...]
    makes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Place:
    """The files of a run, in its directory."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def labels(self) -> Path:
        return self.data / "labelmap.prototxt"

    @property
    def model(self) -> Path:
        return self.out / "model"

    @property
    def best(self) -> Path:
        return self.out / "best.caffemodel"

    @property
    def start(self) -> Path:
        return self.model / "start.caffemodel"

    def lmdb(self, part: str) -> Path:
        return self.out / "lmdb" / f"{part}_lmdb"

    def prefix(self, recipe: Recipe) -> Path:
        """Where snapshots begin: `<prefix>_iter_<N>.caffemodel`."""
        return self.model / recipe.network


def preparation(
    place: Place, root: Path, folder: Path, name: str, recipe: Recipe, data: Survey, flags: Sequence[str], seed: int
) -> list[Step]:
    """The steps before training. `flags` are those of import_annotations; `root` is the checkout."""
    published = root / "models" / recipe.network.upper() / "VOC" / "deploy.prototxt"
    databases = tuple(
        _words("convert_annoset", "-anno_type=detection", f"-label_map_file={place.labels}", "-check_label", "-encoded",
               "-encode_type=jpg", "-redo", f"{place.data}/", place.data / "lists" / f"{part}.txt", place.lmdb(part))
        for part in ("trainval", "test")
    )  # fmt: skip
    boxes = _words("design_boxes", place.lmdb("trainval"), "-net", published, "-label_map_file", place.labels)
    if recipe.design:
        sources = () if recipe.design == "all" else ("-sources", recipe.design)
        most = str(int(_MORE_BOXES * read_layout(published).count))
        boxes += _words(*sources, "-max_boxes", most, "-balance", "none")
    else:
        boxes += ("-nopropose",)
    boxes += _words("-out", place.out / "boxes")
    return [
        Step("data", "Images, boxes, classes, and their division",
             (_words("import_annotations", folder, place.data, *flags),), (place.labels, place.data / "lists")),
        Step("lmdb", "LMDBs", databases, (place.lmdb("trainval"), place.lmdb("test"))),
        Step("boxes", "Default boxes", (boxes,), (place.out / "boxes" / "boxes.json",)),
        Step("nets", "Networks and solver", (_generator(place, root, name, recipe, data, seed),),
             tuple(place.model / f"{net}.prototxt" for net in ("train", "test", "deploy", "solver"))),
        Step("check", "Problems in the data",
             (_words("check_dataset", "-label_map_file", place.labels, "-net", place.model / "train.prototxt", "-short",
                     "-out", place.out / "check", place.lmdb("trainval"), place.lmdb("test")),),
             (place.out / "check" / "check.html",)),
    ]  # fmt: skip


def _generator(place: Place, root: Path, name: str, recipe: Recipe, data: Survey, seed: int) -> tuple[str, ...]:
    gpu = "none" if recipe.gpu is None else str(recipe.gpu)
    fits = () if recipe.images_per_gpu is None else ("--images_per_gpu", str(recipe.images_per_gpu))
    return _words(
        "python", root / "prototxt_gen" / f"{recipe.network}.py", "--name", name, "--label_map", place.labels,
        "--train_lmdb", place.lmdb("trainval"), "--test_lmdb", place.lmdb("test"),
        "--test_name_size", place.data / "lists" / "test_name_size.txt", "--width", recipe.width,
        *(("--boxes", place.out / "boxes" / "boxes.json") if recipe.design else ()),
        *(("--start_from", recipe.weights.path) if recipe.weights.detector else ()),
        "--gpus", gpu, "--batch", recipe.batch, *fits, "--test_batch", test_batch(data.test_images),
        "--augmentation", "full", "--solver_type", recipe.solver_type, "--base_lr", f"{recipe.base_lr:g}",
        "--max_iter", recipe.max_iter, "--steps", recipe.step, "--test_interval", recipe.interval,
        "--snapshot", recipe.interval, "--snapshot_prefix", place.prefix(recipe), "--random_seed", seed + 1,
        "--result_dir", place.out / "results", "--output", place.model,
    )  # fmt: skip


def training(place: Place, recipe: Recipe) -> Step:
    """Training from the weights, or on from the newest whole snapshot."""
    weights = place.start if recipe.weights.detector else recipe.weights.path
    begin = ("-snapshot", "auto", "-weights", weights)
    command = _words(
        "caffe", "train", "-solver", place.model / "solver.prototxt", *begin, "-log_dir", place.out / "log"
    )
    return Step("train", "Training", (command + _gpu(recipe),))


def results(place: Place, name: str, recipe: Recipe, best: Path, data: Survey) -> list[Step]:
    """The steps after training, with the weights of the snapshot `best`."""
    pictures = place.out / "pictures.txt"
    test = _words("caffe", "test", "-model", place.model / "test.prototxt", "-weights", place.best, "-iterations",
                  data.test_images // test_batch(data.test_images), "-ap_version", "11point", "-minloglevel", "1")  # fmt: skip
    return [
        Step("test", "The best snapshot on the test images",
             (_words("cp", best, place.best), test + _gpu(recipe)), (place.best, place.out / "results")),
        Step("score", "Average precision of each class",
             (_words("score_voc", place.out / "results", "--voc", place.data, "--label_map_file", place.labels,
                     "--out", place.out / "score"),), (place.out / "score" / "score.json",)),
        Step("draw", "Pictures of test images",
             (_words("ssd_detect", place.model / "deploy.prototxt", place.best, pictures, "-labelmap_file",
                     place.labels, "-draw", place.out / "pictures", "-draw_threshold", DRAWN) + _gpu(recipe),),
             (place.out / "pictures",)),
        Step("report", "A page about the detector",
             (_words("caffe", "report", "-voc", place.data, "-title", name, "-out", place.out / "report.html",
                     f"{recipe.network.upper()}={place.out}"),), (place.out / "report.html",)),
    ]  # fmt: skip


def test_batch(images: int) -> int:
    """The largest batch up to 8 that the test images fill exactly, so that none is tested twice."""
    return next(batch for batch in range(8, 0, -1) if images % batch == 0)


def _gpu(recipe: Recipe) -> tuple[str, ...]:
    return () if recipe.gpu is None else ("-gpu", str(recipe.gpu))


def _words(*words: object) -> tuple[str, ...]:
    return tuple(map(str, words))
