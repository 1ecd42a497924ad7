"""What the data path reads: records of an LMDB, label maps, annotation files, lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from caffe.data.annotations import read_annotations
from caffe.data.images import decode_datum
from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError
from caffe.proto import caffe_pb2

cv2.setNumThreads(1)

LABELS = b"""item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "RBC" label: 1 display_name: "red cell" }
item { name: "17" label: 2 display_name: "ol\\303\\251" }
"""
XML = b"""<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>VOC2007</folder><filename>000001.jpg</filename>
<size><width>353</width><height>500</height><depth>3</depth></size>
<object><name>RBC</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>48</xmin><ymin>240.5</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part></object>
<object><name>17</name><difficult>1</difficult>
<bndbox><xmin>8</xmin><ymin>12</ymin><xmax>352</xmax><ymax>498</ymax></bndbox></object>
</annotation>
"""
JSON = b"""{"image": {"file_name": "a.jpg", "height": 480, "width": 640, "id": 1},
"annotation": [{"category_id": 17, "bbox": [1.5, 2, 30, 40.25], "iscrowd": 0, "area": 1200, "id": 5},
{"category_id": "RBC", "bbox": [0, 0, 640, 480], "iscrowd": 1, "segmentation": [[1, 2, 3, 4]]}]}
"""
TXT = b"1 10 20 30 40\n2 0.5 1e1 639 479\r\n"
PAIRS = b"images/a.jpg annotations/a.xml\r\nimages/b.jpg annotations/b.xml\n"
IMAGES_AND_LABELS = b"images/a.jpg 0\nimages/b c.jpg 17\n"


class _OneRecord(LmdbSource):
    """A database of one record, whose value is the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._env = None
        self._keys = [b"00000000_images/a.jpg"]

    def value(self, index: int) -> bytes:
        return Path(self.path).read_bytes()


def _images() -> list[bytes]:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return [cv2.imencode(suffix, image)[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff")]


@cache
def datums() -> list[bytes]:
    encoded = [caffe_pb2.Datum(channels=3, data=data, label=1, encoded=True) for data in _images()]
    raw = caffe_pb2.Datum(channels=3, height=4, width=5, data=bytes(60), label=2)
    floats = caffe_pb2.Datum(channels=1, height=2, width=2, float_data=range(4))
    return [datum.SerializeToString() for datum in (*encoded, raw, floats)]


@cache
def annotated_datums() -> list[bytes]:
    records = []
    for data in datums():
        record = caffe_pb2.AnnotatedDatum(datum=caffe_pb2.Datum.FromString(data), type=caffe_pb2.AnnotatedDatum.BBOX)
        for label in (1, 2):
            group = record.annotation_group.add(group_label=label)
            for instance in range(2):
                box = group.annotation.add(instance_id=instance).bbox
                box.xmin, box.ymin, box.xmax, box.ymax, box.difficult = 0.1, 0.2, 0.5, 0.9, instance == 1
        records.append(record.SerializeToString())
    return records


def read_datum(path: Path) -> float:
    source = _OneRecord(path)
    return float(decode_datum(source.datum(0), source.where(0)).sum())


def read_annotated_datum(path: Path) -> float:
    source = _OneRecord(path)
    return float(decode_datum(source.annotated_datum(0).datum, source.where(0)).sum())


def read_annotation(kind: str) -> Callable[[Path], object]:
    label_map = LabelMap.parse(LABELS.decode(), "labels")

    def read(path: Path) -> object:
        found = read_annotations(path, kind, label_map)
        if found.faults:
            raise DataError("; ".join(found.faults[:10]))
        return found.groups(480, 640).SerializeToString()

    return read


def read_label_map(path: Path) -> Sequence[str]:
    return LabelMap.read(path).names
