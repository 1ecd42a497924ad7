"""`test_name_size.txt`: the name, height and width of each image of a test set, in the order in which it is read.

get_image_size writes the list. Result files are scaled with it, and its names are their image ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe import log
from caffe.data.build.annotated_frame import Frame, annotated_size, frame_of, is_annotation, turns_undecided
from caffe.data.build.spread import spread
from caffe.data.image_list import below, raise_faults, read_lines
from caffe.data.images import ImageFormat, read_image
from caffe.data.orientation import UPRIGHT, orientation_of, turned_size
from caffe.errors import DataError, shown
from caffe.files import decoded, write_text


@dataclass(frozen=True)
class NameSize:
    """One image of a test set: its name (the image_id of result files) and its size in pixels."""

    name: str
    height: int
    width: int


def read_name_sizes(path: str | Path) -> list[NameSize]:
    """Reads such a list. Raises DataError, with the line's number, for anything else."""
    try:
        text = decoded(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"cannot open name size file '{path}': {error.strerror}; get_image_size writes it") from None
    except UnicodeDecodeError:
        raise DataError(f"name size file '{path}' is not a text file") from None
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, height, width = line.split()
            entry = NameSize(name, int(height), int(width))
        except ValueError:
            raise DataError(
                f"name size file '{path}', line {number}: '{shown(line.strip(), 80)}' is not `name height width`; "
                "get_image_size makes the list"
            ) from None
        if entry.height < 1 or entry.width < 1:
            raise DataError(f"name size file '{path}', line {number}: {shown(name)} is {height} x {width} pixels")
        entries.append(entry)
    if not entries:
        raise DataError(f"name size file '{path}' lists no images")
    return entries


@dataclass(frozen=True)
class Measured:
    """The size of an image file as it is stored, its orientation tag, and the frame of its annotation."""

    height: int
    width: int
    orientation: int
    frame: Frame

    def size(self, turn_undecided: bool) -> tuple[int, int]:
        """The (height, width) of the image's record in an LMDB."""
        if self.frame is Frame.TURNED or (self.frame is Frame.UNKNOWN and turn_undecided):
            return turned_size(self.height, self.width, self.orientation)
        return self.height, self.width


def measure_image(path: str, annotation: str = "") -> Measured | str:
    """An image file's size, or an error message. Without an annotation (xml, json, txt), an image is never turned."""
    try:
        data, image = read_image(path, ImageFormat())
    except DataError as error:
        return f"{path}: {error}"
    height, width = image.shape[:2]
    orientation = orientation_of(data) if is_annotation(annotation) else UPRIGHT
    annotated = annotated_size(annotation) if orientation != UPRIGHT else None
    return Measured(height, width, orientation, frame_of(orientation, (height, width), annotated))


def write_name_sizes(
    root: str,
    lines: Sequence[tuple[str, str]],
    output: str | Path,
    ids: Mapping[str, int] | None = None,
    *,
    turn: bool = True,
) -> None:
    """Writes a line `name height width` for each line `image annotation` below `root`.

    The name is the file's without its extension. `ids` maps names to the numbers to write instead (COCO, ILSVRC).
    `turn`: the sizes are those of records in which convert_annoset turned photographs.
    """
    jobs = [(below(root, image), below(root, target) if turn else "") for image, target in lines]
    found = list(spread(measure_image, jobs, "measuring"))
    turn_undecided = turns_undecided(each.frame for each in found if isinstance(each, Measured))
    faults = [each for each in found if isinstance(each, str)]
    written = []
    for (image, _), measured in zip(lines, found, strict=True):
        name = Path(image.replace("\\", "/")).stem
        if ids is not None and name not in ids:
            faults.append(f"{image}: no id for '{name}'")
        elif isinstance(measured, Measured):
            height, width = measured.size(turn_undecided)
            written.append(f"{name if ids is None else ids[name]} {height} {width}\n")
    raise_faults(faults, "images; nothing was written")
    twice = [name for name, count in Counter(line.split()[0] for line in written).items() if count > 1]
    if twice:
        log.warning(
            log.here(),
            f"{len(twice):,} names belong to more than one image of '{output}' ({', '.join(twice[:3])}). Result files tell "
            "images apart by these names, so score_voc and score_coco would mix them up: rename the images",
        )
    write_text(output, "".join(written))


def read_ids(path: str) -> dict[str, int]:
    """Reads lines of a name and its id."""
    ids: dict[str, int] = {}
    faults = []
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2 or not words[1].isdigit():
            faults.append(f"{path}:{number}: expected 'name id', found '{line[:80]}'")
        elif words[0] in ids:
            faults.append(f"{path}:{number}: name '{words[0]}' is repeated")
        else:
            ids[words[0]] = int(words[1])
    raise_faults(faults, f"'{path}'")
    return ids
