"""Training and test images: those that the data set names, or a part drawn at random.

Frames of one film look alike, and so do copies of one photograph. A test on the one after training on the other would
measure memory, so what belongs together stays together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe.data.formats.dataset import AnnotatedImage
from caffe.data.formats.folder import natural
from caffe.errors import DataError

#: what shows that a name is of a frame, and of which film: clip3_frame_0012, video_mp4-12_jpg
_FRAME = re.compile(r"(?i)^(?P<film>.*?)[ ._-]*(?:frames?|frm)[ ._-]*(?:\d+)")
_VIDEO = re.compile(r"(?i)^(?P<film>.+?[._-](?:mp4|avi|mov|mkv|mpg|mpeg|webm))[ ._-]+\d+")
#: Roboflow's copies of one photograph: name_jpg.rf.<hash>
_COPY = re.compile(r"(?i)^(?P<name>.+)\.rf\.[0-9a-z]{8,}$")
#: a test set made of whole films may miss the wanted share by this factor; else the longest film is cut
_OFF = 2.0


@dataclass(frozen=True)
class Split:
    """Images to train on and to test on, and how they were chosen."""

    train: list[AnnotatedImage]
    test: list[AnnotatedImage]
    how: str


def split(images: Sequence[AnnotatedImage], share: float, seed: int, *, own: bool = True) -> Split:
    """Divides images into those for training and those for testing, each in the given order.

    `own`: as the data set says, if it has both. Its validation images are for testing if it has no test images, and
    for training otherwise, as in VOC's trainval. Else a share of the images drawn with `seed` is for testing, films and
    copies as a whole. Raises DataError for fewer than two images.
    """
    if len(images) < 2:
        raise DataError(
            f"{len(images)} image{'s' if len(images) != 1 else ''} with annotations; training and testing need two"
        )
    parts = {image.part for image in images}
    tested = "test" if "test" in parts else "val"
    if own and "train" in parts and tested in parts:
        test = [image for image in images if image.part == tested]
        train = [image for image in images if image.part != tested]
        bare = sum(not image.part for image in train)
        more = f"; {bare:,} that are in neither are for training" if bare else ""
        return Split(
            train, test, f"as the data set divides them ({'test' if tested == 'test' else 'validation'} part){more}"
        )
    films: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        films[_film(image.path) or f"#{index}"].append(index)
    wanted = min(max(1, round(share * len(images))), len(images) - 1)
    groups = [*films.values()]
    chosen = _whole_films(groups, wanted, seed)
    together = sum(len(members) for members in groups if len(members) > 1)
    how = f"{share:.0%} drawn with seed {seed}"
    if together:
        how += f", frames of a film and copies of a photograph together ({together:,} images in "
        how += f"{sum(len(members) > 1 for members in groups):,} groups)"
    if not wanted / _OFF <= len(chosen) <= wanted * _OFF or len(chosen) == len(images):
        largest = max(groups, key=len)
        longest = sorted(largest, key=lambda index: natural(images[index].path))
        chosen = {*longest[-wanted:]}
        how = (
            f"the last {len(chosen):,} frames of the longest film, which has {len(longest):,} of {len(images):,} images"
        )
    return Split(
        [image for index, image in enumerate(images) if index not in chosen],
        [image for index, image in enumerate(images) if index in chosen],
        how,
    )


def _film(path: Path) -> str:
    """What an image belongs to, by its name; "" for a photograph of its own. Frames have copies, too."""
    copied = _COPY.match(path.stem)
    name = copied["name"] if copied else path.stem
    frame = _VIDEO.match(name) or _FRAME.match(name)
    if not frame and not copied:
        return ""
    return f"{path.parent}/{(frame['film'] if frame else name).lower()}"


def _whole_films(films: Sequence[list[int]], wanted: int, seed: int) -> set[int]:
    """Films in random order until there are `wanted` images; one that would exceed them is left out."""
    chosen: set[int] = set()
    for position in np.random.default_rng(seed).permutation(len(films)):
        if len(chosen) + len(films[position]) <= wanted:
            chosen.update(films[position])
    return chosen
