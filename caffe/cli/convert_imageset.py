"""`convert_imageset`: builds an LMDB of Datum records from images and labels."""

from __future__ import annotations

from collections.abc import Sequence

from caffe import log
from caffe.cli.convert_annoset import add_image_flags, check_backend
from caffe.cli.flags import FlagParser, run

_EPILOG = """\
Each line of LISTFILE names an image inside ROOTFOLDER and its label, a number:
    n01440764/n01440764_18.JPEG 0
Every image is read before anything is written. If anything is wrong, all faults are reported and nothing is written.

    convert_imageset -resize_width=256 -resize_height=256 -shuffle images/ train.txt train_lmdb
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("convert_imageset", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="convert_imageset", description="Builds an LMDB of Datum records (classification).", epilog=_EPILOG
    )
    parser.add_argument("root", metavar="ROOTFOLDER/", help="directory of the images")
    parser.add_argument("list", metavar="LISTFILE", help="an image and its label per line")
    parser.add_argument("database", metavar="DB_NAME", help="directory to write")
    add_image_flags(parser, "the random order")
    flags = parser.parse_args(argv)
    check_backend(flags.backend)
    from caffe.data.build.annoset import Task, build
    from caffe.data.image_list import read_labels, shuffled
    from caffe.data.images import ImageFormat

    lines = read_labels(flags.list)
    if flags.shuffle:
        log.info("convert_imageset.cpp:92", "Shuffling data")
        lines = shuffled(lines, flags.seed)
    image_format = ImageFormat(
        gray=flags.gray, resize_height=max(0, flags.resize_height), resize_width=max(0, flags.resize_width),
        encoded=flags.encoded, encode_type=flags.encode_type,
    )  # fmt: skip
    task = Task(flags.root, image_format, annotated=False)
    build(
        [*lines], flags.database, task,
        check_size=flags.check_size, replace=flags.redo, program="convert_imageset",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
