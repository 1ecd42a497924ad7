"""Images of every format, databases as files of pages, and solver states that are loaded into a solver."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from caffe.data.build.coco_split import split
from caffe.data.images import decode
from caffe.data.lmdb_source import LmdbSource, LmdbWriter
from caffe.errors import DataError
from caffe.proto import caffe_pb2
from caffe.proto.solver_state import read_solver_state
from caffe.proto.text import parse_text
from caffe.solver.solver import Solver
from tests.fuzz.net_kinds import change

_MOST_PIXELS = 4_000_000
"""The limit of pixels here; at its default the largest image takes more than a case may."""
_PAGE = 4096

COCO = b"""{"images": [{"id": 1, "file_name": "a.jpg", "height": 480, "width": 640},
{"id": 2, "file_name": "c/b.jpg", "height": 5, "width": 6, "license": 3}],
"annotations": [{"image_id": 1, "category_id": 17, "bbox": [1.5, 2, 30, 40.25], "iscrowd": 0, "area": 1200, "id": 5},
{"image_id": 2, "category_id": 1, "bbox": [0, 0, 6, 5], "segmentation": [[1, 2, 3, 4]]}]}
"""


@cache
def images() -> list[bytes]:
    rng = np.random.default_rng(0)
    samples = []
    for side in (24, 200):
        image = cv2.resize(rng.integers(0, 256, (6, 7, 3), np.uint8), (side, side))
        gray, alpha = image[:, :, 0], cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
        for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".ppm", ".pam", ".sr", ".avif"):
            samples.append(_encoded(suffix, image))
        samples += [_encoded(suffix, image.astype(np.float32) / 255) for suffix in (".pfm", ".hdr")]
        samples += [_encoded(suffix, gray) for suffix in (".jpg", ".png", ".pgm", ".pbm", ".tiff")]
        samples += [_encoded(suffix, alpha) for suffix in (".png", ".webp", ".tiff", ".bmp")]
        samples.append(_encoded(".png", image.astype(np.uint16) * 257))
        samples.append(_encoded(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    return samples


def _encoded(suffix: str, image: np.ndarray, *settings: int) -> bytes:
    return cv2.imencode(suffix, image, settings)[1].tobytes()


def read_image(path: Path) -> float:
    os.environ["CAFFE_MAX_PIXELS"] = str(_MOST_PIXELS)
    found = [decode(path.read_bytes(), flags) for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED)]
    if found[0] is None or found[1] is None:
        raise DataError(f"{path}: not an image, or damaged")
    return float(found[0].sum())


# ---- databases


@cache
def databases() -> list[bytes]:
    """Small values in the tree, large ones in pages of their own, and a tree of several levels."""
    samples = []
    for count, size in ((5, 100), (4, 6000), (400, 60)):
        with tempfile.TemporaryDirectory() as folder:
            with LmdbWriter(Path(folder) / "db") as writer:
                for number in range(count):
                    datum = caffe_pb2.Datum(channels=1, height=1, width=size, data=bytes(size), label=number)
                    writer.put(f"{number:08d}_a/{number}.jpg".encode(), datum.SerializeToString())
            samples.append((Path(folder) / "db" / "data.mdb").read_bytes())
    return samples


_WORDS = (0, 1, 2, 4, 8, 16, 0xFFFF, 0x7FFF, 4096, 4095, 15, 17)
_PAGES = (0, 1, 2, 3, 5, 1 << 20, 1 << 40, (1 << 64) - 1, 1 << 63)


def changed_pages(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """A database with wrong words in the headers, tables and entries of its pages, or with pages lost or exchanged."""
    data = bytearray(rng.choice(samples))
    pages = len(data) // _PAGE
    for _ in range(rng.choice((1, 1, 2, 5))):
        page = rng.randrange(pages) * _PAGE
        kind = rng.choice(("word", "word", "page number", "bit", "lost", "exchanged", "cut"))
        if kind == "word":
            at = page + 2 * rng.randrange(rng.choice((12, 100, _PAGE // 2)))
            data[at : at + 2] = struct.pack("<H", rng.choice(_WORDS))
        elif kind == "page number":
            at = page + rng.choice((0, 136, 128, 120, 144, 40, rng.randrange(_PAGE - 8)))
            data[at : at + 8] = struct.pack("<Q", rng.choice((*_PAGES, rng.randrange(pages))))
        elif kind == "bit":
            data[page + rng.randrange(_PAGE)] ^= 1 << rng.randrange(8)
        elif kind == "lost":
            data[page : page + _PAGE] = bytes(_PAGE)
        elif kind == "exchanged":
            other = rng.randrange(pages) * _PAGE
            data[page : page + _PAGE], data[other : other + _PAGE] = (
                data[other : other + _PAGE],
                data[page : page + _PAGE],
            )
        elif rng.random() < 0.3:
            return bytes(data[: rng.randrange(len(data))])
    return bytes(data)


def read_database(path: Path) -> int:
    folder = path.parent / "db"
    folder.mkdir(exist_ok=True)
    (folder / "data.mdb").unlink(missing_ok=True)
    os.link(path, folder / "data.mdb")
    source = LmdbSource(folder)
    try:
        return sum(source.datum(index).label for index in range(len(source)))
    finally:
        source.close()


# ---- solver states

_NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
"""


@cache
def _solver(kind: str) -> Any:
    param: Any = parse_text(
        f'base_lr: 0.1 lr_policy: "plateau" gamma: 0.1 max_iter: 100 type: "{kind}" momentum: 0.9 solver_mode: CPU '
        "plateau_winsize: 10",
        caffe_pb2.SolverParameter(),
        "solver",
    )
    param.net_param.CopyFrom(parse_text(_NET, caffe_pb2.NetParameter(), "net"))
    return Solver(param)


@cache
def states() -> list[bytes]:
    samples = []
    for copies in (1, 2):
        state: Any = caffe_pb2.SolverState(iter=120, current_step=1, minimum_loss=0.5, iter_last_event=100)
        for shape in [(2, 3), (2,)] * copies:
            blob = state.history.add(data=[0.5] * int(np.prod(shape)))
            blob.shape.dim.extend(shape)
        samples.append(state.SerializeToString())
    return samples


def changed_state(samples: Sequence[bytes], rng: random.Random) -> bytes:
    """A solver state with other fields, which is still one."""
    state: Any = caffe_pb2.SolverState.FromString(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 2, 4))):
        change(state, rng)
    return bytes(state.SerializeToString())


def load_state(path: Path) -> int:
    """Into solvers of one history for each parameter, and of two."""
    wanted = "Adam" if len(read_solver_state(path).history) == 4 else "SGD"
    solver = _solver(wanted)
    solver.restore(str(path))
    return int(solver.iter)


def split_coco(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return len(split(path, Path(folder), "images", "annotations").lines)
