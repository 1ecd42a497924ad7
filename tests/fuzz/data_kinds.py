"""Inputs of the data path: records of an LMDB, label maps, annotation files, lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from caffe.data.augment.sampler import BatchSampler
from caffe.data.augment.transform import Transformer
from caffe.data.build.annotations import read_annotations
from caffe.data.feed.records import AnnotatedRecords, DatumRecords
from caffe.data.feed.stream import Order
from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import LmdbSource
from caffe.data.mean import read_mean_file
from caffe.errors import DataError
from caffe.proto import caffe_pb2
from caffe.proto.binary import read_binary
from caffe.proto.text import parse_text

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
    floats = caffe_pb2.Datum(channels=3, height=2, width=2, float_data=range(12))
    return [datum.SerializeToString() for datum in (*encoded, raw, floats)]


@cache
def annotated_datums() -> list[bytes]:
    records = []
    for data in datums()[:-1]:  # distortion does not support floats
        record = caffe_pb2.AnnotatedDatum(datum=caffe_pb2.Datum.FromString(data), type=caffe_pb2.AnnotatedDatum.BBOX)
        for label in (1, 2):
            group = record.annotation_group.add(group_label=label)
            for instance in range(2):
                box = group.annotation.add(instance_id=instance).bbox
                box.xmin, box.ymin, box.xmax, box.ymax, box.difficult = 0.1, 0.2, 0.5, 0.9, instance == 1
        records.append(record.SerializeToString())
    return records


def _augmentation() -> tuple[caffe_pb2.TransformationParameter, list[BatchSampler]]:
    """All of SSD's augmentation, to 32 × 32."""
    layer = parse_text(
        """transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123 emit_constraint { emit_type: CENTER }
        resize_param { prob: 1 resize_mode: WARP height: 32 width: 32 interp_mode: LINEAR interp_mode: LANCZOS4 }
        expand_param { prob: 0.5 max_expand_ratio: 4 }
        distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
          hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 } }
        annotated_data_param { batch_sampler { max_sample: 1 max_trials: 1 }
          batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
            sample_constraint { min_jaccard_overlap: 0.3 } max_sample: 1 max_trials: 50 } }""",
        caffe_pb2.LayerParameter(),
        "augmentation",
    )
    samplers = layer.annotated_data_param.batch_sampler
    return layer.transform_param, [BatchSampler.of(sampler, "augmentation") for sampler in samplers]


def read_datum(path: Path) -> float:
    transformer = Transformer(caffe_pb2.TransformationParameter(scale=0.5), caffe_pb2.TEST, "layer")
    records = DatumRecords(_OneRecord(path), transformer, Order(1), seed=0)
    return float(records.load(0, np.empty((3, 12, 16), np.float32))[0].sum())


def read_annotated_datum(path: Path) -> float:
    param, samplers = _augmentation()
    records = AnnotatedRecords(
        _OneRecord(path), Transformer(param, caffe_pb2.TRAIN, "layer", samplers), Order(1), seed=0
    )
    room = np.empty((3, 32, 32), np.float32)
    return sum(float(array.sum()) for place in range(3) for array in records.load(place, room))


def read_mean(path: Path) -> float:
    read_binary(path, caffe_pb2.BlobProto())
    return float(read_mean_file(path).sum())


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
