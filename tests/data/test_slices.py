"""Slices: where they are, what is merged, and that a detector finds in slices what it finds in their pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from caffe.data.slices import Slices
from caffe.errors import CaffeError


def covered(windows: list[tuple[int, int, int, int]], height: int, width: int) -> np.ndarray:
    count = np.zeros((height, width), int)
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        count[top:bottom, left:right] += 1
    return count


@pytest.mark.parametrize(("height", "width"), [(1000, 1300), (301, 300), (300, 900), (997, 301)])
@pytest.mark.parametrize("overlap", [0, 0.2, 0.5])
def test_slices_cover_the_image_with_their_own_size_and_overlap(height: int, width: int, overlap: float) -> None:
    windows = Slices(300, 300, overlap, whole=False).windows(height, width)
    assert covered(windows, height, width).min() == 1
    assert len(set(windows)) == len(windows)
    assert all((right - left, bottom - top) == (300, 300) for left, top, right, bottom in windows)
    starts = sorted({left for left, *_ in windows})
    assert all(b - a <= 300 - int(overlap * 300) for a, b in itertools.pairwise(starts))


def test_small_images_auto_and_the_whole_image() -> None:
    assert Slices(300, 400).windows(300, 400) == [(0, 0, 400, 300)]
    assert Slices(300, 400).windows(20, 10) == [(0, 0, 10, 20)]
    assert Slices(300, 300, 0).windows(300, 600) == [(0, 0, 300, 300), (300, 0, 600, 300), (0, 0, 600, 300)]
    assert Slices.parse("AUTO", 0).windows(300, 600, (300, 300)) == Slices(300, 300, 0).windows(300, 600)
    assert Slices.parse("128x256", 0.25) == Slices(128, 256, 0.25)


@pytest.mark.parametrize(
    ("text", "overlap", "message"),
    [
        ("big", 0.2, "give AUTO or height x width"),
        ("300", 0.2, "give AUTO or height x width"),
        ("0x300", 0.2, "both sides must be over 0"),
        ("300x300", 1.0, "overlap is 1; it must be at least 0 and less than 1"),
    ],
)
def test_what_is_refused(text: str, overlap: float, message: str) -> None:
    with pytest.raises(CaffeError, match=message):
        Slices.parse(text, overlap)


def test_too_many_slices_are_refused() -> None:
    with pytest.raises(CaffeError, match=r"would be cut into .* slices of 2 x 2"):
        Slices(2, 2).windows(3000, 3000)


def slowly(labels: np.ndarray, scores: np.ndarray, corners: np.ndarray, slices: Slices) -> list[int]:
    """Non-maximum suppression, pair by pair."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):

        def overlap(j: int, i: int = i) -> float:
            a, b = corners[i], corners[j]
            shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            areas = [max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)]
            whole = min(areas) if slices.merge == "ios" else sum(areas) - shared
            return shared / whole if whole > 0 else 0

        if all(labels[j] != labels[i] or overlap(j) < slices.merge_threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("merge", ["ios", "iou"])
def test_merging_is_greedy_suppression_by_class(merge: str) -> None:
    rng = np.random.default_rng(0)
    slices = Slices.parse("AUTO", merge=merge)
    for count in (0, 1, 200):
        start = rng.uniform(0, 80, (count, 2))
        corners = np.concatenate([start, start + rng.uniform(-2, 30, (count, 2))], axis=1)  # some without area
        labels, scores = rng.integers(1, 4, count), rng.integers(0, 20, count) / 20  # many ties
        assert slices.merged(labels, scores, corners).tolist() == slowly(labels, scores, corners, slices)
