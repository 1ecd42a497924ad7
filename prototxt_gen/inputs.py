"""What the generators read: the label map, the test list, and how many records an LMDB holds."""

from __future__ import annotations

from pathlib import Path

import lmdb

from caffe.errors import DataError
from caffe.proto import caffe_pb2
from caffe.proto.text import read_text

BACKGROUND_ITEM = 'item { name: "none_of_the_above" label: 0 display_name: "background" }'


def count_classes(label_map: str) -> int:
    """The number of classes in a label map, background included. Its labels must be 0, 1, 2, … without gaps."""
    path = Path(label_map)
    if not path.is_file():
        raise DataError(
            f"label map {path} not found; give --label_map FILE, or run in the folder that holds models/. "
            "create_label_map makes one for your own classes"
        )
    items = read_text(path, caffe_pb2.LabelMap()).item
    labels = [item.label for item in items]
    if 0 not in labels:
        raise DataError(f"label map {path} has no background class; add this line to it:\n  {BACKGROUND_ITEM}")
    if len(labels) == 1:
        raise DataError(f"label map {path} has the background alone; it takes an item for each class")
    for expected, label in enumerate(sorted(labels)):
        if label != expected:
            fault = f"label {label} occurs twice" if label < expected else f"label {expected} is missing"
            raise DataError(f"label map {path}: {fault}; {len(labels)} items take the labels 0 to {len(labels) - 1}")
    return len(labels)


def count_test_images(name_size: str) -> int:
    """The lines of a list of `name height width`, each checked."""
    count = 0
    for number, line in enumerate(Path(name_size).read_text().splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 3 or not (fields[-1].isdigit() and fields[-2].isdigit()):
            raise DataError(
                f"{name_size}, line {number}: '{line[:80]}' is not 'name height width'; get_image_size makes the list"
            )
        count += 1
    if count == 0:
        raise DataError(f"{name_size} lists no images")
    return count


def count_records(path: str, flag: str) -> int:
    """The records of an LMDB. `flag` is what the user gave it as, for the messages."""
    if not Path(path).is_dir():
        kind = "is a file" if Path(path).exists() else "not found"
        raise DataError(f"--{flag} {path}: {kind}; an LMDB is a folder with data.mdb, made by scripts/create_data.sh")
    if not (Path(path) / "data.mdb").is_file():
        raise DataError(f"--{flag} {path}: no LMDB, it holds no data.mdb; scripts/create_data.sh makes one")
    try:
        with lmdb.open(path, readonly=True, lock=False) as environment:
            records = int(environment.stat()["entries"])
    except lmdb.Error as error:
        raise DataError(f"--{flag} {path}: cannot be read as an LMDB: {error}") from error
    if records == 0:
        raise DataError(f"--{flag} {path}: the LMDB is empty")
    return records
