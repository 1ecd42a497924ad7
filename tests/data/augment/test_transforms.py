"""The parts of the augmentation against slow references, OpenCV, and cases calculated by hand."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe.data.augment import boxes as fast
from caffe.data.augment.canvas import lay_out
from caffe.data.augment.distort import distort, draw_distortion
from caffe.data.augment.noise import add_noise
from caffe.data.augment.resample import resample
from caffe.data.augment.resize import resize
from caffe.data.augment.sampler import BatchSampler, BatchSamplers, Overlaps
from caffe.data.augment.transform import Source, Transformer
from caffe.data.feed.stream import record_rng
from caffe.errors import DataError
from caffe.proto import caffe_pb2
from tests.data.conftest import photograph
from tests.pictures import decoded
from tests.reference import augmentation as slow

coordinate = st.one_of(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0, 1.5]), st.floats(-0.5, 1.5, width=32))
corners = st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=6)
crop_box = st.tuples(*[st.floats(-1, 1, width=32)] * 2, *[st.floats(0.125, 2, width=32)] * 2).map(
    lambda each: (each[0], each[1], each[0] + each[2], each[1] + each[3])
)


def as_array(values: list[tuple[float, ...]]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


@settings(max_examples=80, deadline=None)
@given(corners, crop_box, st.sampled_from([None, 0.0, 0.3, 1.0]))
def test_boxes_of_a_crop(values: list[tuple[float, ...]], crop: tuple[float, ...], overlap: float | None) -> None:
    constraint = caffe_pb2.EmitConstraint()
    if overlap is not None:
        constraint.emit_type, constraint.emit_overlap = caffe_pb2.EmitConstraint.MIN_OVERLAP, overlap
    array, frame = as_array(values), as_array([crop])[0]
    labels = np.stack([np.arange(len(array)), np.zeros(len(array))], 1).astype(np.float32)
    kept = fast.select(fast.Boxes(array, labels, np.zeros(len(array), bool)), frame, constraint)
    want = []
    for index, each in enumerate(array):
        box = slow.Box.of(each)
        projected = slow.project(box, slow.Box.of(frame))
        if slow.stays(box, slow.Box.of(frame), overlap) and projected is not None:
            want.append((index, projected.array()))
    assert kept.labels[:, 0].tolist() == [index for index, _ in want]
    np.testing.assert_array_equal(kept.corners, np.array([each for _, each in want], np.float32).reshape(-1, 4))


#: the least and the most of an overlap
Limits = tuple[float | None, float | None]
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        kind: st.tuples(*[st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))] * 2).filter(any)
        for kind in ("jaccard", "sample", "object")
    },
)


@settings(max_examples=80, deadline=None)
@given(corners, corners, LIMITS)
def test_sample_constraints(crops: list[Any], objects: list[Any], limits: dict[str, Limits]) -> None:
    limits = {kind: limits[kind] for kind in ("jaccard", "sample", "object") if kind in limits}
    message = caffe_pb2.BatchSampler(max_trials=len(crops))
    names = {"jaccard": "jaccard_overlap", "sample": "sample_coverage", "object": "object_coverage"}
    for kind, ends in limits.items():
        for end, value in zip(("min", "max"), ends, strict=True):
            if value is not None:
                setattr(message.sample_constraint, f"{end}_{names[kind]}", value)
    sampler = BatchSampler.of(message, "layer")
    satisfied = sampler.satisfied(Overlaps(as_array(crops), as_array(objects)), slice(0, len(crops)))
    boxes = [slow.Box.of(each) for each in as_array(objects)]
    assert satisfied.tolist() == [slow.satisfies(slow.Box.of(crop), boxes, limits) for crop in as_array(crops)]


def samplers(*texts: dict[str, Any]) -> BatchSamplers:
    made = []
    for fields in texts:
        message = caffe_pb2.BatchSampler(max_trials=fields.get("max_trials", 50))
        if "max_sample" in fields:
            message.max_sample = fields["max_sample"]
        for name in ("min_scale", "max_scale", "min_aspect_ratio", "max_aspect_ratio"):
            if name in fields:
                setattr(message.sampler, name, fields[name])
        if "min_jaccard_overlap" in fields:
            message.sample_constraint.min_jaccard_overlap = fields["min_jaccard_overlap"]
        made.append(BatchSampler.of(message, "layer"))
    return BatchSamplers(made)


def test_crops_have_the_scale_and_aspect_ratio_asked_for() -> None:
    made = samplers({"min_scale": 0.3, "max_scale": 0.9, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2, "max_trials": 4000})  # fmt: skip  # noqa: E501
    crops = made.draw(np.random.default_rng(0))
    size = crops[:, 2:] - crops[:, :2]
    scale, ratio = np.sqrt(size.prod(1)), size[:, 0] / size[:, 1]
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 2:] <= 1 + 1e-6).all()
    assert scale.min() == pytest.approx(0.3, abs=0.01)
    assert scale.max() == pytest.approx(0.9, abs=0.01)
    assert scale.mean() == pytest.approx(0.6, abs=0.01)
    limit = np.maximum(0.5, scale**2)
    assert (ratio >= limit - 1e-4).all()
    assert (ratio <= 1 / scale**2 + 1e-4).all()
    # where the scale does not limit it, the aspect ratio is uniform in its range
    free = scale < 0.7
    assert ratio[free].mean() == pytest.approx(1.25, abs=0.03)


def test_rounding_never_leaves_the_unit_square() -> None:
    """Where the original aborts: scale near 1 makes a side a little over 1."""
    made = samplers({"min_scale": 0.999, "max_scale": 1, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2, "max_trials": 100_000})  # fmt: skip  # noqa: E501
    crops = made.draw(np.random.default_rng(1))
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 2:] <= 1 + 1e-6).all()
    assert (crops[:, 2:] > 1).any(), "the case of this test does not occur"


def test_max_sample_and_none() -> None:
    objects = as_array([(0.4, 0.4, 0.6, 0.6)])
    whole = samplers({"max_sample": 1, "max_trials": 1}, {"max_sample": 3, "max_trials": 9}, {"max_trials": 4})
    assert len(whole.crops(objects, np.random.default_rng(0))) == 8
    never = samplers({"min_scale": 0.3, "max_scale": 0.3, "min_jaccard_overlap": 0.95, "max_sample": 1})
    assert never.crop(objects, np.random.default_rng(0)) is None
    assert BatchSamplers([]).crop(objects, np.random.default_rng(0)) is None
    # without an object no constraint is satisfied
    assert samplers({"min_jaccard_overlap": 0.0}).crop(np.empty((0, 4), np.float32), np.random.default_rng(0)) is None


# ---- pixels

INTERPOLATIONS = [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_virtual_canvas_is_opencvs_on_the_real_one(interpolation: int) -> None:
    rng = np.random.default_rng(interpolation)
    for _ in range(40):
        part = rng.integers(0, 256, (*rng.integers(1, 40, 2), 3), np.uint8)
        above, below, left, right = rng.integers(0, 60, 4).tolist()
        ground = tuple(int(each) for each in rng.integers(0, 256, 3))
        canvas = lay_out(part, (above, below, left, right), ground)
        height, width = (int(rng.integers(1, side + 1)) for side in canvas.shape[:2])
        want = cv2.resize(canvas, (width, height), interpolation=interpolation)
        found = resample(part, (above, left), canvas.shape[:2], ground, (height, width), interpolation)
        tolerance = 0 if interpolation == cv2.INTER_NEAREST else 1
        assert np.abs(found.astype(int) - want.reshape(found.shape)).max() <= tolerance


def transformer(text: str, phase: int = 0, crops: BatchSamplers | None = None) -> Transformer:
    from google.protobuf import text_format

    param = caffe_pb2.TransformationParameter()
    text_format.Parse(text, param)
    return Transformer(param, phase, "layer", crops.samplers if crops else ())


def expanded(image: np.ndarray, ratio_text: str, seed: int) -> tuple[np.ndarray, fast.Boxes]:
    box = fast.Boxes(as_array([(0.25, 0.25, 0.75, 0.75)]), np.zeros((1, 2), np.float32), np.zeros(1, bool))
    made = transformer(f"expand_param {{ {ratio_text} }} mean_value: 104 mean_value: 117 mean_value: 123")
    data, boxes = made(Source(image, "record"), box, record_rng(seed, 0, 0))
    assert boxes is not None
    return data, boxes


def test_expansion_puts_the_image_on_the_mean_and_moves_its_boxes() -> None:
    image = np.full((60, 80, 3), 255, np.uint8)
    ratios = []
    for seed in range(60):
        data, boxes = expanded(image, "prob: 1 max_expand_ratio: 3", seed)
        height, width = data.shape[1:]
        on_image = data[0] > 0
        assert on_image.sum() == image.shape[0] * image.shape[1]
        rows, columns = np.flatnonzero(on_image.any(1)), np.flatnonzero(on_image.any(0))
        assert (data[:, ~on_image] == 0).all()
        want = [columns[0] + 20, rows[0] + 15, columns[0] + 60, rows[0] + 45] / np.array([width, height] * 2)
        np.testing.assert_allclose(boxes.corners[0], want, atol=1e-6)
        ratios.append(width / 80)
    assert 1 <= min(ratios) < 1.2
    assert 2.8 < max(ratios) <= 3
    kept = sum(expanded(image, "prob: 0.5 max_expand_ratio: 3", seed)[0].shape[1:] == (60, 80) for seed in range(200))
    assert 70 < kept < 130


@pytest.mark.parametrize("seed", range(8))
def test_one_pass_is_the_steps_one_after_the_other(seed: int) -> None:
    """Distortion of only the visible part, the virtual canvas, crop and resize, against whole images at every step."""
    image = photograph(seed, 48, 64)
    crops = samplers(
        {"min_scale": 0.3, "max_scale": 1, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2, "max_sample": 1}
    )
    text = (
        "resize_param { height: 20 width: 24 interp_mode: LINEAR } mean_value: 10 expand_param { max_expand_ratio: 4 } "
        "distort_param { brightness_prob: 1 brightness_delta: 32 contrast_prob: 1 contrast_lower: 0.5 "
        "contrast_upper: 1.5 random_order_prob: 1 }"
    )
    made = transformer(text, crops=crops)
    rng = record_rng(seed, 0, 0)
    found, _ = made(Source(image, "record"), None, rng)
    # the same draws again, by hand
    rng = record_rng(seed, 0, 0)
    steps = draw_distortion(made.param.distort_param, rng)
    _, ratio, down, right = rng.random(4, np.float32)
    ratio = np.float32(1) + np.float32(3) * ratio
    height, width = int(np.float32(48) * ratio), int(np.float32(64) * ratio)
    canvas = np.full((height, width, 3), 10, np.uint8)
    top, left = int(np.float32(height - 48) * down), int(np.float32(width - 64) * right)
    canvas[top : top + 48, left : left + 64] = distort(image, steps)
    crop = crops.crop(np.empty((0, 4), np.float32), rng)
    assert crop is not None
    x0, y0, x1, y1 = np.clip(crop, 0, 1) * np.array([width, height] * 2, np.float32)
    cut = canvas[int(y0) : int(y0) + int(y1 - y0), int(x0) : int(x0) + int(x1 - x0)]
    want = cv2.resize(cut, (24, 20)).transpose(2, 0, 1).astype(np.float32) - 10
    assert np.abs(found - want).max() <= 1


@pytest.mark.parametrize("kind", ["hue", "saturation"])
def test_distorting_a_part_is_a_part_of_the_distorted(kind: str) -> None:
    """Equal within one gray level, by which OpenCV's conversion from HSV differs in a row's last few pixels."""
    image = photograph(0)
    steps = [(kind, np.clip(np.arange(256) * 1.1, 0, 255).astype(np.uint8))]
    part = distort(image[7:50, 11:64], steps)
    assert np.abs(part.astype(int) - distort(image, steps)[7:50, 11:64]).max() <= 1


def distortion(**fields: float) -> caffe_pb2.DistortionParameter:
    return caffe_pb2.DistortionParameter(**fields)


def test_brightness_and_contrast_saturate_and_round_at_each_step() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    param = distortion(brightness_prob=1, brightness_delta=60, contrast_prob=1, contrast_lower=1.5, contrast_upper=1.5)
    for seed in range(5):
        steps = draw_distortion(param, np.random.default_rng(seed))
        out = distort(image, steps)
        shift = int(steps[0][1][100]) - 100
        bright = np.clip(np.arange(256) + np.round(shift), 0, 255)
        want = np.clip(np.rint(bright * 1.5), 0, 255)
        assert np.abs(out[:, :, 0].ravel() - want).max() <= 1
        assert (out == out[:, :, :1]).all()


def test_hue_saturates_at_nought_and_wraps_over_180() -> None:
    """As in the original's 8-bit arithmetic: a hue of 5 minus 18 is 0, a hue of 175 plus 18 is 13."""
    hsv = np.full((2, 2, 3), (5, 200, 200), np.uint8)
    steps = [("hue", np.clip(np.arange(256) - 18.0, 0, 255).astype(np.uint8))]
    image = distort(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), steps)
    assert cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[0, 0, 0] == 0
    hsv[:] = (175, 200, 200)
    steps = [("hue", np.clip(np.arange(256) + 18.0, 0, 255).astype(np.uint8))]
    image = distort(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), steps)
    assert abs(int(cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[0, 0, 0]) - 13) <= 1


