"""A folder of photographs and annotations in any of the known formats, read into a Dataset.

Every format is tried on the files of its kind. The one that annotates most of the images is used.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffe.data.build import xml_tree
from caffe.data.build.spread import spread
from caffe.data.formats import FORMAT_NAMES, coco, csv_table, cvat_xml, labelme_json, labelme_xml, voc_xml, yolo
from caffe.data.formats.dataset import PARTS, AnnotatedImage, Dataset, Parsed, in_pixels, part_of, text_of_people
from caffe.data.formats.folder import IMAGE_SUFFIXES, Folder
from caffe.data.formats.image_size import in_frame, sides_of
from caffe.data.formats.part_lists import listed_parts
from caffe.errors import DataError, counted, shown

#: the names of the formats for a user to choose, and what they are
FORMATS = dict(
    zip(
        FORMAT_NAMES,
        (each.TITLE for each in (voc_xml, cvat_xml, coco, labelme_json, labelme_xml, yolo, csv_table)),
        strict=True,
    )
)
#: what the files of each format end with
_KINDS = {
    "voc": "xml",
    "labelme_xml": "xml",
    "cvat": "xml",
    "coco": "json",
    "labelme": "json",
    "yolo": "txt",
    "csv": "csv",
}
#: files that may be about something else; they matter only where no annotations are found
_OTHER = "other"
#: larger files are something else by mistake
_MAX_BYTES = 1 << 30


@dataclass
class _Reading:
    """What one format found."""

    images: dict[Path, Parsed] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, image: Path | str, parsed: Parsed, where: str) -> None:
        """Files what `where`, a file or entry, says about an image, or the reason why there is no such image."""
        parsed.faults = [f"{where}: {fault}" for fault in parsed.faults]
        if isinstance(image, str):
            self.faults += parsed.faults or [f"{where}: {image}"]
        elif image in self.images:
            self.images[image].merge(parsed)
        else:
            self.images[image] = parsed

    def add_names(self, names: Iterable[str]) -> None:
        known = set(self.class_names)
        self.class_names += [name for name in names if name not in known]


_Readings = dict[str, _Reading]
#: messages about files of each kind
_Unreadable = dict[str, list[str]]


def read_dataset(
    root: Path,
    *,
    without: Sequence[Path] = (),
    form: str = "",
    class_names: Sequence[str] = (),
    keep_unannotated: bool = False,
) -> Dataset:
    """The images of a folder with their objects.

    `without`: directories in it to leave out. `form`: one of FORMATS, to use it and no other. `class_names`: for YOLO's
    labels, in the order of their numbers. `keep_unannotated`: images without annotation have no objects, rather than
    being left out. Raises DataError if there are no images or no annotations of them.
    """
    folder = Folder(root, without)
    readings, unreadable = _read(folder, form, class_names)
    chosen = _most(readings)
    if not readings[chosen].images:
        _refuse(folder, readings, unreadable)
    dataset = _assemble(folder, chosen, readings[chosen], keep_unannotated)
    dataset.faults += unreadable[_KINDS[chosen]]
    for name, other in readings.items():
        if other.images and name != chosen:
            dataset.remarks.append(
                f"{FORMATS[name]} of {counted(len(other.images), 'image')} is not used; -format {name} uses it"
            )
    return dataset


def read_annotations_of(root: Path) -> tuple[str, dict[Path, Parsed], list[str]]:
    """The format that read_dataset would use, what it says about each image, and faults that belong to no image.

    Unlike there, images with faults are among them, and the images are not looked at. Without any annotation the format
    is "". Raises DataError if there are no images.
    """
    folder = Folder(root)
    readings, unreadable = _read(folder, "", ())
    chosen = _most(readings)
    reading = readings[chosen]
    return (chosen if reading.images else ""), reading.images, [*reading.faults, *unreadable[_KINDS[chosen]]]


def _most(readings: _Readings) -> str:
    return max(readings, key=lambda name: len(readings[name].images))  # of equals, the first of FORMATS


def _read(folder: Folder, form: str, class_names: Sequence[str]) -> tuple[_Readings, _Unreadable]:
    if not folder.images:
        raise DataError(f"'{folder.root}' has no images; known endings: {', '.join(sorted(IMAGE_SUFFIXES))}")
    readings: _Readings = {name: _Reading() for name in ([form] if form else FORMATS)}
    unreadable: _Unreadable = {kind: [] for kind in (*_KINDS.values(), _OTHER)}
    _read_xml(folder, readings, unreadable)
    _read_json(folder, readings, unreadable)
    _read_csv(folder, readings, unreadable)
    _read_yolo(folder, readings, unreadable, class_names)
    return readings, unreadable


def _assemble(folder: Folder, chosen: str, reading: _Reading, keep_unannotated: bool) -> Dataset:
    dataset = Dataset(
        FORMATS[chosen], class_names=reading.class_names, faults=[*reading.faults], remarks=[*reading.remarks]
    )
    bare = [path for path in folder.images if path not in reading.images]
    if keep_unannotated:
        reading.images |= {path: Parsed() for path in bare}
    elif bare:
        some = ", ".join(folder.shown(path) for path in bare[:3]) + (", …" if len(bare) > 3 else "")
        dataset.remarks.append(f"images without annotation, left out: {len(bare):,} ({some})")
    parts = listed_parts(folder, dataset.notes)
    paths = [path for path in folder.images if path in reading.images]
    for path, sides in _spread(sides_of, paths, "measuring"):
        parsed = reading.images[path]
        if isinstance(sides, str):
            parsed.faults.append(f"{folder.shown(path)}: {sides}")
        dataset.faults += parsed.faults
        dataset.notes += parsed.notes
        if parsed.faults or isinstance(sides, str):
            continue
        if parsed.relative:
            objects, size = in_pixels(parsed.objects, sides.displayed), sides.displayed
        else:
            objects, size = in_frame(parsed.objects, parsed.size, sides)
            if parsed.size is not None and parsed.size != size:
                dataset.notes["images of another size than their annotations say; the boxes were resized"] += 1
        part = parts.get(path) or parsed.part or part_of(path.relative_to(folder.root).parent.parts)
        dataset.images.append(AnnotatedImage(path, objects, size, part))
    return dataset


def _refuse(folder: Folder, readings: _Readings, unreadable: _Unreadable) -> None:
    reasons = [message for messages in unreadable.values() for message in messages]
    reasons += [fault for each in readings.values() for fault in each.faults]
    counts = Counter({suffix: len(paths) for suffix, paths in folder.files.items()})
    files = ", ".join(f"{count:,} {suffix or 'without ending'}" for suffix, count in counts.most_common(8))
    kinds = ", ".join(FORMATS[name] for name in readings)
    lines = [f"'{folder.root}' has {counted(len(folder.images), 'image')}, and no annotations. Files: {files}.",
             f"Looked for: {kinds}."]  # fmt: skip
    lines += [f"  {reason}" for reason in reasons[:10]]
    if len(reasons) > 10:
        lines.append(f"  … and {len(reasons) - 10:,} more")
    raise DataError("\n".join(lines))


# ---- XML: VOC, LabelMe, CVAT

_XML: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Parsed]]] = {
    "voc": (voc_xml.is_voc, voc_xml.parse),
    "labelme_xml": (labelme_xml.is_labelme, labelme_xml.parse),
}
_TAGS = voc_xml.TAGS | labelme_xml.TAGS | cvat_xml.TAGS
_Content = tuple[str, list[Parsed], list[str]]


def parse_xml(path: Path) -> _Content | str:
    """An XML file's format, images and class names; a format of "" for another kind of file; a message if unreadable."""
    try:
        root = xml_tree.parse(_bytes(path), _TAGS)
    except DataError as error:
        return str(error)
    for name, (fits, parse) in _XML.items():
        if fits(root):
            return name, [parse(root)], []
    if cvat_xml.is_cvat(root):
        return "cvat", [*cvat_xml.parse(root)], cvat_xml.class_names(root)
    return "", [], []


