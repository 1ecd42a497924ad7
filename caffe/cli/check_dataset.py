"""`check_dataset`: everything in a data set that would stop a training, or make it worse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import LABEL_MAP, FlagParser, boolean, run
from caffe.data.build.annotations import PARSERS
from caffe.data.label_map import LabelMap
from caffe.errors import DataError
from caffe.files import write_text

_EPILOG = """\
Each DATA is an LMDB made by convert_annoset, a folder of images and annotations in any format that import_annotations
reads, or a list with an image and its annotation per line (paths relative to -root). Give the sets for training and
testing together: images that are in both are found too.

    check_dataset -label_map_file labelmap.prototxt -net train.prototxt my/lmdb/my_trainval_lmdb my/lmdb/my_test_lmdb
    check_dataset -root ~/data/VOCdevkit -label_map_file models/labelmap_voc.prototxt -out check \\
        data/VOC0712/trainval.txt data/VOC0712/test.txt
    check_dataset photographs

-net, a train prototxt, adds what is too small at its input, what its default boxes do not reach, and images as its
augmentation makes them. -out writes check.txt, check.json with every file and object, and check.html with pictures.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("check_dataset", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="check_dataset", description="Checks the images and boxes of a data set.", epilog=_EPILOG)
    parser.add_argument("data", metavar="DATA", nargs="+", help="LMDB, folder or list")
    parser.flag("root", default="", help="directory that the paths in lists are relative to")
    parser.flag("label_type", default="xml", help="annotation format of lists", choices=sorted(PARSERS))
    parser.flag(
        "label_map_file", aliases=LABEL_MAP, help="LabelMap prototxt; without it names and labels are not checked"
    )
    parser.flag("net", help="train prototxt: also check sizes at its input and the reach of its default boxes")
    parser.flag("out", help="directory for check.txt, check.json and check.html")
    parser.flag("short", type=boolean, default=False, help="print only how many there are of each kind of finding")
    flags = parser.parse_args(argv)
    repeated = [path for path, count in Counter(flags.data).items() if count > 1]
    if repeated:
        parser.error(f"'{repeated[0]}' is given twice")

    # the rest takes a while to import
    from caffe.data.build.spread import spread
    from caffe.dataset_check import report, samples
    from caffe.dataset_check.examine import examine
    from caffe.dataset_check.findings import collect
    from caffe.dataset_check.page import page
    from caffe.dataset_check.sets import open_set
    from caffe.dataset_check.statistics import statistics

    label_map = LabelMap.read(flags.label_map_file, strict=False) if flags.label_map_file else None
    layout = transformer = None
    if flags.net:
        from caffe.default_boxes.net_layout import read_layout

        layout, transformer = read_layout(flags.net), samples.read_transformer(flags.net)
    sets = {}
    for path in flags.data:
        data_set = open_set(path, flags.root, flags.label_type)
        sets[data_set.name if data_set.name not in sets else path] = data_set
    examined = {
        name: list(spread(examine, [(item,) for item in each.items], f"checking {name}")) for name, each in sets.items()
    }
    findings = collect(examined, label_map, layout)
    numbers = statistics(findings)
    print(report.text(findings, numbers, short=flags.short), end="")
    if flags.out:
        folder = Path(flags.out)
        if folder.exists() and not folder.is_dir():
            raise DataError(f"-out '{folder}' is not a directory")
        albums = {
            each.name: samples.pictures(sets[each.name], each, findings.class_names, transformer)
            for each in findings.sets
        }
        write_text(folder / "check.txt", report.text(findings, numbers))
        write_text(folder / "check.json", json.dumps(report.values(findings, numbers), indent=1) + "\n")
        write_text(folder / "check.html", page(findings, numbers, albums))
        print(f"\nWritten to {folder}: check.txt, check.json, check.html")


if __name__ == "__main__":
    raise SystemExit(main())
