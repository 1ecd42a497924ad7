"""A data set in VOC's layout, with lists and label map, from images that stay where they are.

    OUT/JPEGImages/NAME.jpg          a link to the image (or a copy)
    OUT/Annotations/NAME.xml
    OUT/ImageSets/Main/trainval.txt, test.txt
    OUT/labelmap.prototxt
    OUT/lists/trainval.txt, test.txt, test_name_size.txt: what create_list would write
    OUT/images.tsv                   the image behind each NAME

Names are made unique, because keys of records, detections and scores tell images apart by them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from google.protobuf import text_format

from caffe.data.formats.dataset import AnnotatedImage
from caffe.data.formats.splitting import Split
from caffe.data.image_list import shuffled
from caffe.data.label_map import LabelMap
from caffe.data.name_size import write_name_sizes
from caffe.errors import DataError, WriteError
from caffe.files import write_text

_LONGEST = 120
#: what is replaced when the layout is written again; its presence marks a directory as ours
_MARKER = "images.tsv"
_PARTS = ("JPEGImages", "Annotations", "ImageSets", "lists")


def write_layout(
    out: Path, root: Path, split: Split, labels: LabelMap, names: Mapping[str, str], seed: int, *, copy: bool = False
) -> None:
    """Writes the layout. `names` maps classes to their names in `labels`; `seed` is for the order of trainval.txt.

    What an earlier call wrote into `out` is replaced. Raises DataError if `out` has other things in its place.
    """
    if any((out / part).exists() for part in _PARTS) and not (out / _MARKER).is_file():
        raise DataError(f"'{out}' has a data set that was not written by this command; give another directory")
    write_text(out / _MARKER, "")  # first, so that what is interrupted can be done again
    for part in _PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    images = [*split.train, *split.test]
    stems = unique_names([image.path for image in images], root)
    for folder in ("JPEGImages", "Annotations"):
        (out / folder).mkdir(parents=True)
    files = {}
    for image in images:
        stem = stems[image.path]
        files[image.path] = f"{stem}{image.path.suffix.lower()}"
        _place(image.path, out / "JPEGImages" / files[image.path], copy)
        xml = _xml(image, files[image.path], names)
        (out / "Annotations" / f"{stem}.xml").write_bytes(xml)
    lines = {
        part: [f"JPEGImages/{files[each.path]} Annotations/{stems[each.path]}.xml" for each in members]
        for part, members in (("trainval", split.train), ("test", split.test))
    }
    for part, members in (("trainval", split.train), ("test", split.test)):
        write_text(out / "ImageSets/Main" / f"{part}.txt", "".join(f"{stems[each.path]}\n" for each in members))
    lines["trainval"] = shuffled(lines["trainval"], seed)
    for part, listed in lines.items():
        write_text(out / "lists" / f"{part}.txt", "".join(f"{line}\n" for line in listed))
    pairs = [(image, annotation) for image, annotation in map(str.split, lines["test"])]
    write_name_sizes(str(out), pairs, out / "lists/test_name_size.txt")
    write_text(out / "labelmap.prototxt", text_format.MessageToString(labels.to_proto()))
    behind = "".join(f"{stems[path]}\t{os.path.abspath(path)}\n" for path in files)
    write_text(out / _MARKER, behind.encode("utf-8", "backslashreplace").decode())  # names of files may be any bytes


def unique_names(paths: Sequence[Path], root: Path) -> dict[Path, str]:
    """A name for each image: its file's without ending, with the directories before it where several have it.

    Blanks, which lists cannot have, and characters with a meaning in shells are replaced by underscores.
    """
    stems = Counter(_plain(path.stem).lower() for path in paths)
    taken: set[str] = set()
    names = {}
    for path in paths:
        name = _plain(path.stem)
        if stems[name.lower()] > 1:
            name = _plain("_".join(path.relative_to(root).with_suffix("").parts))
        unique, count = name, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique.lower())
        names[path] = unique
    return names


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text)[-_LONGEST:].lstrip(".-") or "_"


def _place(path: Path, target: Path, copy: bool) -> None:
    try:
        if copy:
            shutil.copyfile(path, target)
        else:
            target.symlink_to(path.resolve())
    except OSError as error:
        what = "copied" if copy else "linked (-copy copies it)"
        raise WriteError(f"'{path}' cannot be {what} to '{target}': {error.strerror}") from None


def _xml(image: AnnotatedImage, name: str, names: Mapping[str, str]) -> bytes:
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, tag: str, value: object) -> None:
        ElementTree.SubElement(parent, tag).text = value if isinstance(value, str) else f"{value:.10g}"

    add(root, "folder", "JPEGImages")
    add(root, "filename", name)
    size = ElementTree.SubElement(root, "size")
    add(size, "width", image.size[1])
    add(size, "height", image.size[0])
    add(size, "depth", 3)
    for each in image.objects:
        element = ElementTree.SubElement(root, "object")
        add(element, "name", names[each.name])
        add(element, "difficult", int(each.difficult))
        box = ElementTree.SubElement(element, "bndbox")
        for side in ("xmin", "ymin", "xmax", "ymax"):
            add(box, side, getattr(each, side))
    ElementTree.indent(root, "\t")
    return f"{ElementTree.tostring(root, encoding='unicode')}\n".encode()
