"""Views of images with objects: boxes stay with their pixels, and the chosen object is in the view."""

from __future__ import annotations

import numpy as np
import pytest

from caffe.data.augment.object_view import ObjectView, nearest

#: in images of black, a white object: x1, y1, x2, y2, the second corner exclusive
BOX = (40, 30, 70, 50)


def view_of(height: int = 96, width: int = 128) -> ObjectView:
    image = np.zeros((height, width, 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    return ObjectView(image, np.array([BOX], np.float64), np.array([[0, 0, width, height]], np.float64))


def white(view: ObjectView) -> np.ndarray:
    """Where the object's pixels are on the canvas."""
    rows, columns = np.nonzero(view.image[:, :, 0] > 127)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return np.array(found) + [view.left, view.top] * 2


def test_boxes_are_turned_over_and_resized_with_the_image() -> None:
    view = view_of()
    view.mirror()
    assert view.boxes.tolist() == [[128 - 70, 30, 128 - 40, 50]]
    np.testing.assert_array_equal(white(view), view.boxes[0])
    view.resize(192, 64)
    assert view.boxes.tolist() == [[29, 60, 44, 100]]
    np.testing.assert_allclose(white(view), view.boxes[0], atol=1)
    assert view.regions.tolist() == [[0, 0, 64, 192]]


@pytest.mark.parametrize("canvas", [(96, 128), (64, 64), (200, 160), (64, 200), (96, 40)])
@pytest.mark.parametrize("scale", [(1, 1), (0.5, 0.5), (1.3, 0.9), (2, 2), (3, 1.5), (0.01, 0.01)])
def test_a_placed_object_stays_with_its_box(canvas: tuple[int, int], scale: tuple[float, float]) -> None:
    for seed in range(6):
        view, rng = view_of(), np.random.default_rng(seed)
        _, center = view.choose(canvas, rng)
        view.place(canvas, center, scale, rng)
        height, width = view.image.shape[:2]
        assert 0 <= view.left <= canvas[1] - width
        assert 0 <= view.top <= canvas[0] - height
        assert width == canvas[1] or width == max(1, nearest(128 * scale[0])) < canvas[1] or scale[0] > 1
        np.testing.assert_allclose(view.boxes[0, 2:] - view.boxes[0, :2], [30 * scale[0], 20 * scale[1]], rtol=1e-9)
        if max(scale) < 0.1:
            continue
        # The part of the box on the canvas, to a pixel of the scaled image and one of rounding.
        on_canvas = np.clip(view.boxes[0], 0, [canvas[1], canvas[0]] * 2)
        np.testing.assert_allclose(white(view), on_canvas, atol=1 + max(scale))


def test_places_differ_by_up_to_ten_pixels() -> None:
    lefts = set()
    for seed in range(60):
        view, rng = view_of(), np.random.default_rng(seed)
        view.place((96, 228), (64, 48), (1, 1), rng)
        lefts.add(view.left)
    assert lefts <= set(range(40, 60))
    assert len(lefts) > 12


def test_without_objects_a_part_of_the_image_is_shown() -> None:
    seen = set()
    for seed in range(20):
        view, rng = view_of(), np.random.default_rng(seed)
        view.boxes = np.zeros((0, 4))
        chosen, (x, y) = view.choose((50, 300), rng)
        assert chosen is None
        assert x == 64
        assert 25 <= y <= 71
        view.place((50, 300), (x, y), (1, 1), rng)
        assert view.image.shape == (50, 128, 3)
        seen.add(float(view.regions[0, 1]))
    assert len(seen) > 8
