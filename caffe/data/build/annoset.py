"""Databases from image lists: everything is read and checked first, then written in a second pass.

Reading (decoding every image, parsing every annotation) is spread over processes. Its results are small (records
without pixels), so a list of a hundred thousand images fits into memory. Images that need no conversion are copied into
the database byte by byte in the second pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from caffe import log
from caffe.data.augment.boxes import Boxes
from caffe.data.build.annotated_frame import Frame, frame_of, turns_undecided
from caffe.data.build.annotations import Annotations, describe, read_annotations
from caffe.data.build.pasted_list import PastedList
from caffe.data.build.sliced_records import Slicing, pieces
from caffe.data.build.small_objects import Pasting, arrange, paste
from caffe.data.build.small_settings import SmallObjects
from caffe.data.build.spread import spread
from caffe.data.image_list import below, raise_faults
from caffe.data.images import Image, ImageFormat, copies_file, encoding_of, read_bytes, read_image, to_datum
from caffe.data.jpeg import ends_early
from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import MAX_KEY_BYTES, LmdbWriter
from caffe.data.orientation import UPRIGHT, orientation_of, turned_size
from caffe.errors import DataError, counted
from caffe.proto import caffe_pb2


@dataclass(frozen=True)
class Task:
    """What to make of a list: `label_type` is xml, json or txt for detection, '' for classification."""

    root: str
    image_format: ImageFormat
    label_type: str = ""
    label_map: LabelMap | None = None
    #: whether a record is an AnnotatedDatum (convert_annoset) or a bare Datum (convert_imageset)
    annotated: bool = True
    #: detection: how large images are cut; None: not at all
    slicing: Slicing | None = None
    #: detection: what is done for images with small objects
    small: SmallObjects = field(default_factory=SmallObjects)
    #: detection: whether photographs with an orientation tag are turned if their boxes were drawn on the turned image
    turn: bool = True
    #: whether they are turned if their annotation does not tell
    turn_undecided: bool = True


@dataclass
class Found:
    """What checking one line of the list found."""

    faults: list[str] = field(default_factory=list)
    oddities: Counter[str] = field(default_factory=Counter)
    #: height, width, channels of the record's image
    size: tuple[int, int, int] = (0, 0, 0)
    #: the AnnotatedDatum without its datum
    annotation: bytes = b""
    labels: Counter[int] = field(default_factory=Counter)
    #: whether there are small objects, as Task.small defines them
    small: bool = False
    #: whether the file ends before its image does
    early: bool = False
    #: what the boxes refer to, and whether the image is turned
    frame: Frame = Frame.ONLY
    turned: bool = False


def check_line(task: Task, line: tuple[str, str | int]) -> Found:
    """Reads an image and its annotation, and notes everything that is wrong with them."""
    image_path, target = line
    found = Found()
    size = (0, 0)
    path = below(task.root, image_path)
    orientation = UPRIGHT
    try:
        data, image = read_image(path, task.image_format)
        found.size = _size_of(image)
        original = read_image(path, ImageFormat(gray=True))[1] if task.image_format.resizes else image
        size = (original.shape[0], original.shape[1])
        found.early = ends_early(data)
        orientation = orientation_of(data) if task.turn else UPRIGHT
    except DataError as error:
        found.faults.append(f"{path}: {error}")
    if isinstance(target, str):
        annotations = _annotations(task, below(task.root, target), found)
        if orientation != UPRIGHT and not found.faults:
            found.frame = frame_of(orientation, size, annotations.size)
            found.turned = found.frame is Frame.TURNED or (found.frame is Frame.UNKNOWN and task.turn_undecided)
        if found.turned:
            found.size = _size_of(read_image(path, task.image_format, turn=True)[1])
            size = turned_size(*size, orientation)
        if not found.faults:
            _keep(annotations, task, size, found)
    return found


def _size_of(image: Image) -> tuple[int, int, int]:
    height, width, channels = image.shape
    return height, width, channels


def _annotations(task: Task, path: str, found: Found) -> Annotations:
    assert task.label_map is not None
    try:
        annotations = read_annotations(path, task.label_type, task.label_map)
    except DataError as error:
        found.faults.append(f"{path}: {error}")
        return Annotations()
    found.faults.extend(f"{path}: {fault}" for fault in annotations.faults)
    return annotations


def _keep(annotations: Annotations, task: Task, size: tuple[int, int], found: Found) -> None:
    """Notes the boxes of an image of `size` (height, width)."""
    record = annotations.groups(*size)
    found.annotation = record.SerializeToString()
    found.small = bool(task.small.are_small(Boxes.of(record).corners).any())
    found.labels.update(box.label for box in annotations.boxes)
    found.oddities.update(annotations.oddities)


def make_record(
    task: Task, line: tuple[str, str | int], found: Found, number: int, repeat: int
) -> tuple[bytes, Pasting]:
    """The record of line `number`, and what was pasted; `repeat` counts the records of one image, from 0."""
    image_path, target = line
    path = below(task.root, image_path)
    pastes = _pastes(task, found, repeat)
    if _copies(task, path, found) and not pastes:
        data, image = read_bytes(path), None
    else:
        data, image = read_image(path, task.image_format, turn=found.turned)
    label = target if isinstance(target, int) else -1
    pasting = Pasting()
    record = caffe_pb2.AnnotatedDatum()
    record.MergeFromString(found.annotation)
    if pastes:
        assert image is not None
        # the line's own random numbers: the same whatever else is in the list, and however many processes work on it
        rng = np.random.default_rng([task.small.seed, number, repeat])
        image, pasting = paste(image, record, task.small, rng)
        if not pasting.copies and _copies(task, path, found):
            image = None
    datum = to_datum(path, data, image, found.size, task.image_format, label)
    if not task.annotated:
        return bytes(datum.SerializeToString()), pasting
    record.datum.CopyFrom(datum)
    return bytes(record.SerializeToString()), pasting


def make_slices(task: Task, line: tuple[str, str | int], found: Found) -> list[tuple[str, bytes]]:
    """The records of a line's slices, each with the name that its key has."""
    assert task.slicing is not None
    path = below(task.root, line[0])
    data, image = read_image(path, task.image_format, turn=found.turned)
    whole = caffe_pb2.AnnotatedDatum()
    whole.MergeFromString(found.annotation)
    made = []
    for (left, top, *_), part, record in pieces(image, whole, task.slicing):
        height, width, channels = part.shape
        kept = part is image and _copies(task, path, found)
        datum = to_datum(path, data, None if kept else part, (height, width, channels), task.image_format, -1)
        record.datum.CopyFrom(datum)
        name = line[0] if part is image else f"{line[0]}_{left}_{top}"
        made.append((name, bytes(record.SerializeToString())))
    return made


