"""Source layers set up from prototxt text, without a net around them."""

from __future__ import annotations

from typing import Any

import numpy as np

import caffe.engine.layer_types  # noqa: F401 - registers the layer types
from caffe.engine.layer import layer_class
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text

TRAIN, TEST = 0, 1

FULL = """
mirror: true mean_value: 104 mean_value: 117 mean_value: 123
resize_param { resize_mode: WARP height: 60 width: 80
  interp_mode: LINEAR interp_mode: AREA interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4 }
emit_constraint { emit_type: CENTER }
distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
  hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 random_order_prob: 0.1 }
expand_param { prob: 0.5 max_expand_ratio: 4 }
"""


def samplers() -> str:
    sampler = "sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }"
    limits = [f"min_jaccard_overlap: {value}" for value in (0.1, 0.3, 0.5, 0.7, 0.9)] + ["max_jaccard_overlap: 1"]
    return "batch_sampler { max_sample: 1 max_trials: 1 }" + "".join(
        f"batch_sampler {{ {sampler} sample_constraint {{ {limit} }} max_sample: 1 max_trials: 50 }}"
        for limit in limits
    )


def annotated(
    source: object,
    transform: str = FULL,
    batch: int = 4,
    phase: int = TRAIN,
    annotated_param: str | None = None,
    more: str = "",
    tops: int = 2,
) -> Any:
    """An AnnotatedData layer, set up."""
    return layer(
        f"""name: "data" type: "AnnotatedData" {'top: "data" top: "label"' if tops == 2 else 'top: "data"'}
        transform_param {{ {transform} }}
        data_param {{ source: "{source}" batch_size: {batch} {more} }}
        annotated_data_param {{ {samplers() if annotated_param is None else annotated_param} }}""",
        phase,
    )


def layer(text: str, phase: int = TRAIN) -> Any:
    """A layer from its prototxt, set up."""
    param = parse_text(text, caffe_pb2.LayerParameter(), "text")
    made: Any = layer_class(param.type, param.name)(param, phase)
    made.setup([])
    made.shapes = made.reshape([])
    return made


def batches(source: Any, count: int) -> list[tuple[np.ndarray, ...]]:
    """The next batches of a layer, as arrays."""
    result = []
    for _ in range(count):
        tops = source()
        result.append(tuple(top.numpy() for top in (tops if isinstance(tops, tuple) else (tops,))))
    return result