def _read_xml(folder: Folder, readings: _Readings, unreadable: _Unreadable) -> None:
    if not readings.keys() & {*_XML, "cvat"}:
        return
    for path, content in _spread(parse_xml, folder.with_suffix(".xml")):
        if isinstance(content, str):
            unreadable["xml"].append(f"{folder.shown(path)}: {content}")
            continue
        name, images, class_names = content
        if name not in readings:
            continue
        readings[name].add_names(class_names)
        for parsed in images:
            where = folder.shown(path)
            if name == "cvat":
                parsed.part = parsed.part or _part_of_file(folder, path)
                image = folder.image_named(parsed.reference, path)
                where = f"{where}: '{shown(parsed.reference)}'"
            else:
                image = folder.image_beside(path, parsed.reference)
            readings[name].add(image, parsed, where)


# ---- JSON: COCO, LabelMe


def parse_json(path: Path) -> tuple[str, list[Parsed], list[str], list[str]] | str:
    """A JSON file's format, images, class names and faults; a format of "" for another kind; a message if unreadable."""
    try:
        document = json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        return str(error) if isinstance(error, DataError) else f"not JSON: {error}"
    if labelme_json.is_labelme(document):
        return "labelme", [labelme_json.parse(document)], [], []
    if coco.is_coco(document):
        images, faults = coco.parse(document)
        return "coco", images, coco.class_names(document), faults
    return "", [], [], []


