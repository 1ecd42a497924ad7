"""Boxes of the input in pixels of the image, each resize mode against numbers calculated by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe.detection.image_boxes import in_image
from caffe.errors import NetError
from caffe.proto import caffe_pb2

BOX = np.array([[0.25, 0.25, 0.75, 0.5]], np.float32)


def resize(mode: str, **fields: Any) -> caffe_pb2.ResizeParameter:
    return caffe_pb2.ResizeParameter(resize_mode=mode, **{"height": 300, "width": 300, **fields})


def test_warped() -> None:
    for parameter in (None, resize("WARP"), resize("FIT_SMALL_SIZE")):
        boxes, areas = in_image(BOX, 200, 400, parameter)
        assert boxes.tolist() == [[100, 50, 300, 100]]
        assert areas.tolist() == [201 * 51]  # both border pixels


def test_beyond_the_image_is_clipped() -> None:
    boxes, _ = in_image(np.array([[-0.5, 0.5, 1.5, 2]], np.float32), 10, 20)
    assert boxes.tolist() == [[0, 5, 20, 10]]


def test_padding_is_taken_off() -> None:
    """A 400 × 200 image fills the middle half of a square input's height; a tall image the middle half of its width."""
    boxes, _ = in_image(BOX, 200, 400, resize("FIT_LARGE_SIZE_AND_PAD"))
    np.testing.assert_allclose(boxes, [[100, 0, 300, 100]])
    boxes, _ = in_image(np.array([[0.25, 0.1, 0.5, 0.9]], np.float32), 400, 200, resize("FIT_LARGE_SIZE_AND_PAD"))
    np.testing.assert_allclose(boxes, [[0, 40, 100, 360]], rtol=1e-6)


def test_a_box_in_the_padding_stays_as_if_warped() -> None:
    """As in Caffe, which leaves boxes unchanged if it cannot project them."""
    boxes, _ = in_image(np.array([[0.1, 0.0, 0.2, 0.1]], np.float32), 200, 400, resize("FIT_LARGE_SIZE_AND_PAD"))
    np.testing.assert_allclose(boxes, [[40, 0, 80, 20]])


def test_scales_of_fit_small_size() -> None:
    boxes, areas = in_image(BOX, 90, 200, resize("FIT_SMALL_SIZE", height_scale=100, width_scale=400))
    assert boxes.tolist() == [[100, 25, 200, 50]]
    assert areas.tolist() == [100 * 25]  # without the border, as in Caffe


def test_inside_out_boxes_have_no_area() -> None:
    _, areas = in_image(np.array([[0.5, 0.5, 0.25, 0.75]], np.float32), 100, 100)
    assert areas.tolist() == [0]


def test_an_input_without_a_size() -> None:
    with pytest.raises(NetError, match="needs the height and width"):
        in_image(BOX, 10, 10, resize("WARP", height=0))
