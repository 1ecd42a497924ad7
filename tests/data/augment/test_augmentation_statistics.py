"""The distribution of the augmentation's results on real photographs, compared with the original's.

Each statistic must be within four standard errors of the original's. Its error is estimated by resampling our images,
and the original's from its number of images. Seeds are fixed, so a test that passes keeps passing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.data.build.annoset import Task, build
from caffe.data.image_list import read_pairs
from caffe.data.images import ImageFormat
from caffe.data.label_map import LabelMap
from caffe.runtime import runtime
from tests.data.source_layers import annotated, samplers

DISTORT = (
    "distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 "
    "contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 }"
)
EXPAND = "expand_param { prob: 0.5 max_expand_ratio: 4 }"
INTERPOLATIONS = " ".join(f"interp_mode: {mode}" for mode in ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"))
#: variant: (parts of transform_param, interpolations, batch samplers)
VARIANTS = {
    "full": (DISTORT + EXPAND, INTERPOLATIONS, True),
    "samplers_only": ("", "", True),
    "expand_only": (EXPAND, "", False),
    "distort_only": (DISTORT, "", False),
    "none": ("", "", False),
}
PERCENTS = [1, 5, 25, 50, 75, 95, 99]


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the training and validation photographs."""
    path = tmp_path_factory.mktemp("bccd") / "db"
    label_map = LabelMap.read(shared / "golden/end_to_end/labelmap_bccd.prototxt")
    task = Task(f"{shared / 'data/bccd'}/", ImageFormat(encoded=True, encode_type="jpg"), "xml", label_map)
    build([*read_pairs(shared / "golden/end_to_end/train_list.txt")], path, task)
    return path


def draw(database: Path, variant: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `count` images: its label rows, and (share of fill, means, deviations) of its channels."""
    parts, interpolations, sampled = VARIANTS[variant]
    transform = (
        "mirror: true mean_value: 104 mean_value: 117 mean_value: 123 emit_constraint { emit_type: CENTER } "
        f"resize_param {{ resize_mode: WARP height: 300 width: 300 {interpolations} }} {parts}"
    )
    source = annotated(database, transform, 20, annotated_param=samplers() if sampled else "")
    images = []
    for _ in range(count // 20):
        data, label = (top.numpy() for top in source())
        for item, pixels in enumerate(data):
            fill = (np.abs(pixels) <= 1.5).all(axis=0).mean()
            images.append((
                label[0, 0][label[0, 0, :, 0] == item],
                np.concatenate([[fill], pixels.mean((1, 2)), pixels.std((1, 2))]),
            ))  # fmt: skip
    source.close()
    return images


def statistics(images: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """The statistics of augmentation_statistics.json, by its names."""
    counts = np.array([len(rows) for rows, _ in images])
    rows, pixels = np.concatenate([rows for rows, _ in images]), np.array([each for _, each in images])
    width, height = rows[:, 5] - rows[:, 3], rows[:, 6] - rows[:, 4]
    found = {
        "boxes_per_image_mean": counts.mean(),
        "boxes_per_image_std": counts.std(),
        "share_of_images_without_boxes": (counts == 0).mean(),
        "box_width_percentiles": np.percentile(width, PERCENTS),
        "box_height_percentiles": np.percentile(height, PERCENTS),
        "box_area_mean": (width * height).mean(),
        "box_aspect_percentiles": np.percentile(width / height, PERCENTS),
        "centre_x_mean": (rows[:, 3] + rows[:, 5]).mean() / 2,
        "centre_y_mean": (rows[:, 4] + rows[:, 6]).mean() / 2,
        "share_of_boxes_by_label": [(rows[:, 1] == label).mean() for label in (1, 2, 3)],
        "fill_share_mean": pixels[:, 0].mean(),
        "share_with_over_half_fill": (pixels[:, 0] > 0.5).mean(),
        "channel_mean": pixels[:, 1:4].mean(0),
        "channel_mean_std_over_images": pixels[:, 1:4].std(0),
        "channel_std": pixels[:, 4:].mean(0),
    }
    return {name: np.atleast_1d(np.asarray(value, float)) for name, value in found.items()}


#: differences that come from JPEG, which the original applies repeatedly, and from OpenCV's version
SLACK = {
    "channel_mean": 0.3, "channel_std": 0.3, "channel_mean_std_over_images": 0.3, "fill_share_mean": 0.01,
    "share_with_over_half_fill": 0.01,
}  # fmt: skip


def compare(images: list[tuple[np.ndarray, np.ndarray]], reference: list[dict[str, Any]]) -> list[str]:
    """The statistics that differ by more than four standard errors."""
    found = statistics(images)
    rng = np.random.default_rng(0)
    again = [statistics([images[i] for i in rng.integers(len(images), size=len(images))]) for _ in range(30)]
    theirs = sum(run["images"] for run in reference)
    differing = []
    for name, value in found.items():
        runs = [run[name] for run in reference]
        listed = [list(run.values()) if isinstance(run, dict) else run for run in runs]
        weights = [run["images"] for run in reference]
        want = np.average(np.array([np.atleast_1d(each) for each in listed], float), axis=0, weights=weights)
        error = np.std([each[name] for each in again], axis=0) * np.sqrt(1 + len(images) / theirs)
        # percentiles of boxes in whole pixels change in steps
        limit = 4 * error + SLACK.get(name, 0.002 if "percentiles" in name else 0.0005)
        if (np.abs(value - want) > limit).any():
            differing.append(f"{name}: {value.round(4)}, the original's {want.round(4)}, allowed ± {limit.round(4)}")
    return differing


def reference(shared: Path, variant: str) -> list[dict[str, Any]]:
    runs = json.loads((shared / "golden/augmentation_statistics.json").read_text())["runs"]
    return [run for run in runs if run["variant"] == variant]


def test_all_of_it(shared: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 1)
    assert compare(draw(photographs, "full", 300), reference(shared, "full")) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_part(shared: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.setattr(runtime, "seed", 2)
    assert compare(draw(photographs, variant, 4380), reference(shared, variant)) == []


@pytest.mark.parametrize("variant", ["samplers_only", "expand_only", "distort_only"])
def test_the_comparison_tells_variants_apart(
    shared: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    """Leaving a part out is detected with far fewer images."""
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 3)
    assert len(compare(draw(photographs, variant, 100), reference(shared, "full"))) >= 3
