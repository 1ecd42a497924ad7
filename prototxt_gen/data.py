"""The data layers: SSD's augmentation for training, plain resizing for testing."""

from __future__ import annotations

from typing import Any

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2

#: blue, green, red
MEAN = [104, 117, 123]
#: a training image is resized by one of these at random
INTERPOLATIONS = ["LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"]


def train_data(net: NetSpec, size: int, *, source: str, batch_size: int, label_map: str, augmentation: str) -> None:
    """Adds `data` (N × 3 × size × size) and `label` (1 × 1 × boxes × 8) from the training LMDB.

    `augmentation`: "full" is SSD's, "mirror" only mirrors half of the images.
    """
    transform: dict[str, Any] = dict(mirror=True, mean_value=MEAN, resize_param=_resize(size, INTERPOLATIONS))
    if augmentation == "mirror":
        _annotated_data(net, "TRAIN", transform, source, batch_size, label_map)
        return
    transform |= dict(
        emit_constraint=dict(emit_type=caffe_pb2.EmitConstraint.CENTER),
        distort_param=dict(
            brightness_prob=0.5,
            brightness_delta=32,
            contrast_prob=0.5,
            contrast_lower=0.5,
            contrast_upper=1.5,
            hue_prob=0.5,
            hue_delta=18,
            saturation_prob=0.5,
            saturation_lower=0.5,
            saturation_upper=1.5,
            random_order_prob=0,
        ),
        expand_param=dict(prob=0.5, max_expand_ratio=4),
    )
    _annotated_data(net, "TRAIN", transform, source, batch_size, label_map, batch_sampler=batch_samplers())


def test_data(net: NetSpec, size: int, *, source: str, batch_size: int, label_map: str) -> None:
    """Adds `data` and `label` from the test LMDB, in its order, only resized."""
    transform = dict(mean_value=MEAN, resize_param=_resize(size, ["LINEAR"]))
    _annotated_data(net, "TEST", transform, source, batch_size, label_map)


def input_data(net: NetSpec, size: int) -> None:
    """Adds `data` as an input of the net: 1 × 3 × size × size, BGR with `MEAN` subtracted."""
    net.data = L.Input(shape=dict(dim=[1, 3, size, size]))


def batch_samplers() -> list[dict[str, Any]]:
    """The whole image, or a crop that overlaps some object by at least 0.1, 0.3, 0.5, 0.7 or 0.9, or any crop."""
    constraints = [dict(min_jaccard_overlap=overlap) for overlap in (0.1, 0.3, 0.5, 0.7, 0.9)]
    constraints.append(dict(max_jaccard_overlap=1.0))
    crop = dict(min_scale=0.3, max_scale=1.0, min_aspect_ratio=0.5, max_aspect_ratio=2.0)
    return [dict(max_sample=1, max_trials=1)] + [
        dict(sampler=crop, sample_constraint=constraint, max_sample=1, max_trials=50) for constraint in constraints
    ]


def _resize(size: int, interpolations: list[str]) -> dict[str, Any]:
    modes = [getattr(P.Resize, mode) for mode in interpolations]
    return dict(prob=1, resize_mode=P.Resize.WARP, height=size, width=size, interp_mode=modes)


def _annotated_data(
    net: NetSpec, phase: str, transform: dict[str, Any], source: str, batch_size: int, label_map: str, **annotated: Any
) -> None:
    net.data, net.label = L.AnnotatedData(
        include=dict(phase=caffe_pb2.Phase.Value(phase)),
        transform_param=transform,
        data_param=dict(source=source, batch_size=batch_size, backend=P.Data.LMDB),
        annotated_data_param=dict(label_map_file=label_map, **annotated),
        ntop=2,
    )
