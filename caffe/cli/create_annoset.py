"""`create_annoset`: convert_annoset with the dashed flags of SSD's scripts, and a link to the database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from caffe.cli import convert_annoset
from caffe.cli.flags import LABEL_MAP, FlagParser, run
from caffe.errors import DataError

_VALUES = {
    "anno-type": ("classification", "classification or detection"),
    "label-type": ("xml", "annotation format: xml, json or txt"),
    "label-map-file": ("", "LabelMap prototxt that gives names their labels"),
    "backend": ("lmdb", "database to write; only lmdb"),
    "encode-type": ("", "store images compressed as jpg or png"),
    "min-dim": ("0", "enlarge images until the smaller side is this"),
    "max-dim": ("0", "shrink images until the larger side is this"),
    "resize-height": ("0", "warp images to this height"),
    "resize-width": ("0", "warp images to this width"),
    "paste-small": ("0", "paste up to this many copies of an image's small objects into it"),
    "oversample-small": ("1", "write images with small objects this many times"),
    "small-side": ("32", "boxes are small if the square root of their area is less than this, in pixels"),
    "small-at": ("300", "size of the net's input, at which the side is measured"),
    "paste-overlap": ("0", "maximum share of a copy or of an existing box that may overlap"),
    "paste-soft-edge": ("2", "width of the soft edge around a copy, in pixels"),
    "seed": ("0", "seed of the random order and of the pasted copies"),
}
_SWITCHES = {
    "redo": "replace an existing database",
    "encoded": "store images compressed, as their files are",
    "gray": "store images in gray",
    "shuffle": "write the records in random order",
    "check-size": "refuse images of different sizes",
    "check-label": "refuse a label map with one name or label twice",
}

EXAMPLES = """\
example:
  create_annoset --anno-type=detection --label-map-file=models/labelmap_voc.prototxt --check-label --encoded \\
      ~/data/VOCdevkit data/VOC0712/test.txt ~/data/VOCdevkit/VOC0712/lmdb/VOC0712_test_lmdb examples/VOC0712
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("create_annoset", _main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = FlagParser(
        prog="create_annoset", description="Builds an LMDB as convert_annoset does, and a link to it in EXAMPLEDIR.",
        epilog=EXAMPLES, allow_abbrev=True,
    )  # fmt: skip
    parser.add_argument("root", help="directory of the images and annotations")
    parser.add_argument("listfile", help="an image and its annotation per line")
    parser.add_argument("outdir", help="directory of the database to write")
    parser.add_argument("exampledir", help="directory for the link")
    for name, (default, text) in _VALUES.items():
        parser.add_argument(f"--{name}", default=default, help=f"{text} (default: {default or 'none'})")
    parser.also("--label-map-file", LABEL_MAP)
    for name, text in _SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    flags = parser.parse_args(argv)
    given = vars(flags)
    if not os.path.isdir(flags.root):
        raise DataError(f"root directory '{flags.root}' does not exist")
    arguments = [f"-{name.replace('-', '_')}={given[name.replace('-', '_')]}" for name in _VALUES]
    arguments += [f"-{name.replace('-', '_')}" for name in _SWITCHES if given[name.replace("-", "_")]]
    if flags.anno_type != "detection":
        # flags for detection only; convert_annoset accepts them and does not use them
        arguments = [argument for argument in arguments if not argument.startswith("-label_map_file")]
    database = Path(flags.outdir)
    status = convert_annoset.main([*arguments, os.path.join(flags.root, ""), flags.listfile, str(database)])
    if status == 0:
        _link(database, Path(flags.exampledir))
    return status


def _link(database: Path, folder: Path) -> None:
    """Replaces a link of the same name, never a database."""
    link = folder / database.name
    if folder.resolve() == database.resolve().parent:
        return
    if link.exists() and not link.is_symlink():
        raise DataError(f"'{link}' exists and is not a link; '{database}' was built, but not linked there")
    folder.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(database.resolve(), target_is_directory=True)


if __name__ == "__main__":
    raise SystemExit(main())
