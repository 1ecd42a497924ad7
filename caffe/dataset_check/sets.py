"""The images and annotations to check: those of a list, of a folder, or of an LMDB."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from caffe import log
from caffe.data.build.annotations import PARSERS, Annotations, read_annotations
from caffe.data.formats.dataset import Parsed, in_pixels
from caffe.data.formats.folder import IMAGE_SUFFIXES
from caffe.data.formats.image_size import sides_of
from caffe.data.formats.reading import read_annotations_of
from caffe.data.image_list import read_pairs
from caffe.data.images import decode_datum, read_bytes
from caffe.data.label_map import AnyName
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError

#: how many faults that belong to no image are listed
_SHOWN = 10


@dataclass(frozen=True)
class Drawn:
    """The boxes of an image: classes, by their names or labels, and corners [n, 4] in units of the image.

    `size`: the height and width that the annotation gives, or None, in which case the corners are in pixels.
    """

    classes: tuple[str | int, ...] = ()
    corners: tuple[tuple[float, float, float, float], ...] = ()
    size: tuple[int, int] | None = None
    faults: tuple[str, ...] = ()
    pixels: bool = False


class Item(Protocol):
    """One image to check. Items are sent to other processes."""

    @property
    def name(self) -> str: ...

    def image(self) -> bytes:
        """The encoded image. Raises DataError if it cannot be read."""

    def boxes(self) -> Drawn:
        """What its annotation says; its faults if it cannot be read."""


@dataclass(frozen=True)
class FileItem:
    """An image file and its annotation; `annotation` is empty if there is none."""

    name: str
    path: str
    annotation: str
    kind: str

    def image(self) -> bytes:
        return read_bytes(self.path)

    def boxes(self) -> Drawn:
        if not self.annotation:
            return Drawn(faults=("has no annotation",))
        names = AnyName()
        try:
            found = read_annotations(self.annotation, self.kind, names)
        except DataError as error:
            return Drawn(faults=(f"{self.annotation}: {error}",))
        return Drawn(
            tuple(box.label if self.kind == "txt" else names.seen[box.label] for box in found.boxes),
            _corners(found), found.size, tuple(f"{self.annotation}: {fault}" for fault in found.faults), pixels=True,
        )  # fmt: skip


@dataclass(frozen=True)
class ParsedItem:
    """An image file, and what an annotation of any format says about it; None if there is none."""

    name: str
    path: str
    parsed: Parsed | None

    def image(self) -> bytes:
        return read_bytes(self.path)

    def boxes(self) -> Drawn:
        if self.parsed is None:
            return Drawn(faults=("has no annotation",))
        objects, size = self.parsed.objects, self.parsed.size
        if self.parsed.relative:
            sides = sides_of(Path(self.path))
            if isinstance(sides, str):
                return Drawn(faults=tuple(self.parsed.faults))  # the image's own fault is found where it is decoded
            size = sides.displayed
            objects = in_pixels(objects, size)
        return Drawn(
            tuple(each.name for each in objects),
            tuple((each.xmin, each.ymin, each.xmax, each.ymax) for each in objects),
            size, tuple(self.parsed.faults), pixels=True,
        )  # fmt: skip


def _corners(found: Annotations) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((box.xmin, box.ymin, box.xmax, box.ymax) for box in found.boxes)


@dataclass(frozen=True)
class RecordItem:
    """A record of an LMDB; raw pixels become a BMP."""

    name: str
    database: str
    index: int

    def image(self) -> bytes:
        source = _source(self.database)
        datum = source.annotated_datum(self.index).datum
        if datum.encoded:
            return bytes(datum.data)
        image = decode_datum(datum, source.where(self.index))
        if image.dtype != np.uint8:
            raise DataError("has floating-point pixels, which are not checked")
        return bytes(cv2.imencode(".bmp", image)[1])

    def boxes(self) -> Drawn:
        record = _source(self.database).annotated_datum(self.index)
        groups = [(group.group_label, each.bbox) for group in record.annotation_group for each in group.annotation]
        corners = tuple((box.xmin, box.ymin, box.xmax, box.ymax) for _, box in groups)
        size = (record.datum.height, record.datum.width) if record.datum.height and record.datum.width else None
        return Drawn(tuple(label for label, _ in groups), corners, size)


@lru_cache(maxsize=8)
def _source(path: str) -> LmdbSource:
    return LmdbSource(path)


@dataclass(frozen=True)
class DataSet:
    """Images to check, under a name for messages."""

    name: str
    items: tuple[Item, ...]
    #: whether its annotations have names of classes, which a label map numbers, or labels
    database: bool = False


def open_set(path: str, root: str = "", label_type: str = "xml") -> DataSet:
    """Opens an LMDB, a folder of images and annotations, or a list with an image and its annotation per line.

    `root`: the directory that the paths in a list are relative to. `label_type`: the annotations of a list. Raises
    DataError if there are no images.
    """
    where = Path(path)
    name = where.resolve().name
    if (where / "data.mdb").is_file():
        source = LmdbSource(path)
        if not source.holds_annotations():
            raise DataError(
                f"'{path}' has no boxes; check_dataset checks databases that convert_annoset made for detection"
            )
        keys = [source.key(index) for index in range(len(source))]
        return DataSet(name, tuple(RecordItem(key, path, index) for index, key in enumerate(keys)), database=True)
    if where.is_dir():
        items = tuple(_read_folder(where))
        if not items:
            raise DataError(f"no images in '{path}', nor in its folders; give a folder, a list or an LMDB")
        return DataSet(name, items)
    pairs = read_pairs(path)
    return DataSet(
        where.stem,
        tuple(
            FileItem(image, os.path.join(root, image), os.path.join(root, annotation), label_type)
            for image, annotation in pairs
        ),
    )


def _read_folder(folder: Path) -> Iterator[Item]:
    """The images in a folder, with annotations of the kind that most have.

    VOC's XML, and text with pixels, are looked at as they are; of other formats, what import_annotations makes of them.
    """
    files = list(_in_folder(folder))
    if not files:
        return
    form, parsed, faults = read_annotations_of(folder)
    if form in ("", "voc") or (form == "yolo" and _has_pixels(files)):
        yield from files
        return
    notes = sum((each.notes for each in parsed.values()), Counter[str]())
    for remark in (*faults[:_SHOWN], *(f"{count:,} {what}" for what, count in notes.items())):
        log.warning(log.here(), remark)
    if len(faults) > _SHOWN:
        log.warning(log.here(), f"{len(faults) - _SHOWN:,} more annotations without an image")
    for file in files:
        yield ParsedItem(file.name, file.path, parsed.get(Path(file.path)))


def _has_pixels(files: Sequence[FileItem]) -> bool:
    """Whether text files have pixels, `label xmin ymin xmax ymax`, and not YOLO's shares, as the first of them shows."""
    drawn = next((found for file in files if file.kind == "txt" and (found := file.boxes()).corners), None)
    return drawn is not None and not drawn.faults


def _in_folder(folder: Path) -> Iterator[FileItem]:
    """The images in a folder and the folders in it. An annotation is beside its image, or the only one of its name."""
    images: list[Path] = []
    annotations: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower().lstrip(".") in PARSERS:
            annotations[path.stem].append(path)
    for path in images:
        found = annotations[path.stem]
        beside = [each for each in found if each.parent == path.parent]
        annotation = beside[0] if beside else found[0] if len(found) == 1 else None
        kind = annotation.suffix.lower().lstrip(".") if annotation else ""
        yield FileItem(str(path.relative_to(folder)), str(path), str(annotation or ""), kind)
