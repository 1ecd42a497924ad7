"""Annotations in the formats of people's folders, each with its images, read and written as `import_annotations` does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from caffe.data.build.annotations import read_annotations
from caffe.data.formats.class_names import label_map_of
from caffe.data.formats.reading import read_dataset
from caffe.data.formats.splitting import split
from caffe.data.formats.voc_layout import write_layout
from caffe.data.image_list import raise_faults
from caffe.data.label_map import LabelMap
from caffe.errors import DataError
from tests.data.formats import made

#: what the file under test is called: the image that it belongs to, where it does not name one
_STEM = "one"


def samples_of(pattern: str, *makers: Callable[[Path], None]) -> Callable[[], Sequence[bytes]]:
    """The annotation files that `pattern` matches in the data sets of some makers."""

    @cache
    def samples() -> list[bytes]:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for maker in makers:
                root = Path(folder) / maker.__name__
                maker(root)
                found += [path.read_bytes() for path in sorted(root.rglob(pattern))[:1]]
        return found

    return samples


def read_format(form: str, name: str = "") -> Callable[[Path], int]:
    """What import_annotations makes of a folder with two images, two frames of a video and the file under test.

    `name`: how the file is called in the folder.
    """

    def read(path: Path) -> int:
        root, out = path.parent / "folder", path.parent / "out"
        if not root.exists():
            made.pictures(root)
            made.picture(root / "frame_000000.jpg")
            made.picture(root / "frame_000001.jpg")
            if name:
                made.text(root / "one.txt", made.yolo_text("one"))
        shutil.copyfile(path, root / (name or f"{_STEM}{path.suffix}"))
        dataset = read_dataset(root, form=form, keep_unannotated=True)
        if dataset.faults:
            raise_faults(dataset.faults, f"'{root}'", "")
        if not any(image.objects for image in dataset.images):
            raise DataError(f"'{root}' has {len(dataset.images)} annotated images without any object")
        labels, names, _ = label_map_of(dataset.images, dataset.class_names)
        try:
            write_layout(out, root, split(dataset.images, 0.5, 1, own=False), labels, names, 1)
            written = LabelMap.read(out / "labelmap.prototxt")
            boxes = 0
            for each in (out / "Annotations").iterdir():
                found = read_annotations(each, "xml", written)
                assert not found.faults, found.faults
                boxes += len(found.boxes)
            return boxes
        finally:
            shutil.rmtree(out, ignore_errors=True)

    return read
