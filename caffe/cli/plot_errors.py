"""`plot_errors`: sheets of images that show what a detector gets wrong, and where two models differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe.cli import voc_flags
from caffe.cli.flags import FlagParser, number, run
from caffe.detection import cases
from caffe.detection.hoiem import SimilarClasses
from caffe.errors import DataError, shown
from caffe.files import check_target, replacing

if TYPE_CHECKING:
    from caffe.detection.box_drawing import Image
    from caffe.detection.image_folder import Images

_EPILOG = f"""\
{voc_flags.EPILOG}
    plot_errors results/SSD300 results/MDSSD300 --voc ~/data/VOCdevkit/VOC2007 --out sheets

It writes side_by_side.jpg: images on which the first and the last model differ most, with the detections of each
(several RESULTS); and for each model: false.jpg, the false detections of the highest score; missed.jpg, the missed
objects that are the most surprising; best.jpg and worst.jpg, images by their own AP. docs/evaluation.md explains them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("plot_errors", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="plot_errors", description="Draws false, missed and differing detections.", epilog=_EPILOG)
    voc_flags.add(parser)
    parser.flag("images", help="directory of the images (default: JPEGImages in --voc)")
    parser.flag("score", type=number(float, 0, 1), default=cases.SHOWN, help="show detections from this score on")
    parser.flag("count", type=number(int, 1, 300), default=12, help="number of images on a sheet")
    parser.flag(
        "show", help="file of image names for side_by_side.jpg (default: those on which the models differ most)"
    )
    parser.flag("out", default="sheets", help="directory for the sheets")
    flags = parser.parse_args(argv)
    from caffe.cli.detection_files import make_folder

    voc_flags.check(parser, flags)
    if not flags.images and not flags.voc:
        parser.error("--annotations needs --images, the directory of the images")
    import cv2

    from caffe.detection.image_folder import Images

    check_target(Path(flags.out) / "false.jpg")
    images = Images(flags.images or Path(flags.voc) / "JPEGImages")
    compared = voc_flags.read(flags)
    similar = voc_flags.similar(flags, compared)
    wanted = _wanted(flags.show, compared) if flags.show else None
    images.check(compared.truth.images)
    folder = Path(flags.out)
    written = []
    for name, sheet in _sheets(images, compared, similar, wanted, flags):
        make_folder(folder)
        with replacing(folder / name) as temporary:
            temporary.write_bytes(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
        written.append(name)
    print(f"Written to {folder}: {', '.join(written) or 'nothing, as there is no detection and no object to show'}")


def _wanted(path: str, compared: voc_flags.Compared) -> list[str]:
    """Reads the names of the images to show."""
    from caffe.data.image_list import read_lines

    names = [line.split()[0] for _, line in read_lines(path)]
    strangers = [name for name in names if name not in compared.truth.images]
    if strangers:
        raise DataError(f"'{path}': image '{shown(strangers[0])}' is not in the image list of the ground truth")
    return names


def _sheets(
    images: Images, compared: voc_flags.Compared, similar: SimilarClasses | None, wanted: Sequence[str] | None,
    flags: argparse.Namespace,
) -> Iterator[tuple[str, Image]]:  # fmt: skip
    """Yields the name and the image of each sheet that has something to show."""
    from caffe.detection import sheets

    truth, threshold, score, count = compared.truth, flags.overlap, flags.score, flags.count
    if len(compared.models) > 1:
        # a row has a tile per model, so fewer rows than there are tiles on the other sheets
        names = wanted or cases.differing_images(truth, compared.models, max(count // 2, 1), threshold=threshold)
        if names:
            yield "side_by_side.jpg", sheets.side_by_side(images, names, truth, compared.models, score=score)
    for model, found in compared.models.items():
        suffix = f"_{voc_flags.file_stem(model)}" if len(compared.models) > 1 else ""
        false = cases.false_detections(truth, found, similar=similar, threshold=threshold, score=score, limit=count)
        missed = cases.missed_objects(truth, found, threshold=threshold, score=score, limit=count)
        scores = cases.image_scores(truth, found, threshold=threshold, score=score)
        best, worst = cases.best_and_worst(scores, count)
        if false:
            yield f"false{suffix}.jpg", sheets.false_sheet(images, false)
        if missed:
            yield f"missed{suffix}.jpg", sheets.missed_sheet(images, missed)
        for name, chosen in (("best", best), ("worst", worst)):
            if chosen:
                yield f"{name}{suffix}.jpg", sheets.image_sheet(images, chosen, truth, found, score=score)


if __name__ == "__main__":
    raise SystemExit(main())
