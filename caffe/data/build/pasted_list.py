"""The list of the copies of small objects that were pasted into a database's images."""

from __future__ import annotations

from pathlib import Path

from caffe import log
from caffe.data.build.small_objects import Copy, Pasting, SmallObjects
from caffe.data.label_map import LabelMap
from caffe.files import write_text

_FIRST_LINE = "# record, class, the copy's box, the box it is a copy of (xmin ymin xmax ymax in pixels); tabs between"


class PastedList:
    """What was pasted into the images of a database, as a file beside it and as lines of the log."""

    def __init__(self, small: SmallObjects, database: str | Path) -> None:
        self.small = small
        self.path = Path(f"{str(database).rstrip('/')}_pasted.txt")
        self.copies: list[tuple[str, Copy]] = []
        self.unplaced = 0

    def add(self, key: str, pasting: Pasting) -> None:
        """Adds what was pasted into the record `key`."""
        self.copies += [(key, copy) for copy in pasting.copies]
        self.unplaced += pasting.unplaced

    def write(self, label_map: LabelMap | None) -> None:
        """Writes the file; without -paste_small removes the one of the database that stood here before."""
        if not self.small.copies or label_map is None:
            if self._is_ours():
                self.path.unlink()
            return
        lines = [_FIRST_LINE]
        lines += [
            "\t".join([key, label_map.name_of(copy.label), *(f"{side:g}" for side in (*copy.box, *copy.source))])
            for key, copy in self.copies
        ]
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def _is_ours(self) -> bool:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.readline().rstrip("\n") == _FIRST_LINE
        except (OSError, UnicodeDecodeError):
            return False

    def report(self, images: int, records: int, with_small: int) -> None:
        """Says how many images were repeated and objects pasted, and warns where there was nothing to do it with."""
        small = self.small
        if not small.copies and small.repeats == 1:
            return
        if not with_small:
            log.warning(log.here(), f"no image has a small object ({small.definition}): nothing was changed")
            return
        log.info(log.here(), f"{with_small:,} of {images:,} images have small objects ({small.definition})")
        if small.repeats > 1:
            log.info(log.here(), f"these are written {small.repeats} times: {records:,} records")
        if not small.copies:
            return
        into = len({key for key, _ in self.copies})
        note = f"; {self.unplaced:,} found no free place" if self.unplaced else ""
        log.info(log.here(), f"{len(self.copies):,} copies pasted into {into:,} images{note}: see {self.path}")
        if not self.copies and not self.unplaced:
            log.warning(
                log.here(),
                "no small object could be copied: all are difficult, cut by the image's edge or covered by other boxes",
            )
