"""The label map of a data set that was read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from caffe.data.formats.dataset import AnnotatedImage
from caffe.data.label_map import LabelMap, LabelMapItem

BACKGROUND = LabelMapItem("none_of_the_above", 0, "background")
_LONGEST = 100


def label_map_of(images: Iterable[AnnotatedImage], order: Sequence[str]) -> tuple[LabelMap, dict[str, str], list[str]]:
    """The classes that have objects, numbered from 1 in `order` (without one, by name).

    Returns the label map, the name of each class in it by the class's own name, and the classes of `order` that no
    image has. Result files are named after classes, so a character that cannot be part of a file's name is replaced;
    the class's own name remains as its display name.
    """
    counts = Counter(each.name for image in images for each in image.objects)
    spelled = [" ".join(name.split()) for name in order]
    used = [name for name in dict.fromkeys(spelled) if name in counts]
    used += sorted(counts.keys() - {*used})
    names: dict[str, str] = {}
    taken = {BACKGROUND.name.lower()}
    for name in used:
        plain = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name)[:_LONGEST].strip() or "_"
        plain = f"_{plain[1:]}" if plain.startswith(".") else plain
        unique, count = plain, 1
        while unique.lower() in taken:  # some file systems do not tell "Cat" from "cat"
            count += 1
            unique = f"{plain}_{count}"
        taken.add(unique.lower())
        names[name] = unique
    items = [LabelMapItem(names[name], label, name) for label, name in enumerate(used, 1)]
    return LabelMap([BACKGROUND, *items]), names, [name for name in dict.fromkeys(spelled) if name not in counts]