def test_distortions_come_as_often_as_asked() -> None:
    param = distortion(
        brightness_prob=0.3, brightness_delta=32, contrast_prob=0.5, contrast_lower=0.5, contrast_upper=1.5,
        hue_prob=0.7, hue_delta=18, saturation_prob=0.2, saturation_lower=0.5, saturation_upper=1.5,
        random_order_prob=0.4,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = [[kind for kind, _ in draw_distortion(param, rng)] for _ in range(4000)]
    share = {kind: np.mean([kind in each for each in drawn]) for kind in ("hue", "saturation", "channels")}
    assert share == pytest.approx({"hue": 0.7, "saturation": 0.2, "channels": 0.4}, abs=0.03)
    values = np.mean([each.count("values") for each in drawn])
    assert values == pytest.approx(0.8, abs=0.03)
    # contrast before hue as often as after it
    alone = distortion(contrast_prob=1, contrast_lower=0.5, contrast_upper=0.6, hue_prob=1, hue_delta=18)
    first = [draw_distortion(alone, rng)[0][0] == "values" for _ in range(2000)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.04)


def test_gray_images_pass_color_distortions() -> None:
    gray = photograph(0)[:, :, :1]
    param = distortion(hue_prob=1, hue_delta=18, saturation_prob=1, saturation_upper=2, random_order_prob=1)
    np.testing.assert_array_equal(distort(gray, draw_distortion(param, np.random.default_rng(0))), gray)


def noise(**fields: Any) -> caffe_pb2.NoiseParameter:
    return caffe_pb2.NoiseParameter(**fields)


def test_noise() -> None:
    image = photograph(3)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(add_noise(image, noise(inverse=True), rng), 255 - image)
    assert set(np.unique(add_noise(image, noise(posterize=True), rng))) <= {32, 96, 160, 224}
    plain = add_noise(image, noise(decolorize=True), rng)
    assert (plain == plain[:, :, :1]).all()
    hsv = add_noise(image, noise(convert_to_hsv=True), rng)
    np.testing.assert_array_equal(hsv, cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    lab = add_noise(image, noise(convert_to_lab=True), rng)
    assert lab.dtype == np.float32
    assert 0 <= lab[:, :, 0].min() <= lab[:, :, 0].max() <= 100
    assert 0 < np.abs(add_noise(image, noise(jpeg=40.0), rng).astype(int) - image).mean() < 20
    assert (add_noise(image, noise(erode=True), rng) <= image).all()
    blurred = add_noise(image, noise(gauss_blur=True), rng).astype(float)
    assert np.abs(np.diff(blurred, axis=0)).mean() < np.abs(np.diff(image.astype(float), axis=0)).mean()
    for field in ("hist_eq", "clahe"):
        assert add_noise(image, noise(**{field: True}), rng).std() > image.std() - 10
        gray = add_noise(image[:, :, :1], noise(**{field: True}), rng)
        assert gray.shape == (60, 80, 1)
    salted = add_noise(image, noise(saltpepper=True, saltpepper_param={"fraction": 0.1, "value": [255]}), rng)
    changed = (salted != image).any(axis=2)
    assert 0.05 < changed.mean() <= 0.1
    assert (salted[changed] == 255).all()


def test_fit_small_and_padding_sizes() -> None:
    image = photograph(0, 30, 40)
    param = caffe_pb2.ResizeParameter(resize_mode=caffe_pb2.ResizeParameter.FIT_SMALL_SIZE, height=60, width=60)
    assert resize(image, (0, 0, 0, 0), (0, 0, 0), param, cv2.INTER_LINEAR).shape == (60, 80, 3)
    param.resize_mode = caffe_pb2.ResizeParameter.FIT_LARGE_SIZE_AND_PAD
    param.pad_value.append(7)
    padded = resize(image, (0, 0, 0, 0), (0, 0, 0), param, cv2.INTER_LINEAR)
    assert padded.shape == (60, 60, 3)
    assert (padded[:7] == 7).all()
    assert (padded[-7:] == 7).all()
    moved = fast.resized(as_array([(0, 0, 1, 1)]), 30, 40, param)
    np.testing.assert_allclose(moved[0], [0, 0.125, 1, 0.875])


def test_scale_extrapolation_beyond_the_image_is_told() -> None:
    text = (
        "resize_param { resize_mode: FIT_SMALL_SIZE height: 60 width: 60 height_scale: 99 width_scale: 9 } "
        "emit_constraint { emit_type: CENTER }"
    )
    boxes = fast.Boxes(as_array([(0, 0, 1, 1)]), np.zeros((1, 2), np.float32), np.zeros(1, bool))
    with pytest.raises(DataError, match="record 7.*width_scale × height_scale"):
        transformer(text)(Source(photograph(0), "record 7"), boxes, np.random.default_rng(0))


def test_mirror_swaps_left_and_right() -> None:
    image = photograph(0)
    boxes = fast.Boxes(as_array([(0.1, 0.2, 0.4, 0.9)]), np.zeros((1, 2), np.float32), np.zeros(1, bool))
    made = transformer("mirror: true")
    results = [made(Source(image, "r"), boxes, np.random.default_rng(seed)) for seed in range(20)]
    flipped = 0
    for data, moved in results:
        assert moved is not None
        if np.array_equal(data, image.transpose(2, 0, 1)):
            np.testing.assert_array_equal(moved.corners, boxes.corners)
        else:
            np.testing.assert_array_equal(data, image[:, ::-1].transpose(2, 0, 1))
            np.testing.assert_allclose(moved.corners[0], [0.6, 0.2, 0.9, 0.9], rtol=1e-6)
            flipped += 1
    assert 4 < flipped < 16


def test_a_test_net_s_crop_goes_through_jpeg_as_the_original_s_does() -> None:
    """SSD's test nets crop the whole image with an empty batch_sampler, which the original compresses again."""
    image = photograph(3)
    param = caffe_pb2.TransformationParameter()
    again = decoded(cv2.imencode(".jpg", image)[1].tobytes())
    source = Source(image, "a record")
    rng = np.random.default_rng(0)
    sampler = BatchSampler.of(caffe_pb2.BatchSampler(), "a layer")
    for phase, expected in ((caffe_pb2.TEST, again), (caffe_pb2.TRAIN, image)):
        data, _ = Transformer(param, phase, "a layer", [sampler])(source, None, rng)
        np.testing.assert_array_equal(data, expected.transpose(2, 0, 1))
    data, _ = Transformer(param, caffe_pb2.TEST, "a layer")(source, None, rng)
    np.testing.assert_array_equal(data, image.transpose(2, 0, 1))
