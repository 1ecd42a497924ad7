"""All that is wrong or odd in the images and boxes of one or more sets, by kind, with file and object."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffe.data.build.annotated_frame import Frame, turns_undecided
from caffe.data.label_map import LabelMap
from caffe.data.orientation import UPRIGHT
from caffe.dataset_check.examine import Examined
from caffe.default_boxes.layout import Layout
from caffe.default_boxes.reach import LEAST_OVERLAP, THRESHOLD, source_overlap
from caffe.errors import counted

Floats = NDArray[np.float64]

#: the ends of the ranges of size in which objects are tiny: the square root of their area at the net's input, in pixels
TINY = (8, 16, 32)
#: classes with fewer objects than this are rare
RARE = 20
#: a box may lie outside its image by this many pixels before it counts: annotation tools round, and VOC counts from 1.
#: The hundredth is for rounding on the way.
_BEYOND = 1.01
#: mean difference of thumbnails, in gray levels, up to which two images are nearly the same
_NEAR = 3.0
#: objects that are compared with default boxes at once
_CHUNK = 20_000


def _between(limit: int) -> str:
    """The range of sizes that ends at one of TINY, in words."""
    index = TINY.index(limit)
    return f"of {TINY[index - 1]} to {limit}" if index else f"under {limit}"


@dataclass(frozen=True)
class Kind:
    """A kind of finding: what is counted, and what to do about it. `serious`: it stops a conversion or a training."""

    name: str
    what: str
    remedy: str
    serious: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("unreadable", "images that cannot be read", "restore the files, or leave them out of the list", True),
        Kind("annotation", "annotations that cannot be read", "correct the annotation where the message says", True),
        Kind("unknown", "objects of a class that is not in the label map", "add the class, or correct its name", True),
        Kind("background", "objects with label 0, which nets take for the background",
             "number the classes from 1 (create_label_map -include_background)", True),
        Kind("no area", "boxes without area", "draw them again or remove them; training leaves them out"),
        Kind("inverted", "boxes with minimum and maximum exchanged", "exchange the corners", True),
        Kind("beyond", "boxes that reach beyond their image",
             "check that the annotation belongs to the image and its size is right"),
        Kind("outside", "boxes that lie entirely outside their image", "remove them: nothing can be learned from them"),
        Kind("repeated", "boxes that are there twice", "remove one of them"),
        Kind("leak", "images that are in more than one set", "remove them from one: a score on training images says little"),
        Kind("duplicate", "images that are repeated in a set", "keep one of them, or merge their annotations"),
        Kind("near", "images that are nearly the same as one in another set",
             "keep frames of one film, and copies of one photograph, in the same set"),
        Kind("blank", "images of one color", "look at the file: the picture may be lost"),
        Kind("early", "images that end early (truncated JPEG)", "get the file again; the missing part is gray"),
        Kind("turned", "photographs that convert_annoset turns, as their orientation tag says",
             "nothing, if the boxes were drawn on the turned picture; otherwise convert_annoset -noturn"),
        Kind("stored", "photographs that stay as they are despite an orientation tag", "nothing: boxes fit the stored pixels"),
        Kind("size", "annotations with another size than their image", "check that the annotation belongs to the image"),
        Kind("empty", "images without objects", "leave them out unless they are meant as background"),
        Kind("unused", "classes of the label map without an object", "remove the class, or add images of it"),
        Kind("rare", f"classes with fewer than {RARE} objects in a set", "add images; scores of rare classes vary widely"),
        *(Kind(f"tiny {limit}", f"objects {_between(limit)} pixels at the net's input",
               "use a larger input or slices, or generate the net with small default boxes (design_boxes)")
          for limit in TINY),
        Kind("unreached", f"objects that no default box overlaps by {THRESHOLD}",
             "design_boxes proposes default boxes that reach more"),
        Kind("unmatched", "objects that no default box overlaps at all", "nothing is learned from them (design_boxes)"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One finding: the set, the image (or class), the number of the object from 1 (0: all), and details."""

    where: str
    image: str
    object: int = 0
    detail: str = ""

    def __str__(self) -> str:
        which = f", object {self.object}" if self.object else ""
        return f"{self.where}: {self.image}{which}{': ' if self.detail else ''}{self.detail}"


@dataclass
class Checked:
    """The images of a set, and their boxes: label of each, or the name of a class that the label map does not have."""

    name: str
    images: Sequence[Examined]
    #: by image: the class of each of its boxes, as the label map shows it
    classes: list[list[str]] = field(default_factory=list)


