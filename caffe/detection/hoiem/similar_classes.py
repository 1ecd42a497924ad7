"""Sets of classes that are easily confused. Confusion with a similar class is its own kind of false positive."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from caffe.data.image_list import raise_faults, read_lines
from caffe.errors import shown

#: Hoiem's sets for PASCAL VOC
VOC_SETS = (
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
#: VOC's classes; three of them are in no set
VOC_CLASSES = frozenset(name for names in VOC_SETS for name in names) | {"bottle", "pottedplant", "tvmonitor"}


#: names of one line that a message has
_LISTED = 5


class SimilarClasses:
    """Two classes are similar if a set contains both. This is not transitive over sets."""

    def __init__(self, sets: Iterable[Iterable[str]] = ()) -> None:
        self.sets = tuple(frozenset(names) for names in sets)

    def to(self, name: str) -> frozenset[str]:
        """Returns the classes that are similar to a class, without the class itself."""
        return frozenset().union(*(names for names in self.sets if name in names)) - {name}

    @staticmethod
    def for_classes(names: Collection[str]) -> SimilarClasses:
        """Returns VOC's sets if all classes are VOC's, otherwise no sets."""
        return SimilarClasses(VOC_SETS if names and VOC_CLASSES.issuperset(names) else ())

    @staticmethod
    def read(path: str | Path, known: Collection[str]) -> SimilarClasses:
        """Reads a file with one set per line: class names separated by commas. `#` begins a comment.

        Raises DataError, with all faults at once, for sets of fewer than two classes and for names not in `known`.
        """
        sets, faults = [], []
        for number, line in read_lines(path):
            names = [name.strip() for name in line.partition("#")[0].split(",") if name.strip()]
            unknown = [name for name in names if name not in known]
            if unknown:
                listed = ", ".join(f"'{shown(name)}'" for name in unknown[:_LISTED])
                faults.append(f"line {number}: no class is called {listed}{', …' if len(unknown) > _LISTED else ''}")
            elif len(set(names)) == 1:
                faults.append(f"line {number}: '{shown(names[0])}' alone is not a set; write `cat, dog`, with commas")
            elif names:
                sets.append(names)
        raise_faults(faults, f"the sets of similar classes '{path}'", f"Classes: {', '.join(sorted(known))}")
        return SimilarClasses(sets)
