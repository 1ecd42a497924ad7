"""`import_annotations`: a folder of photographs and boxes in any usual layout, made ready for training."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe import log
from caffe.cli.flags import FlagParser, boolean, number, run
from caffe.data.formats import FORMAT_NAMES
from caffe.errors import DataError, counted

if TYPE_CHECKING:
    from caffe.data.formats.dataset import Dataset
    from caffe.data.formats.splitting import Split

_EPILOG = """\
FOLDER holds images and annotations anywhere in it, as VOC XML, YOLO text, COCO JSON (of COCO, Roboflow, CVAT, Label
Studio, labelme2coco), CSV, LabelMe JSON, LabelMe XML or CVAT XML. Writes into OUT
    JPEGImages/            a link to each image
    Annotations/           a VOC XML file for each
    ImageSets/Main/        trainval.txt and test.txt: the folder's own division, or a share for testing drawn at random
    labelmap.prototxt      the classes
    lists/                 what create_list would write: trainval.txt, test.txt, test_name_size.txt
    images.tsv             the names of the links and the images behind them

    import_annotations photographs my
    scripts/create_data.sh -n my -r my -l my/lists -m my/labelmap.prototxt
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("import_annotations", _main, argv)


def add_dataset_flags(parser: FlagParser) -> None:
    """The flags that say what of a folder is used and how it is divided; train_own has them too."""
    parser.flag("format", default="", choices=["", *FORMAT_NAMES], metavar="NAME",
                help=f"annotations to use: {', '.join(FORMAT_NAMES)} (default: those of most images)")  # fmt: skip
    parser.flag("names", default="", help="file with one class name per line, for YOLO text without classes.txt")
    parser.flag("test_share", type=number(float, 0, 1), default=0.2, help="share of the images for testing")
    parser.flag("own_split", type=boolean, default=True, help="use the folder's own division, if it has one")
    parser.flag("seed", type=number(int, 0), default=0, help="seed of the division and of trainval.txt's order")
    parser.flag("skip_faulty", type=boolean, default=False, help="leave out images whose annotations have faults")
    parser.flag("keep_unannotated", type=boolean, default=False,
                help="use images without annotation as images without objects, instead of leaving them out")  # fmt: skip


def read_divided(flags: argparse.Namespace, without: Sequence[Path]) -> tuple[Dataset, Split]:
    """The data set of `flags` and its division. Raises DataError with all faults, unless they are to be skipped."""
    from caffe.data.formats.reading import read_dataset
    from caffe.data.formats.splitting import split
    from caffe.data.formats.yolo import read_names
    from caffe.data.image_list import raise_faults

    folder = Path(flags.folder).expanduser()
    names = read_names(Path(flags.names)) if flags.names else []
    dataset = read_dataset(
        folder, without=without, form=flags.format, class_names=names, keep_unannotated=flags.keep_unannotated
    )
    if dataset.faults and not (flags.skip_faulty and dataset.images):
        note = "-skip_faulty leaves the images out that have them."
        raise_faults(dataset.faults, f"'{folder}'; nothing was written", note)
    if not any(image.objects for image in dataset.images):
        raise DataError(f"'{folder}' has {len(dataset.images):,} annotated images without any object")
    return dataset, split(dataset.images, flags.test_share, flags.seed, own=flags.own_split)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="import_annotations",
        description="Finds images and their boxes in a folder; writes VOC's layout, lists and a label map.",
        epilog=_EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", help="directory of the images and annotations; it is not changed")
    parser.add_argument("out", metavar="OUT", help="directory to write")
    add_dataset_flags(parser)
    parser.flag("without", default="", help="directory in FOLDER to leave out, besides OUT")
    parser.flag("copy", type=boolean, default=False, help="copy the images instead of linking them")
    flags = parser.parse_args(argv)
    from caffe.data.formats.class_names import label_map_of
    from caffe.data.formats.voc_layout import write_layout

    folder, out = Path(flags.folder).expanduser(), Path(flags.out).expanduser()
    if out.resolve() == folder.resolve():
        raise DataError(f"OUT '{out}' is FOLDER itself; give another directory")
    dataset, parts = read_divided(flags, [out, *([Path(flags.without).expanduser()] if flags.without else [])])
    for fault in dataset.faults[:10]:
        log.warning(log.here(), f"left out: {fault}")
    if dataset.faults:
        log.warning(log.here(), f"{len(dataset.faults):,} faults; the images that have them were left out")
    for remark in (*dataset.remarks, *(f"{what}: {count:,}" for what, count in dataset.notes.items())):
        log.warning(log.here(), remark)
    labels, labeled, unused = label_map_of(dataset.images, dataset.class_names)
    if unused:
        log.warning(log.here(), f"{len(unused):,} classes have no objects and are left out: {', '.join(unused[:20])}")
    for name, safe in labeled.items():
        if name != safe:
            log.warning(log.here(), f"class '{name}' is called '{safe}' in files")
    write_layout(out, folder, parts, labels, labeled, flags.seed, copy=flags.copy)

    counts = Counter(each.name for image in dataset.images for each in image.objects)
    tested = {each.name for image in parts.test for each in image.objects}
    trained = {each.name for image in parts.train for each in image.objects}
    print(f"{dataset.format}: {counted(len(dataset.images), 'image')}, {counted(counts.total(), 'object')}")
    each = ", ".join(f"{name} {counts[name]:,}" for name in labeled)
    print(f"{counted(len(labeled), 'class', 'classes')}: {each}")
    for what, missing in (("testing", labeled.keys() - tested), ("training", labeled.keys() - trained)):
        if missing:
            log.warning(log.here(), f"no objects for {what} of: {', '.join(sorted(missing))}")
    print(f"{counted(len(parts.train), 'image')} for training, {len(parts.test):,} for testing: {parts.how}")
    print(f"wrote {out}: JPEGImages, Annotations, ImageSets/Main, labelmap.prototxt, lists")


if __name__ == "__main__":
    raise SystemExit(main())
