"""Chooses the cases of tests/golden/answers from a folder of all: `python -m tests.golden.select_answers FOLDER`.

A case covers the options that its layer (or solver) sets, each with its value where only a few values occur, and the
pairs of those among them that are choices (enumerations and booleans). Cases are taken one at a time, always the one
that covers the most new things for its size: options until all are covered, then pairs as far as the kind's share goes.

Transform cases hold photographs. Of them the boxes are taken alone, with the annotations and sizes of the images.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from tests.golden.cases import ANSWERS

#: bytes for each kind
SHARES = {
    "detection_evaluate": 20_000,
    "detection_output": 195_000,
    "layer": 370_000,
    "multibox_loss": 220_000,
    "normalize": 45_000,
    "prior_box": 60_000,
    "solver": 85_000,
}
#: with more values than this in the whole set, a number counts as given or not given
FEW_VALUES = 4
_CHOICES = (FieldDescriptor.CPPTYPE_ENUM, FieldDescriptor.CPPTYPE_BOOL)
Fact = tuple[Any, ...]


def leaves(message: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """(path, value, whether it is a choice) of every field that `message` sets; of a repeated one all values as one."""
    for field, value in message.ListFields():
        name = f"{path}.{field.name}"
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                yield from leaves(part, name)
        elif field.name not in ("name", "top", "bottom"):
            yield name, tuple(value) if field.is_repeated else value, field.cpp_type in _CHOICES


def options(kind: str, file: Path) -> list[tuple[str, Any, bool]]:
    """What a case sets: of the layer that the kind is about, of the solver for `solver`, and of its arrays' shapes."""
    case = np.load(file)
    if kind == "solver":
        message = parse_text(json.loads(str(case["meta"]))["solver"], caffe_pb2.SolverParameter(), str(file))
        return list(leaves(message))
    net = parse_text(str(case["prototxt"]), caffe_pb2.NetParameter(), str(file))
    layer = next(layer for layer in reversed(net.layer) if layer.type not in ("Input", "Scale") or kind == "layer")
    found = [(f"{layer.type}{path}", value, choice) for path, value, choice in leaves(layer)]
    return [*found, *((f"{layer.type}: {what}", value, False) for what, value in of_arrays(kind, case))]


def of_arrays(kind: str, case: Any) -> Iterator[tuple[str, bool]]:
    """What makes a case a harder one whatever its options."""
    for name in ("loc", "x"):
        if name in case.files:
            yield "one image", case[name].shape[0] == 1
    if kind == "multibox_loss":
        label = case["label"][0, 0]
        yield "an image without boxes", len({*label[:, 0]} - {-1}) < case["loc"].shape[0]
        yield "difficult boxes", bool(label[:, 7].any())
        yield "nothing to learn", not case["loc_diff"].any()
    if kind == "detection_output":
        rows = case["detection_out"][0, 0]
        yield "an image without detections", bool((rows[:, 1] < 0).any() or len({*rows[:, 0]}) < case["loc"].shape[0])
        yield "equal scores", len({*rows[:, 2]}) < len(rows)
    if kind == "detection_evaluate":
        yield "no box", not (case["label"][..., 1] > 0).any()
        yield "difficult boxes", bool(case["label"][..., 7].any())


def select(kind: str, files: list[Path]) -> list[Path]:
    """The files of a kind to keep, by name."""
    values = defaultdict(set)
    given = {file: options(kind, file) for file in files}
    for found in given.values():
        for path, value, _ in found:
            values[path].add(value)
    singles, pairs = {}, {}
    for file, found in given.items():
        singles[file] = {(path, value if len(values[path]) <= FEW_VALUES else "given") for path, value, _ in found}
        choices = sorted((path, value) for path, value, choice in found if choice)
        pairs[file] = set(itertools.combinations(choices, 2))
    kept: list[Path] = []
    room = SHARES[kind]
    for facts, optional in ((singles, False), (pairs, True)):
        left: set[Fact] = set().union(*facts.values()) - set().union(*(facts[file] for file in kept))
        while left:
            fitting = [file for file in files if file not in kept and (not optional or file.stat().st_size <= room)]
            best = max(fitting, key=lambda file: len(facts[file] & left) / file.stat().st_size, default=None)
            if best is None or not facts[best] & left:
                break
            kept.append(best)
            left -= facts[best]
            room -= best.stat().st_size
    # what is left of the share, for more of the smallest
    for file in sorted(files, key=lambda file: file.stat().st_size):
        if file not in kept and file.stat().st_size <= room:
            kept.append(file)
            room -= file.stat().st_size
    return sorted(kept)


def boxes_of_transforms(folder: Path) -> dict[str, np.ndarray]:
    """The nets of the transform cases, the labels in their answers, and the contents of the LMDB besides the pictures."""
    source = LmdbSource(folder / "train_run" / "lmdb")
    records = []
    files = sorted(folder.glob("transform_*.npz"))
    for index in range(max(np.load(file)["data"].shape[0] for file in files)):
        record = source.annotated_datum(index)
        height, width = decode_datum(record.datum, source.where(index)).shape[:2]
        record.datum.Clear()
        record.datum.height, record.datum.width = height, width
        records.append(np.frombuffer(record.SerializeToString(), np.uint8))
    arrays: dict[str, np.ndarray] = {f"record_{index}": record for index, record in enumerate(records)}
    arrays["label_map"] = np.array((folder / "train_run" / "labelmap_bccd.prototxt").read_text())
    for file in files:
        case = np.load(file)
        arrays[f"prototxt_{file.stem}"], arrays[f"label_{file.stem}"] = case["prototxt"], case["label"]
        arrays[f"shape_{file.stem}"] = np.array(case["data"].shape)
    return arrays


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """The arrays as an .npz, lossless."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="all the reference answers")
    folder = parser.parse_args().folder
    if not list(folder.glob("solver_*.npz")):
        sys.exit(f"{folder} holds no reference answers")
    ANSWERS.mkdir(exist_ok=True)
    for old in ANSWERS.glob("*.npz"):
        old.unlink()
    for kind in SHARES:
        files = sorted(folder.glob(f"{kind}_*.npz"))
        kept = select(kind, files)
        for file in kept:
            with np.load(file) as case:
                (ANSWERS / file.name).write_bytes(packed(dict(case)))
        size = sum((ANSWERS / file.name).stat().st_size for file in kept)
        print(f"{kind}: {len(kept)} of {len(files)} cases, {size:,} bytes")
    (ANSWERS / "boxes_of_transforms.npz").write_bytes(packed(boxes_of_transforms(folder)))
    files = list(ANSWERS.glob("*.npz"))
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files):,} bytes")


if __name__ == "__main__":
    main()
