"""`create_list`: the lists that convert_annoset and scoring start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffe.cli.flags import FlagParser, run
from caffe.data.build.voc_lists import find_datasets, list_lines, subset
from caffe.data.image_list import raise_faults, shuffled
from caffe.errors import DataError, counted
from caffe.files import write_text

_EPILOG = """\
VOC's layout: ROOTFOLDER holds data sets (VOC2007, VOC2012, or your own), each with JPEGImages, Annotations and
ImageSets/Main/{trainval,test}.txt. Writes into OUTFOLDER
    trainval.txt         an image and its annotation per line, of all data sets, shuffled
    test.txt             the same for testing, in order (without VOC2012, whose test annotations are not public)
    test_name_size.txt   name, height and width of the images in test.txt

    create_list ~/data/VOCdevkit data/VOC0712
    create_list -datasets=BCCD ~/data/bccd data/bccd

COCO: -coco_instances names an annotation file; it is split into one file per image inside ROOTFOLDER. OUTFOLDER gets
<name>.txt, <name>_name_size.txt and <name>_labelmap.prototxt, where name is the annotation file's without 'instances_'.

    create_list -coco_instances=annotations/instances_val2017.json -images=val2017 ~/data/coco data/coco

import_annotations reads other folders: VOC XML without ImageSets, what Roboflow, CVAT and Label Studio export, YOLO, CSV.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("create_list", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="create_list", description="Writes lists of images and annotations.", epilog=_EPILOG)
    parser.add_argument("root", metavar="ROOTFOLDER", help="directory of the data sets")
    parser.add_argument("output", metavar="OUTFOLDER", help="directory for the lists")
    parser.flag("datasets", default="", help="data sets to use, separated by ',' (default: all)")
    parser.flag("test_datasets", default="", help="data sets to test on (default: those with a test list, not VOC2012)")
    parser.flag("seed", type=int, default=0, help="seed of trainval.txt's order; -1 does not shuffle")
    parser.flag("coco_instances", default="", help="COCO annotation file to split, relative to ROOTFOLDER or absolute")
    parser.flag("images", default="", help="directory of COCO's images inside ROOTFOLDER")
    flags = parser.parse_args(argv)
    root, output = Path(flags.root).expanduser(), Path(flags.output)
    if flags.coco_instances:
        _coco(root, output, flags.coco_instances, flags.images)
    else:
        _voc(root, output, _names(flags.datasets), _names(flags.test_datasets), flags.seed)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _voc(root: Path, output: Path, datasets: list[str], test_datasets: list[str], seed: int) -> None:
    from caffe.data.name_size import write_name_sizes

    datasets = datasets or find_datasets(root)
    for name in {*datasets, *test_datasets}:
        if not (root / name / "ImageSets" / "Main").is_dir():
            raise DataError(
                f"'{root / name}' is not a data set: it has no ImageSets/Main. Data sets there: {find_datasets(root)}"
            )
    lists: dict[str, list[str]] = {}
    faults: list[str] = []
    for kind in ("trainval", "test"):
        chosen = datasets
        if kind == "test":
            chosen = test_datasets or [name for name in datasets if name != "VOC2012"]
        lists[kind] = []
        for name in chosen:
            images = subset(root, name, kind)
            if images is not None:
                lists[kind] += list_lines(root, name, images, faults)
                print(f"{root.resolve().name if name == '.' else name} {kind}: {counted(len(images), 'image')}")
    raise_faults(faults, "the data sets; nothing was written")
    if not lists["trainval"] and not lists["test"]:
        raise DataError(f"no trainval.txt or test.txt in ImageSets/Main of {', '.join(datasets)}")
    if seed >= 0:
        lists["trainval"] = shuffled(lists["trainval"], seed)
    if lists["test"]:
        pairs = [(image, annotation) for image, annotation in map(str.split, lists["test"])]
        write_name_sizes(str(root), pairs, output / "test_name_size.txt")
        print(f"wrote {output / 'test_name_size.txt'}")
    for kind, lines in lists.items():
        if lines:
            write_text(output / f"{kind}.txt", "".join(f"{line}\n" for line in lines))
            print(f"wrote {output / f'{kind}.txt'}: {counted(len(lines), 'image')}")


def _coco(root: Path, output: Path, instances: str, images: str) -> None:
    from google.protobuf import text_format

    from caffe.data.build import coco_split

    path = Path(instances)
    path = path if path.is_file() else root / instances
    name = path.stem.removeprefix("instances_")
    found = coco_split.split(path, root, images or name, f"Annotations/{name}")
    missing = [f"no image '{line.split()[0]}'" for line in found.lines if not (root / line.split()[0]).is_file()]
    raise_faults(missing, f"the images of '{path}'; -images names their directory inside {root}")
    write_text(output / f"{name}.txt", "".join(f"{line}\n" for line in found.lines))
    write_text(output / f"{name}_name_size.txt", "".join(f"{line}\n" for line in found.sizes))
    print(
        f"wrote {output / f'{name}.txt'} and {output / f'{name}_name_size.txt'}: {counted(len(found.lines), 'image')}"
    )
    if found.label_map is not None:
        write_text(output / f"{name}_labelmap.prototxt", text_format.MessageToString(found.label_map.to_proto()))
        print(f"wrote {output / f'{name}_labelmap.prototxt'}: {len(found.label_map.items) - 1:,} categories")


if __name__ == "__main__":
    raise SystemExit(main())
