"""`convert_annoset`: builds an LMDB from images and their annotations."""

from __future__ import annotations

from collections.abc import Sequence

from caffe import log
from caffe.cli.flags import LABEL_MAP, FlagParser, boolean, number, run
from caffe.data.build.annotations import PARSERS
from caffe.data.build.small_settings import SmallObjects
from caffe.data.slices import Slices
from caffe.errors import DataError

_EPILOG = """\
ROOTFOLDER holds images and annotations; each line of LISTFILE names an image and its annotation inside it:
    VOC2007/JPEGImages/000001.jpg VOC2007/Annotations/000001.xml
(for classification: an image and its label, a number). Every image and annotation is read before anything is
written. If anything is wrong, all faults are reported with file and object, and nothing is written.

    convert_annoset -anno_type=detection -label_map_file=labelmap_voc.prototxt -check_label -encode_type=jpg -encoded \\
        ~/data/VOCdevkit/ trainval.txt trainval_lmdb
"""


def add_image_flags(parser: FlagParser, seed_of: str) -> None:
    """The flags that convert_annoset and convert_imageset share. `seed_of`: what the seed decides."""
    parser.flag("gray", type=boolean, default=False, help="store images in gray")
    parser.flag("shuffle", type=boolean, default=False, help="write the records in random order")
    parser.flag("seed", type=number(int, 0), default=0, help=f"seed of {seed_of}")
    parser.flag("backend", default="lmdb", help="database to write; only lmdb")
    parser.flag("resize_width", type=int, default=0, help="warp images to this width (with resize_height)")
    parser.flag("resize_height", type=int, default=0, help="warp images to this height (with resize_width)")
    parser.flag("check_size", type=boolean, default=False, help="refuse images of different sizes")
    parser.flag("encoded", type=boolean, default=False, help="store images compressed, as their files are")
    parser.flag("encode_type", default="", help="store images compressed as jpg or png")
    parser.max_pixels()
    parser.flag("redo", type=boolean, default=False, help="replace an existing database")


def add_small_flags(parser: FlagParser) -> None:
    """Adds the flags that give training data more small objects."""
    defaults = SmallObjects()
    parser.flag(
        "paste_small",
        type=number(int, 0),
        default=0,
        help="paste up to this many copies of an image's small objects into free places of it; "
        "DB_NAME_pasted.txt lists them; for training data only",
    )
    parser.flag(
        "oversample_small",
        type=number(int, 1),
        default=1,
        help="write images with small objects this many times; with -paste_small, the first stays unchanged",
    )
    parser.flag(
        "small_side",
        type=number(float, 0, over=True),
        default=defaults.side,
        help="boxes are small if the square root of their area is less than this, in pixels",
    )
    parser.flag(
        "small_at",
        type=number(int, 1),
        default=defaults.at,
        help="size of the net's input, at which the side is measured",
    )
    parser.flag(
        "paste_overlap",
        type=number(float, 0, 1),
        default=defaults.overlap,
        help="maximum share of a copy or of an existing box that may overlap",
    )
    parser.flag(
        "paste_soft_edge",
        type=number(int, 0),
        default=defaults.soft_edge,
        help="width of the soft edge around a copy, in pixels; 0 for hard edges",
    )


def add_slice_flags(parser: FlagParser) -> None:
    """Adds the flags that cut large photographs."""
    parser.flag(
        "slices", default="", help="cut images into overlapping slices of HxW pixels, as ssd_detect -slices does"
    )
    parser.flag(
        "slice_overlap", type=number(float, 0, 0.95), default=0.2, help="share of a slice that the next one repeats"
    )
    parser.flag("slice_visible", type=number(float, 0, 1, over=True), default=0.5,
                help="keep an object in a slice that shows at least this share of it")  # fmt: skip
    parser.flag("slice_whole", type=boolean, default=True, help="write the whole image too")
    parser.flag("slice_empty", type=boolean, default=False, help="write slices without objects too")


