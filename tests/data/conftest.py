"""A small VOC-like data set on disk, and helpers to read databases."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.data.label_map import LabelMap

LABEL_MAP = """\
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 1 display_name: "Cat" }
item { name: "dog" label: 2 display_name: "Dog" }
"""


def voc_xml(*objects: str, size: str = "<size><width>80</width><height>60</height><depth>3</depth></size>") -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def voc_object(name: str, *corners: float | str, difficult: int = 0) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def photograph(seed: int = 0, height: int = 60, width: int = 80) -> np.ndarray:
    """An image so smooth that JPEG changes it by only a few gray levels."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def label_map() -> LabelMap:
    return LabelMap.parse(LABEL_MAP, "labelmap.prototxt")


class Folder:
    """A directory of images and annotations, and the list that names them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []
        (root / "labelmap.prototxt").write_text(LABEL_MAP)

    def add(self, name: str, annotation: str, suffix: str = "xml", image: np.ndarray | None = None) -> None:
        ok, data = cv2.imencode(".jpg", photograph(len(self.lines)) if image is None else image)
        assert ok
        (self.root / f"{name}.jpg").write_bytes(data.tobytes())
        (self.root / f"{name}.{suffix}").write_text(annotation)
        self.lines.append(f"{name}.jpg {name}.{suffix}")

    def write_list(self, ending: str = "\n") -> str:
        path = self.root / "list.txt"
        path.write_bytes("".join(line + ending for line in self.lines).encode())
        return str(path)

    def arguments(self, *flags: str, database: str = "db") -> list[str]:
        return [
            "-anno_type=detection", f"-label_map_file={self.root / 'labelmap.prototxt'}", "-encoded",
            "-encode_type=jpg", *flags, f"{self.root}/", self.write_list(), str(self.root / database),
        ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