def _build_sliced(
    lines: Sequence[tuple[str, str | int]], found: Sequence[Found], task: Task, writer: LmdbWriter
) -> None:
    jobs = [(task, line, each) for line, each in zip(lines, found, strict=True)]
    number = 0
    with writer:
        for records in spread(make_slices, jobs, "writing"):
            for name, record in records:
                writer.put(key_of(number, name), record)
                number += 1
        if not number:
            raise DataError(
                "no slice shows enough of an object: lower -slice_visible, raise -slice_overlap, or keep the whole images"
            )
    log.info(log.here(), f"{len(lines)} images were cut into {number} records.")


def _copies(task: Task, path: str, found: Found) -> bool:
    """Whether the file goes into its record byte by byte, apart from what is pasted into it."""
    return copies_file(path, task.image_format) and not found.turned


def _pastes(task: Task, found: Found, repeat: int) -> bool:
    """Whether copies go into a record. Of several of an image, the first stays as it is."""
    return found.small and task.small.copies > 0 and (repeat > 0 or task.small.repeats == 1)


def build(
    lines: Sequence[tuple[str, str | int]],
    database: str | Path,
    task: Task,
    *,
    check_size: bool = False,
    replace: bool = False,
    program: str = "convert_annoset",
) -> None:
    """Checks every line, then writes `database`; raises a DataError with all faults, and writes nothing, if any.

    Where copies of small objects are pasted, `<database>_pasted.txt` lists them.
    """
    writer = LmdbWriter(database, replace=replace)
    log.info(f"{program}.cpp:128", f"A total of {len(lines)} images.")
    found = _check(lines, task, check_size)
    _report(found, lines, task)
    if task.slicing is not None:
        _build_sliced(lines, found, task, writer)
        log.info(f"{program}.cpp:203", f"Processed {len(lines)} files.")
        return
    order = arrange([each.small for each in found], task.small.repeats)
    pasted = PastedList(task.small, database)
    with writer:
        jobs = [(task, lines[i], found[i], i, repeat) for i, repeat in order]
        copying = all(
            _copies(task, line[0], each) and not _pastes(task, each, repeat) for _, line, each, _, repeat in jobs
        )
        records = spread(make_record, jobs, "writing", here=copying)
        for number, (job, (record, pasting)) in enumerate(zip(jobs, records, strict=True)):
            key = key_of(number, job[1][0])
            writer.put(key, record)
            pasted.add(key.decode(), pasting)
        pasted.write(task.label_map)
    pasted.report(len(lines), len(order), sum(each.small for each in found))
    log.info(f"{program}.cpp:203", f"Processed {len(lines)} files.")


