"""`caffe report`: one page about one or several trained detectors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe.cli.flags import FlagParser, boolean, run
from caffe.cli.version import provenance
from caffe.errors import CaffeError, DataError, counted
from caffe.files import check_target, write_text

if TYPE_CHECKING:
    from caffe.detection import voc

EXAMPLES = """\
RUN is the directory of a run, or NAME=DIRECTORY. Runs with the same name are several seeds of one model: their mean and
its 95 % interval are shown. What is looked for in a directory: solver.prototxt (or model/solver.prototxt), results
where its test net writes them or in results/, log/metrics.csv or log/caffe.INFO, boxes/reach.json.

examples:
  caffe report -voc VOCdevkit/VOC2007 models/MDSSD300/VOC
  caffe report -voc data/my -out report.html SSD300=runs/ssd MDSSD300=runs/mdssd -speed speed.json
  caffe report -voc data/my MDSSD300=runs/seed1 MDSSD300=runs/seed2 MDSSD300=runs/seed3
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe report", description="Make one HTML page about trained detectors.", epilog=EXAMPLES)
    p.add_argument("runs", metavar="RUN", nargs="+", help="directory of a run, or NAME=DIRECTORY")
    p.flag("out", default="report.html", help="the page")
    p.flag("title", default="", help="the page's title (default: the name of the data set's directory)")
    p.flag("voc", help="directory with Annotations, JPEGImages and ImageSets/Main")
    p.flag("set", default="test", help="list in ImageSets/Main, with -voc")
    p.flag("annotations", help="directory of the XML annotations, instead of -voc")
    p.flag("list", help="file of image names, one per line, with -annotations")
    p.flag("images", help="directory of the images (default: JPEGImages of -voc)")
    p.flag("train_list", help="names of the training images, to compare (default: trainval or train of -voc)")
    p.flag("prefix", default="comp4_det_test_", help="prefix of the result files' names")
    p.flag("overlap", type=float, default=0.5, help="overlap at which an object is found")
    p.flag("area", type=boolean, default=False, help="AP as the area under the curve (VOC 2010 on), not 11 points")
    p.flag("similar", help="file with sets of similar classes, one per line (default: VOC's for VOC's classes)")
    p.flag("speed", help="JSON of scripts/speed.sh, to be shown")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe report", _command, argv)


def _command(argv: Sequence[str]) -> None:
    p = parser()
    flags = p.parse_args(argv)
    if bool(flags.voc) == bool(flags.annotations or flags.list) or bool(flags.annotations) != bool(flags.list):
        p.error("give either -voc, or -annotations and -list")
    if not 0 < flags.overlap <= 1:
        p.error(f"-overlap {flags.overlap}: must be over 0 and at most 1")
    check_target(flags.out)
    from caffe.detection import hoiem, voc
    from caffe.detection.image_folder import Images
    from caffe.report import page, runs, speed_file
    from caffe.report.analysis import analyze

    found = [runs.find_run(name, folder, flags.prefix) for name, folder in map(_name_and_folder, flags.runs)]
    for place, each in enumerate(found):
        if any(each.folder.resolve() == other.folder.resolve() for other in found[:place]):
            raise CaffeError(f"'{each.folder}' is given twice; give each run once")
    speed = speed_file.read(flags.speed) if flags.speed else None
    home = Path(flags.voc) if flags.voc else None
    if home is not None:
        truth = voc.read_ground_truth(*voc.in_layout(home, flags.set))
    else:
        truth = voc.read_ground_truth(flags.annotations, flags.list)
    folder = flags.images or (home / "JPEGImages" if home is not None and (home / "JPEGImages").is_dir() else None)
    images = Images(folder) if folder is not None else None
    if images is not None:
        images.check(truth.images)
    known = {*truth.classes, *(name for each in found for name in each.results)}
    similar = hoiem.SimilarClasses.read(flags.similar, known) if flags.similar else None
    analyses = {}
    for place, each in enumerate(found):
        if each.results:
            _check_classes(each, truth)
            analyses[place] = analyze(
                each, truth, eleven_points=not flags.area, threshold=flags.overlap, similar=similar
            )
    title = flags.title or (home.resolve().name if home is not None else Path(flags.list).stem)
    inputs = page.Inputs(
        title=title,
        models=page.group(found, analyses),
        truth=truth,
        images=images,
        train_list=_train_list(flags.train_list, home, flags.set),
        speed=speed,
        facts=_facts(truth),
    )
    text = page.render(inputs)
    if len(text.encode()) > page.LIMIT:
        raise CaffeError(
            f"the page would have {len(text) / 1e6:.0f} MB, over {page.LIMIT / 1e6:.0f}: give fewer runs at once"
        )
    write_text(flags.out, text)
    for model in inputs.models:
        score = "not scored yet" if model.mean_ap is None else f"mAP {100 * model.mean_ap:.1f}"
        print(f"{model.name}: {score}")
    print(f"Written to {flags.out} ({len(text.encode()) / 1e6:.1f} MB)")


def _name_and_folder(word: str) -> tuple[str, str]:
    name, equals, folder = word.partition("=")
    if equals and not Path(word).is_dir():
        if not name or not folder:
            raise CaffeError(f"'{word}': give a run as DIRECTORY or NAME=DIRECTORY")
        return name, folder
    return Path(word).resolve().name, word


def _check_classes(run: Any, truth: voc.GroundTruth) -> None:
    if not any(truth.count(name) for name in run.results):
        raise DataError(
            f"'{run.folder}': none of its classes ({', '.join(run.results)}) is in the annotations, which contain "
            f"{', '.join(truth.classes) or 'no object'}; are the results of another data set?"
        )


def _train_list(given: str | None, home: Path | None, test: str) -> Path | None:
    if given:
        return Path(given)
    if home is not None:
        for name in ("trainval", "train"):
            path = home / "ImageSets" / "Main" / f"{name}.txt"
            if path.is_file() and name != test:
                return path
    return None


def _facts(truth: voc.GroundTruth) -> dict[str, str]:
    objects = sum(truth.count(name) for name in truth.classes)
    difficult = sum(int(o.difficult.sum()) for of in truth.objects.values() for o in of.values())
    classes = counted(len(truth.classes), "class", "classes")
    facts = {"Test set": f"{counted(len(truth.images), 'image')}, {counted(objects, 'object')} of {classes}"}
    if difficult:
        facts["Test set"] += f", and {difficult:,} difficult"
    facts["Page made with"] = provenance()
    return facts


if __name__ == "__main__":
    sys.exit(main())
