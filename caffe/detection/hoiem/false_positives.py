"""The kinds of false positives: poor localization, confusion with a similar or another class, and background."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe.detection.hoiem.matching import Matching, ObjectTable, match
from caffe.detection.pairs import Pairs

Mask = NDArray[np.bool_]

#: in the order of the tables
KINDS = ("loc", "sim", "oth", "bg")
#: the overlap at which a detection is attributed to an object
WEAK = 0.1


@dataclass(frozen=True)
class FalsePositives:
    """The kind of each of K ranked detections that is a false positive.

    Each kind is a mask, [K]. loc: on an object of its own class, but poorly localized or a duplicate. sim: on an object
    of a similar class. oth: on an object of another class. bg: on no object. If a detection overlaps objects of both a
    similar and another class, the larger overlap decides. near_similar: not loc, and on an object of a similar class,
    even if it overlaps another class more.
    """

    loc: Mask
    sim: Mask
    oth: Mask
    bg: Mask
    near_similar: Mask

    def kind(self, name: str) -> Mask:
        """Returns the mask, [K], of a kind in KINDS."""
        return {"loc": self.loc, "sim": self.sim, "oth": self.oth, "bg": self.bg}[name]

    def counts(self, upto: int) -> dict[str, int]:
        """Returns the number of each kind among the first `upto` detections."""
        return {name: int(self.kind(name)[:upto].sum()) for name in KINDS}


def classify(
    false: Mask, pairs: Pairs, objects: ObjectTable, own: int | None, similar: Collection[str]
) -> FalsePositives:
    """Classifies the false positives among K ranked detections of a class.

    false, [K]: which detections are false positives. pairs: all pairs of a detection and an object that overlap by WEAK
    or more. own: the index of the class in `objects`, or None if it has no object. similar: names of similar classes.
    """
    detections = len(false)
    of_class = objects.classes[pairs.objects]
    near_own = np.zeros(detections, bool)
    near_own[pairs.detections[of_class == own]] = True
    # Per class, each detection can take one object. One that overlaps only taken objects keeps its best overlap.
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