def key_of(number: int, image_path: str) -> bytes:
    """The key of line `number` (from 0) of a list."""
    return f"{number:08d}_{image_path}".encode()


def _check(lines: Sequence[tuple[str, str | int]], task: Task, check_size: bool) -> list[Found]:
    found = list(spread(check_line, [(task, line) for line in lines], "checking"))
    if task.turn_undecided and not turns_undecided(each.frame for each in found):
        undecided = [number for number, each in enumerate(found) if each.frame is Frame.UNKNOWN]
        task = replace(task, turn_undecided=False)
        for number in undecided:
            found[number] = check_line(task, lines[number])
    faults = [fault for each in found for fault in each.faults]
    for number, (image_path, _) in enumerate(lines):
        # the name of a slice ends in its place in the image
        name = image_path if task.slicing is None else f"{image_path}_999999_999999"
        if len(key_of(number, name)) > MAX_KEY_BYTES:
            faults.append(f"{image_path}: the path is too long for a key of {MAX_KEY_BYTES} bytes")
        encoding = encoding_of(image_path, task.image_format)
        if (task.image_format.encoded or task.image_format.encode_type) and not encoding:
            faults.append(f"{image_path}: has no extension that tells its format; give -encode_type")
    if check_size and not faults:
        faults += [
            f"{line[0]}: is {_size(each.size)}, but the first image is {_size(found[0].size)}"
            for line, each in zip(lines, found, strict=True)
            if each.size != found[0].size
        ]
    note = ""
    if task.label_map is not None and any("unknown name" in fault for fault in faults):
        names = ", ".join(f"'{name}'" for name in task.label_map.names)
        note = f"Known names, from '{task.label_map.where}': {names}"
    raise_faults(faults, "images and annotations; nothing was written", note)
    return found


def _report(found: Sequence[Found], lines: Sequence[tuple[str, str | int]], task: Task) -> None:
    _report_images(found, [image for image, _ in lines])
    oddities: Counter[str] = Counter()
    labels: Counter[int] = Counter()
    for each in found:
        oddities.update(each.oddities)
        labels.update(each.labels)
    for line in describe(oddities, len(lines)):
        log.warning(log.here(), line)
    if task.label_map is None:
        return
    boxes = ", ".join(f"{count:,} {task.label_map.display_name_of(label)}" for label, count in sorted(labels.items()))
    log.info(log.here(), f"{counted(labels.total(), 'box', 'boxes')}: {boxes}" if labels else "0 boxes")
    empty = [line[0] for line, each in zip(lines, found, strict=True) if not each.labels]
    if empty:
        log.warning(log.here(), f"images without boxes, {len(empty):,} of {len(lines):,}: {_some(empty)}")
    if labels[0]:
        log.warning(
            log.here(),
            f"{counted(labels[0], 'box', 'boxes')} with label 0 ('{task.label_map.display_name_of(0)}'), which nets take for "
            "the background. Number the classes from 1; create_label_map -include_background does so",
        )
    absent = [item.name for item in task.label_map.items if item.label > 0 and not labels[item.label]]
    if absent:
        log.warning(log.here(), f"classes of the label map without boxes: {', '.join(absent)}")


def _report_images(found: Sequence[Found], images: Sequence[str]) -> None:
    """Names the images that end early, and says which of those with an orientation tag are turned."""

    def named(chosen: Iterable[bool]) -> list[str]:
        return [image for image, wanted in zip(images, chosen, strict=True) if wanted]

    of = f"of {len(images):,} images"
    if early := named(each.early for each in found):
        log.warning(
            log.here(), f"{len(early):,} {of} end early (truncated JPEG); the missing part is gray: {_some(early)}"
        )
    if turned := named(each.frame is Frame.TURNED for each in found):
        log.info(
            log.here(),
            f"{len(turned):,} {of} turned as their orientation tag says, as in their annotation: {_some(turned)}",
        )
    if stored := named(each.frame is Frame.STORED for each in found):
        log.info(
            log.here(),
            f"{len(stored):,} {of} not turned despite their orientation tag, because boxes were drawn on the stored "
            f"pixels: {_some(stored)}",
        )
    unknown = [each for each in found if each.frame is Frame.UNKNOWN]
    if unknown:
        say = log.warning if any(each.labels for each in unknown) else log.info  # without boxes either is right
        kept = "turned; -noturn keeps the stored pixels" if unknown[0].turned else "not turned"
        say(
            log.here(),
            f"{len(unknown):,} {of} have an orientation tag, and their annotation does not tell whether boxes were "
            f"drawn before or after turning. They were {kept}: {_some(named(each.frame is Frame.UNKNOWN for each in found))}",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _size(size: tuple[int, int, int]) -> str:
    height, width, channels = size
    return f"{width} × {height} × {channels}"
