"""What kinds of false positives there are: poor localisation, confusion with a similar or another class, background."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection.hoiem.matching import Matching, ObjectTable, Pairs, match

Mask = NDArray[np.bool_]

#: as they are drawn and listed
KINDS = ("loc", "sim", "oth", "bg")
#: overlap from which a detection counts as being about an object
WEAK = 0.1


@dataclass(frozen=True)
class FalsePositives:
    """The kind of each of K ranked detections that is a false positive.

    loc, sim, oth and bg, K each: on an object of its own class, but badly placed or a duplicate; on an object of a
    similar class; of another class; of none. Where objects of a similar and of another class are overlapped, the
    greater overlap decides. `near_similar`, K: not loc, and on an object of a similar class, whatever else.
    """

    loc: Mask
    sim: Mask
    oth: Mask
    bg: Mask
    near_similar: Mask

    def kind(self, name: str) -> Mask:
        """The mask of a kind in KINDS."""
        return {"loc": self.loc, "sim": self.sim, "oth": self.oth, "bg": self.bg}[name]

    def counts(self, upto: int) -> dict[str, int]:
        """How many of each kind there are among the first `upto` detections."""
        return {name: int(self.kind(name)[:upto].sum()) for name in KINDS}


def classify(
    false: Mask, pairs: Pairs, objects: ObjectTable, own: int | None, similar: Collection[str]
) -> FalsePositives:
    """Tells the kinds of the false positives among K ranked detections.

    false, K: which are false positives; pairs: with all objects that they overlap by WEAK or more; own: the number of
    their class in `objects`, None if it has no object.
    """
    detections = len(false)
    of_class = objects.classes[pairs.objects]
    near_own = np.zeros(detections, bool)
    near_own[pairs.detections[of_class == own]] = True
    # A class at a time, each detection may take one object; what overlaps only taken ones keeps its greatest overlap.
    best = np.zeros(detections)
    best_is_similar = np.zeros(detections, bool)
    near_similar = np.zeros(detections, bool)
    for number in np.unique(of_class).tolist():
        if number == own:
            continue
        weak: Matching = match(pairs.where(of_class == number), detections, WEAK)
        is_similar = objects.names[number] in similar
        better = weak.overlaps > best
        best = np.where(better, weak.overlaps, best)
        best_is_similar = np.where(better, is_similar, best_is_similar)
        if is_similar:
            near_similar |= weak.overlaps > 0
    rest = false & ~near_own
    return FalsePositives(
        loc=false & near_own,
        sim=rest & (best > 0) & best_is_similar,
        oth=rest & (best > 0) & ~best_is_similar,
        bg=rest & (best == 0),
        near_similar=rest & near_similar,
    )
