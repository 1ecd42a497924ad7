"""Objects, lists and layouts for the tests of default boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffe.default_boxes.layout import Layout, Shapes, Source
from caffe.default_boxes.objects import Objects
from caffe.proto import caffe_pb2

LABELS = 'item { name: "none" label: 0 } item { name: "ant" label: 1 } item { name: "bee" label: 2 }'


def objects_of(corners: np.ndarray, images: np.ndarray | None = None, labels: np.ndarray | None = None) -> Objects:
    """Objects, each in its own image unless `images` is given."""
    count = len(corners)
    images = np.arange(count) if images is None else images
    labels = np.ones(count, np.int64) if labels is None else labels
    names = {int(label): f"class {label}" for label in np.unique(labels)}
    return Objects(np.asarray(corners, np.float64), labels, images, names, int(images.max()) + 1)


def random_objects(
    rng: np.random.Generator, count: int, low: float, high: float, height: int, width: int, per_image: int = 1
) -> Objects:
    """Objects of `low` to `high` pixels with aspect ratios up to 3, anywhere in the image."""
    size = np.exp(rng.uniform(np.log(low), np.log(high), count))
    ratio = np.exp(rng.uniform(-np.log(3), np.log(3), count))
    sides = np.minimum(np.stack([size * ratio**0.5, size / ratio**0.5], axis=1), [width, height])
    start = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    images = np.arange(count) // per_image
    return objects_of(np.concatenate([start, start + sides], axis=1), images, rng.integers(1, 3, count))


def small_layout(clip: bool = False) -> Layout:
    """Three sources on an input of 64 × 96 pixels."""
    return Layout(
        "small",
        64,
        96,
        (
            Source("fine", 16, 24, 4.0, 4.0, Shapes((12.0,), (24.0,), (2.0,)), clip=clip),
            Source("middle", 8, 12, 8.0, 8.0, Shapes((24.0,), (40.0,), (2.0, 3.0)), clip=clip),
            Source("coarse", 2, 3, 32.0, 32.0, Shapes((40.0,), (60.0,), (2.0,)), clip=clip),
        ),
    )


def write_voc(folder: Path, boxes: list[list[tuple[str, int, int, int, int]]], size: tuple[int, int]) -> Path:
    """Writes VOC annotations, a list and a label map, without images. Returns the list. `size`: height and width."""
    (folder / "xml").mkdir()
    lines = []
    for number, objects in enumerate(boxes):
        text = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
            "</bndbox></object>"
            for name, a, b, c, d in objects
        )
        body = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>{text}"
        (folder / "xml" / f"{number}.xml").write_text(f"<annotation>{body}</annotation>")
        lines.append(f"{number}.jpg xml/{number}.xml\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "labelmap.prototxt").write_text(LABELS)
    return folder / "list.txt"


def record(boxes: list[tuple[int, float, float, float, float]]) -> bytes:
    """An AnnotatedDatum with the label and the normalized corners of each box, and an arbitrary image."""
    message = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    message.datum.data = b"image"
    for label, xmin, ymin, xmax, ymax in boxes:
        annotation = message.annotation_group.add(group_label=label).annotation.add()
        box = annotation.bbox
        box.xmin, box.ymin, box.xmax, box.ymax = xmin, ymin, xmax, ymax
    return bytes(message.SerializeToString())


#: a miniature SSD: two sources on a 64 × 64 input, with PriorBox layers as in the fork's prototxts
NET = """
name: "tiny"
layer {{ name: "data" type: "{data}" top: "data" {label} {param} }}
layer {{ name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 stride: 8 }} }}
layer {{ name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 stride: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "a_priors" type: "PriorBox" bottom: "a" bottom: "data" top: "a_priors"
  prior_box_param {{ min_size: 10.7 max_size: 20 aspect_ratio: 2 flip: true clip: {clip} variance: 0.1 step: 8 }} }}
layer {{ name: "b_priors" type: "PriorBox" bottom: "b" bottom: "data" top: "b_priors"
  prior_box_param {{ min_size: 24 min_size: 30 aspect_ratio: 2 aspect_ratio: 0.5 aspect_ratio: 3 flip: false
    clip: {clip} variance: 0.1 }} }}
layer {{ name: "priors" type: "Concat" bottom: "a_priors" bottom: "b_priors" top: "priors" concat_param {{ axis: 2 }} }}
"""


def deploy_text(clip: bool = False) -> str:
    """The net with an Input layer."""
    param = "input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } }"
    return NET.format(data="Input", label="", param=param, clip=str(clip).lower())


def train_text(resize: str = "resize_param { height: 64 width: 64 }") -> str:
    """The net with an AnnotatedData layer whose database does not exist."""
    param = f'data_param {{ source: "nowhere" batch_size: 1 }} transform_param {{ {resize} }}'
    return NET.format(data="AnnotatedData", label='top: "label"', param=param, clip="false")
