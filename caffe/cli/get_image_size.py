"""`get_image_size`: the name, height and width of each image of a list."""

from __future__ import annotations

from collections.abc import Sequence

from caffe import log
from caffe.cli.flags import FlagParser, boolean, run


def main(argv: Sequence[str] | None = None) -> int:
    return run("get_image_size", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="get_image_size",
        description="Writes 'name height width' for each image of a list: the name_size_file of DetectionOutput.",
        epilog="    get_image_size ~/data/VOCdevkit/ test.txt test_name_size.txt",
    )
    parser.add_argument("root", metavar="ROOTFOLDER/", help="directory of the images")
    parser.add_argument("list", metavar="LISTFILE", help="an image and its annotation (or label) per line")
    parser.add_argument("output", metavar="OUTFILE", help="file to write")
    parser.flag("name_id_file", default="", help="lines of a name and an id: writes ids instead of names")
    parser.flag("turn", type=boolean, default=True, help="sizes of images that convert_annoset turns; give it the same")
    parser.max_pixels()
    flags = parser.parse_args(argv)
    from caffe.data.image_list import read_pairs
    from caffe.data.name_size import read_ids, write_name_sizes

    lines = read_pairs(flags.list)
    log.info("get_image_size.cpp:61", f"A total of {len(lines)} images.")
    ids = read_ids(flags.name_id_file) if flags.name_id_file else None
    write_name_sizes(flags.root, lines, flags.output, ids, turn=flags.turn)
    log.info("get_image_size.cpp:103", f"Processed {len(lines)} files.")


if __name__ == "__main__":
    raise SystemExit(main())