def main(argv: Sequence[str] | None = None) -> int:
    return run("convert_annoset", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="convert_annoset", description="Builds an LMDB of AnnotatedDatum records.", epilog=_EPILOG)
    parser.add_argument("root", metavar="ROOTFOLDER/", help="directory of the images and annotations")
    parser.add_argument("list", metavar="LISTFILE", help="an image and its annotation per line")
    parser.add_argument("database", metavar="DB_NAME", help="directory to write")
    parser.flag("anno_type", default="classification", help="classification or detection", choices=_ANNO_TYPES)
    parser.flag("label_type", default="xml", help="annotation format: xml, json or txt", choices=sorted(PARSERS))
    parser.flag("label_map_file", aliases=LABEL_MAP, default="", help="LabelMap prototxt that gives names their labels")
    parser.flag("check_label", type=boolean, default=False, help="refuse a label map with one name or label twice")
    parser.flag("min_dim", type=int, default=0, help="enlarge images until the smaller side is this")
    parser.flag("max_dim", type=int, default=0, help="shrink images until the larger side is this")
    parser.flag(
        "turn", type=boolean, default=True,
        help="turn photographs as their orientation tag says, if their boxes were drawn on the turned image",
    )  # fmt: skip
    add_image_flags(parser, "the random order and of the pasted copies")
    add_small_flags(parser)
    add_slice_flags(parser)
    flags = parser.parse_args(argv)
    check_backend(flags.backend)
    from caffe.data.build.annoset import Task, build
    from caffe.data.build.sliced_records import Slicing
    from caffe.data.image_list import read_labels, read_pairs, shuffled
    from caffe.data.images import ImageFormat
    from caffe.data.label_map import LabelMap

    image_format = ImageFormat(
        gray=flags.gray, min_dim=max(0, flags.min_dim), max_dim=max(0, flags.max_dim),
        resize_height=max(0, flags.resize_height), resize_width=max(0, flags.resize_width),
        encoded=flags.encoded, encode_type=flags.encode_type,
    )  # fmt: skip
    small = SmallObjects(
        flags.paste_small, flags.oversample_small, flags.small_side, flags.small_at, flags.paste_overlap,
        flags.paste_soft_edge, flags.seed,
    )  # fmt: skip
    slicing = None
    if flags.slices:
        if flags.anno_type != "detection" or small.copies or small.repeats > 1 or flags.check_size:
            raise DataError(
                "-slices needs -anno_type=detection, and goes without -paste_small, -oversample_small and -check_size"
            )
        slices = Slices.parse(flags.slices, flags.slice_overlap, whole=flags.slice_whole)
        if not slices.height:
            raise DataError(
                "-slices AUTO is for ssd_detect, which knows the net's input; give HxW here, such as 300x300"
            )
        slicing = Slicing(slices, flags.slice_visible, flags.slice_empty)
    if flags.anno_type != "detection" and (small.copies or small.repeats > 1):
        raise DataError("-paste_small and -oversample_small need boxes: -anno_type=detection")
    lines: list[tuple[str, str | int]]
    if flags.anno_type == "detection":
        if not flags.label_map_file:
            raise DataError("detection needs -label_map_file: the classes and their labels")
        label_map = LabelMap.read(flags.label_map_file, strict=flags.check_label)
        task = Task(
            flags.root, image_format, flags.label_type, label_map, slicing=slicing, small=small, turn=flags.turn
        )
        lines = [*read_pairs(flags.list)]
    else:
        task = Task(flags.root, image_format)
        lines = [*read_labels(flags.list)]
    if flags.shuffle:
        log.info("convert_annoset.cpp:125", "Shuffling data")
        lines = shuffled(lines, flags.seed)
    build(lines, flags.database, task, check_size=flags.check_size, replace=flags.redo)


_ANNO_TYPES = ["classification", "detection"]


def check_backend(backend: str) -> None:
    """Only LMDB is written."""
    if backend.lower() != "lmdb":
        raise DataError(f"backend '{backend}' is not supported: use -backend=lmdb")


if __name__ == "__main__":
    raise SystemExit(main())
