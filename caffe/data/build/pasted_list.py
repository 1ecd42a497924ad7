"""The list of the copies of small objects that were pasted into the images of a database."""

from __future__ import annotations

from pathlib import Path

from caffe import log
from caffe.data.build.small_objects import Copy, Pasting
from caffe.data.build.small_settings import SmallObjects
from caffe.data.label_map import LabelMap
from caffe.files import write_text

_FIRST_LINE = "# record, class, the copy's box, the box it is a copy of (xmin ymin xmax ymax in pixels); tabs between"


class PastedList:
    """Records what was pasted into the images of a database, in a file next to it and in the log."""

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
        """Writes the file. Without -paste_small, removes the file of an earlier database with the same name."""
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
        """Logs how many images were repeated and how many copies were pasted. Warns if there was nothing to copy."""
        small = self.small
        if not small.copies and small.repeats == 1:
            return
        if not with_small:
            log.warning(log.here(), f"no image has a small object ({small.definition}): nothing was changed")
            return
        log.info(log.here(), f"{with_small:,} of {images:,} images have small objects ({small.definition})")
        if small.repeats > 1:
            log.info(log.here(), f"each of these is written {small.repeats} times: {records:,} records")
        if not small.copies:
            return
        into = len({key for key, _ in self.copies})
        note = f"; no free place for {self.unplaced:,}" if self.unplaced else ""
        log.info(log.here(), f"{len(self.copies):,} copies pasted into {into:,} images{note}: see {self.path}")
        if not self.copies and not self.unplaced:
            log.warning(
                log.here(),
                "no small object could be copied: all are difficult, cut by the image's edge or covered by other boxes",
            )
