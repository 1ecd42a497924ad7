"""The files of a folder, and which image an annotation means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from caffe.errors import DataError, shown

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".jp2")
)


class Folder:
    """All files below `root`, in natural order. Hidden files and directories are left out, as is `without`."""

    def __init__(self, root: Path, without: Sequence[Path] = ()) -> None:
        if not root.is_dir():
            raise DataError(f"'{root}' is not a directory" if root.exists() else f"no directory '{root}'")
        self.root = root
        self.files: dict[str, list[Path]] = defaultdict(list)
        for path in _walk(root, without):
            self.files[path.suffix.lower()].append(path)
        self.images = sorted(
            (path for suffix, paths in self.files.items() if suffix in IMAGE_SUFFIXES for path in paths),
            key=natural,
        )
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            self._by_name[_key(path.name)].append(path)
            self._by_stem[_key(path.stem)].append(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files with one of these endings (lower case), in natural order."""
        return sorted((path for suffix in suffixes for path in self.files.get(suffix, ())), key=natural)

    def shown(self, path: Path) -> str:
        """A path for messages, relative to the folder."""
        return shown(os.path.relpath(path, self.root), 120)

    def image_named(self, reference: str, annotation: Path) -> Path | str:
        """The image that an annotation file names, or why there is none.

        The name may have folders, of this machine or of another, or no ending. Of several images with this name, the
        one with the most of its folders counts, then the one nearest to the annotation file, then the one whose
        directories are called most like the file's.
        """
        words = _words(reference)
        if not words:
            return "names no image"
        *folders, name = words
        candidates = self._by_name.get(_key(name)) or self._by_stem.get(_key(name)) or []
        if not candidates and Path(name).suffix.lower() in IMAGE_SUFFIXES:
            # converted after it was annotated, from bmp to jpg for instance
            candidates = self._by_stem.get(_key(Path(name).stem), [])
        exact = [path for path in candidates if path.name == name]
        return self._nearest(exact or candidates, folders, annotation, f"image '{shown(reference)}'")

    def image_beside(self, annotation: Path, reference: str = "") -> Path | str:
        """The image with an annotation file's own name, beside it or in a parallel folder, or why there is none.

        `reference`, how the file names its image, decides between two endings, and counts if there is no such image.
        """
        stem = _key(annotation.stem)
        candidates = self._by_name.get(stem) or self._by_stem.get(stem) or []
        exact = [path for path in candidates if annotation.stem in (path.stem, path.name)]
        found = self._nearest(exact or candidates, annotation.parent.parts, annotation, f"image '{annotation.stem}'")
        if isinstance(found, str) and reference:
            by_name = self.image_named(reference, annotation)
            return by_name if isinstance(by_name, Path) or candidates else f"{found}, and {by_name}"
        return found

    def _nearest(self, candidates: Sequence[Path], folders: Sequence[str], near: Path, what: str) -> Path | str:
        if not candidates:
            return f"{what} is not in '{self.root}'"

        def rank(path: Path) -> tuple[int, int, int, int]:
            parents, around = path.parent.parts, near.parent.parts
            same = _common(reversed(parents), reversed(folders))
            return same, _common(parents, around), len({*parents} & {*around}), -len(parents)

        best = max(map(rank, candidates))
        found = [path for path in candidates if rank(path) == best]
        if len(found) > 1:
            return f"{what} may be '{self.shown(found[0])}' or '{self.shown(found[1])}'; rename one of them"
        return found[0]


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """A key that sorts names with numbers as people do: 2 before 10."""
    words = re.split(r"(\d{1,18})", str(path))
    return [(word.isdigit() and word.isascii(), int(word) if word.isdigit() and word.isascii() else 0, word)
            for word in words]  # fmt: skip


def _walk(root: Path, without: Sequence[Path]) -> list[Path]:
    found, seen = [], {os.path.realpath(each) for each in without}
    for place, folders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return found


def _words(reference: str) -> list[str]:
    """The components of a path or URL, without those that only say where another machine keeps it."""
    reference = reference.strip()
    if re.match(r"[a-z]+://", reference):
        reference = unquote(reference.partition("?")[0])
    return [word for word in re.split(r"[\\/]+", reference) if word not in ("", ".", "..")]


def _key(name: str) -> str:
    """A name as names are compared: macOS takes accents apart from their letters, and some systems ignore case."""
    return unicodedata.normalize("NFC", name).lower()


def _common(first: Iterable[str], second: Iterable[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