@dataclass
class Findings:
    """The entries of every kind that was found, in the order of KINDS, and the sets that they were found in."""

    sets: list[Checked]
    entries: dict[str, list[Entry]]
    class_names: list[str]
    layout: Layout | None = None

    def of(self, kind: str) -> list[Entry]:
        """The entries of a kind; none if there are none."""
        return self.entries.get(kind, [])


def collect(
    sets: Mapping[str, Sequence[Examined]], label_map: LabelMap | None = None, layout: Layout | None = None
) -> Findings:
    """Puts together what was found out about the images of each set. Without a net (`layout`) sizes are not judged."""
    checked = [Checked(name, images, [_names(each, label_map) for each in images]) for name, images in sets.items()]
    found: dict[str, list[Entry]] = defaultdict(list)
    for each in checked:
        turning = turns_undecided(image.frame for image in each.images)
        for image in each.images:
            for kind, entry in (*_of_image(each.name, image, turning), *_of_boxes(each.name, image, label_map)):
                found[kind].append(entry)
    for kind, entry in (*_copies(checked), *_of_classes(checked, label_map)):
        found[kind].append(entry)
    if layout is not None:
        for kind, entry in _at_input(checked, layout):
            found[kind].append(entry)
    names = {name for each in checked for image in each.classes for name in image}
    if label_map is not None:
        known = [item.display_name for item in label_map.items if item.label]
        names_in_order = [*known, *sorted(names - set(known))]
    else:
        names_in_order = sorted(names)
    return Findings(checked, {kind: found[kind] for kind in KINDS if found[kind]}, names_in_order, layout)


def label_of(name: str | int, label_map: LabelMap | None) -> int | None:
    """The label of a class as an annotation gives it; None if it is not known."""
    if isinstance(name, int):
        return name if label_map is None or name in label_map else None
    return label_map.label_of(name) if label_map is not None else None


def _names(image: Examined, label_map: LabelMap | None) -> list[str]:
    """The display name of each box's class."""
    shown = []
    for name in image.classes:
        label = label_of(name, label_map)
        if label_map is not None and label is not None:
            shown.append(label_map.display_name_of(label))
        else:
            shown.append(name if isinstance(name, str) else f"class {name}")
    return shown


def _of_image(where: str, image: Examined, turning: bool) -> Iterator[tuple[str, Entry]]:
    if image.image_fault:
        yield "unreadable", Entry(where, image.name, detail=image.image_fault)
    for fault in image.faults:
        yield "annotation", Entry(where, image.name, detail=fault)
    if image.blank:
        yield "blank", Entry(where, image.name)
    if image.early:
        yield "early", Entry(where, image.name)
    if image.orientation != UPRIGHT:
        kept = image.frame in (Frame.ONLY, Frame.STORED) or (image.frame is Frame.UNKNOWN and not turning)
        unsure = "; its annotation does not tell whether boxes were drawn before or after turning"
        detail = f"orientation {image.orientation}{unsure * (image.frame is Frame.UNKNOWN)}"
        yield "stored" if kept else "turned", Entry(where, image.name, detail=detail)
    if image.other_size:
        yield "size", Entry(where, image.name, detail=f"the image has {image.size[1]} × {image.size[0]} pixels")
    if not len(image.corners) and not image.faults:
        yield "empty", Entry(where, image.name)


def _of_boxes(where: str, image: Examined, label_map: LabelMap | None) -> Iterator[tuple[str, Entry]]:
    height, width = image.size
    pixels = image.corners * np.array([width or 1, height or 1] * 2)
    seen: dict[tuple[object, ...], int] = {}
    for number, (name, box, unit) in enumerate(zip(image.classes, pixels.tolist(), image.corners, strict=True), 1):
        xmin, ymin, xmax, ymax = box
        shown = f"{name} at {xmin:.0f}, {ymin:.0f}, {xmax:.0f}, {ymax:.0f} of {width} × {height}"
        label = label_of(name, label_map)
        if label is None and label_map is not None:
            yield "unknown", Entry(where, image.name, number, str(name))
        elif label == 0:
            yield "background", Entry(where, image.name, number, str(name))
        if xmax < xmin or ymax < ymin:
            yield "inverted", Entry(where, image.name, number, shown)
        elif not np.isfinite(box).all() or xmax == xmin or ymax == ymin:
            yield "no area", Entry(where, image.name, number, shown)
        elif (unit[:2] >= 1).any() or (unit[2:] <= 0).any():
            yield "outside", Entry(where, image.name, number, shown)
        elif min(xmin, ymin) < -_BEYOND or xmax > width + _BEYOND or ymax > height + _BEYOND:
            yield "beyond", Entry(where, image.name, number, shown)
        key = (name, *(round(value) for value in box if np.isfinite(value)))
        if key in seen:
            yield "repeated", Entry(where, image.name, number, f"{shown}, as object {seen[key]}")
        seen.setdefault(key, number)


