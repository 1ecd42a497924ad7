"""`design_boxes`: measures how well a net's default boxes cover the objects of a data set, and proposes better ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import FlagParser, boolean, run
from caffe.cli.net_flags import add_allow_python, only_look
from caffe.data.build.annotations import PARSERS
from caffe.data.label_map import LabelMap
from caffe.default_boxes import boxes_file, objects, picture, proposal, report
from caffe.default_boxes.layout import Layout
from caffe.default_boxes.objects import Objects
from caffe.default_boxes.reach import measure
from caffe.errors import DataError
from caffe.files import write_text

_EPILOG = """\
DATA is an LMDB made by convert_annoset -anno_type=detection or, with -list, the directory that the paths in the list
are relative to. Objects are measured in pixels of the net's input. The size of an object is the square root of its
area there.

    design_boxes -net models/MDSSD300/VOC/deploy.prototxt my/lmdb/my_trainval_lmdb -out my/boxes
    design_boxes -net models/SSD300/VOC/deploy.prototxt my -list my/trainval.txt -label_map_file my/labelmap.prototxt

boxes.json in the directory of -out can be edited, measured with -boxes, and passed to the generators:

    design_boxes -net models/MDSSD300/VOC/deploy.prototxt my/lmdb/my_trainval_lmdb -boxes my/boxes/boxes.json
    python prototxt_gen/mdssd300.py --boxes my/boxes/boxes.json ...
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("design_boxes", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="design_boxes", description="Measures a net's default boxes on a data set and proposes better ones.",
        epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("data", metavar="DATA", help="LMDB of AnnotatedDatum records or, with -list, a directory")
    parser.flag("net", help="prototxt with PriorBox layers: train, test or deploy")
    parser.flag("list", help="file with an image and its annotation per line, instead of an LMDB")
    parser.flag("label_type", default="xml", help="annotation format, with -list", choices=sorted(PARSERS))
    parser.flag("label_map_file", help="LabelMap prototxt with the names of the classes; required with -list")
    parser.flag("boxes", help="measure the boxes in this file instead of the net's, and propose none")
    parser.flag("propose", type=boolean, default=True, help="also search for better boxes")
    parser.flag(
        "max_boxes", type=int, help="maximum number of default boxes to propose (default: as many as the net has)"
    )
    parser.flag(
        "keep_heads", type=boolean, default=False,
        help="propose only other sizes and ratios, so that all weights of a trained net still load",
    )  # fmt: skip
    parser.flag("sources", default="", help="propose boxes only for these sources, e.g. module1; the others keep their "
                "boxes and the weights of their heads (default: all)")  # fmt: skip
    parser.flag(
        "balance", default="sizes", choices=proposal.BALANCES,
        help="what has equal weight in a proposal: ranges of size (octaves), classes, or objects (none)",
    )  # fmt: skip
    parser.flag("seed", type=int, default=1, help="seed of the search and of the objects that it uses")
    parser.flag("out", help="directory for boxes.json, reach.txt, reach.json and reach.png")
    add_allow_python(parser)
    flags = parser.parse_args(argv)
    only_look(flags)
    if not flags.net:
        parser.error("-net is required: a prototxt such as models/MDSSD300/VOC/deploy.prototxt")
    if flags.seed < 0:
        parser.error(f"-seed {flags.seed}: a seed must be 0 or more")

    layout = _layout(flags.net)
    own = boxes_file.layout_with(layout, boxes_file.read_boxes(flags.boxes)) if flags.boxes else layout
    found = _objects(flags, layout)
    layouts = {"boxes file" if flags.boxes else "net": own}
    if flags.propose and not flags.boxes:
        layouts["proposed"] = proposal.propose(
            layout, found, flags.max_boxes, keep_heads=flags.keep_heads,
            sources=[name for name in flags.sources.split(",") if name], balance=flags.balance, seed=flags.seed,
        )  # fmt: skip
    reaches = {name: measure(each, found) for name, each in layouts.items()}
    text = report.text(found, layouts, reaches)
    print(text, end="")
    if flags.out:
        folder = Path(flags.out)
        last = list(layouts)[-1]
        boxes_file.write_boxes(folder / "boxes.json", layouts[last])
        write_text(folder / "reach.txt", text)
        write_text(folder / "reach.json", json.dumps(report.values(found, layouts, reaches), indent=1) + "\n")
        picture.draw(found, layouts, reaches, folder / "reach.png")
        print(f"\nWritten to {flags.out}: boxes.json ({last}), reach.txt, reach.json, reach.png")


def _layout(path: str) -> Layout:
    from caffe.default_boxes.net_layout import read_layout

    return read_layout(path)


def _objects(flags: argparse.Namespace, layout: Layout) -> Objects:
    label_map = LabelMap.read(flags.label_map_file) if flags.label_map_file else None
    if not flags.list:
        return objects.from_lmdb(flags.data, layout.height, layout.width, label_map)
    if label_map is None:
        raise DataError("-list needs -label_map_file, which maps class names to labels")
    return objects.from_list(
        flags.data, flags.list, flags.label_type, label_map, layout.height, layout.width
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