def _read_json(folder: Folder, readings: _Readings, unreadable: _Unreadable) -> None:
    if not readings.keys() & {"coco", "labelme"}:
        return
    for path, content in _spread(parse_json, folder.with_suffix(".json")):
        where = folder.shown(path)
        if isinstance(content, str):
            unreadable["json"].append(f"{where}: {content}")
            continue
        name, images, class_names, faults = content
        if name not in readings:
            continue
        reading = readings[name]
        reading.faults += [f"{where}: {fault}" for fault in faults]
        reading.add_names(class_names)
        for parsed in images:
            if name == "coco":
                parsed.part = _part_of_file(folder, path)
                reading.add(folder.image_named(parsed.reference, path), parsed, where)
            else:
                image = folder.image_named(parsed.reference, path) if parsed.reference else ""
                reading.add(image if isinstance(image, Path) else folder.image_beside(path), parsed, where)


# ---- tables and text


def _read_csv(folder: Folder, readings: _Readings, unreadable: _Unreadable) -> None:
    if "csv" not in readings:
        return
    for path in folder.with_suffix(".csv", ".tsv"):
        where = folder.shown(path)
        try:
            text = text_of_people(_bytes(path))
            if not csv_table.is_table(text):
                unreadable[_OTHER].append(f"{where}: {csv_table.why_not(text)}")
                continue
            images, faults = csv_table.parse(text)
        except DataError as error:
            unreadable["csv"].append(f"{where}: {error}")
            continue
        readings["csv"].faults += [f"{where}: {fault}" for fault in faults]
        for parsed in images.values():
            parsed.part = _part_of_file(folder, path)
            readings["csv"].add(folder.image_named(parsed.reference, path), parsed, where)


def _read_yolo(folder: Folder, readings: _Readings, unreadable: _Unreadable, class_names: Sequence[str]) -> None:
    if "yolo" not in readings:
        return
    reading = readings["yolo"]
    labels = []
    for path in folder.with_suffix(".txt"):
        if path.name.lower() in yolo.NOT_LABELS:
            continue
        try:
            data = _bytes(path)
        except DataError as error:
            unreadable["txt"].append(f"{folder.shown(path)}: {error}")
            continue
        if yolo.is_labels(data):
            labels.append((path, data))
        elif path.stem.lower() not in PARTS and isinstance(folder.image_beside(path), Path):
            unreadable["txt"].append(f"{folder.shown(path)}: {yolo.why_not(data)}")
    if not labels:
        return
    try:
        names, where, keypoints = ([*class_names], "-names", False) if class_names else yolo.find_names(folder)
    except DataError as error:
        reading.faults.append(str(error))
        names, where, keypoints = [], "", False
    reading.class_names = [name for name in names if name]
    for path, data in labels:
        image = folder.image_beside(path)
        if isinstance(image, str) and not data.strip():
            continue  # an empty text file may be anything
        reading.add(image, yolo.parse(data, names, where, keypoints=keypoints), folder.shown(path))
    if not names:
        reading.remarks.append("no classes.txt or data.yaml: classes are called by their numbers; -names gives names")


# ---- shared parts


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            # not read(_MAX_BYTES), which allocates as much
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise DataError(f"over {_MAX_BYTES >> 20:,} MB: not an annotation file")
            return file.read()
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}") from None


def _spread(function: Callable[[Path], Any], paths: list[Path], what: str = "reading") -> Iterator[tuple[Path, Any]]:
    return zip(paths, spread(function, [(path,) for path in paths], what), strict=True)


def _part_of_file(folder: Folder, path: Path) -> str:
    return part_of([*path.relative_to(folder.root).parent.parts, path.stem])