def _copies(sets: Sequence[Checked]) -> Iterator[tuple[str, Entry]]:
    """Images with the same pixels, in one set or in several, and nearly the same ones in several."""
    first: dict[bytes, tuple[str, str]] = {}  # the set and the image
    alike: dict[int, list[tuple[str, Examined]]] = defaultdict(list)
    for each in sets:
        for image in each.images:
            if not image.pixels or image.blank:
                continue
            if image.pixels in first:
                where, name = first[image.pixels]
                kind = "duplicate" if where == each.name else "leak"
                yield kind, Entry(each.name, image.name, detail=f"the same pixels as {where}: {name}")
                continue
            first[image.pixels] = each.name, image.name
            group = alike[image.likeness]
            near = next((other for other in group if other[0] != each.name and _near(other[1], image)), None)
            if near is not None:
                yield "near", Entry(each.name, image.name, detail=f"like {near[0]}: {near[1].name}")
            elif len(group) < 100:  # of many images that look alike, the first ones are enough to compare with
                group.append((each.name, image))


def _near(one: Examined, other: Examined) -> bool:
    difference = one.thumbnail.astype(np.int16) - other.thumbnail
    return bool(np.abs(difference).mean() <= _NEAR)


def _of_classes(sets: Sequence[Checked], label_map: LabelMap | None) -> Iterator[tuple[str, Entry]]:
    counts = {each.name: Counter(name for image in each.classes for name in image) for each in sets}
    if label_map is not None:
        for item in label_map.items:
            if item.label and not any(count[item.display_name] for count in counts.values()):
                yield "unused", Entry(", ".join(counts), item.display_name)
    for where, count in counts.items():
        for name, objects in sorted(count.items()):
            if objects < RARE:
                yield "rare", Entry(where, name, detail=counted(objects, "object"))


def _at_input(sets: Sequence[Checked], layout: Layout) -> Iterator[tuple[str, Entry]]:
    """Objects that are small at the net's input, or that its default boxes do not reach."""
    for each in sets:
        places, corners = objects_at_input(each.images, layout)
        sizes = np.sqrt((corners[:, 2:] - corners[:, :2]).prod(axis=1))
        overlaps = best_overlaps(corners, layout)
        for (number, box), size, overlap in zip(places, sizes.tolist(), overlaps.tolist(), strict=True):
            shown = f"{each.classes[number][box]}, {size:.1f} pixels at {layout.width} × {layout.height}"
            for limit in TINY:
                if size < limit:
                    yield f"tiny {limit}", Entry(each.name, each.images[number].name, box + 1, shown)
                    break
            if overlap <= LEAST_OVERLAP:
                yield "unmatched", Entry(each.name, each.images[number].name, box + 1, shown)
            elif overlap < THRESHOLD:
                detail = f"{shown}, best overlap {overlap:.2f}"
                yield "unreached", Entry(each.name, each.images[number].name, box + 1, detail)


def objects_at_input(images: Iterable[Examined], layout: Layout) -> tuple[list[tuple[int, int]], Floats]:
    """Returns which boxes have an area in their image, as (image, box), and their corners [n, 4] in pixels of the input."""
    places, rows = [], []
    for number, image in enumerate(images):
        inside = np.clip(image.corners, 0, 1)
        for box in np.flatnonzero((inside[:, 2:] > inside[:, :2]).all(axis=1)).tolist():
            places.append((number, box))
            rows.append(inside[box])
    table = np.array(rows, np.float64).reshape(-1, 4)
    return places, table * [layout.width, layout.height, layout.width, layout.height]


def best_overlaps(corners: Floats, layout: Layout) -> Floats:
    """Returns each object's largest overlap with any default box, [n]."""
    image = (layout.height, layout.width)
    parts = [
        np.concatenate([source_overlap(source, part, image) for source in layout.sources], axis=1).max(axis=1)
        for part in np.split(corners, range(_CHUNK, len(corners), _CHUNK))
    ]
    return np.concatenate(parts)
