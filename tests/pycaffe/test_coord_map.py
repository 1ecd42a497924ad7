"""Coordinates from blob to blob, checked against the actual positions of single pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe.coord_map import AxisMismatchException, compose, coord_map_from_to, crop, inverse
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P


def spec(kernel: Any = 3, stride: Any = 1, pad: Any = 0, pool: int = 2, up: int = 2, up_pad: int = 0) -> Any:
    """A convolution, a pooling by `pool` and a deconvolution that undoes a pooling by `up`."""
    n: Any = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 1, 100, 100]))
    n.aux = L.Input(shape=dict(dim=[2, 1, 20, 20]))
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool)
    n.deconv = L.Deconvolution(n.pool, convolution_param=dict(num_output=10, kernel_size=2 * up, stride=up, pad=up_pad))
    return n


@pytest.mark.parametrize(("factor", "shift"), [(2, 0), (4, -1)])
def test_convolution_pooling_deconvolution(factor: int, shift: int) -> None:
    n = spec(pool=factor, up=factor)
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, shift)


@pytest.mark.parametrize("pad", [1, 4, 10])
def test_padding_shifts(pad: int) -> None:
    def shift(**pads: int) -> Any:
        n = spec(**pads)
        axis, scale, shift = coord_map_from_to(n.deconv, n.data)
        assert (axis, scale) == (1, 1)
        return shift

    assert shift(pad=pad) == shift() - pad
    assert shift(up_pad=pad) == shift() + pad
    assert shift(pad=pad, up_pad=pad) == shift()


def test_shift_is_where_a_pixel_comes_from() -> None:
    """A kernel that copies its center, run by hand: output x shows input x + 1 for an unpadded 3-wide kernel."""
    row = np.arange(10.0)
    shown = np.convolve(row, [0, 1, 0], mode="valid")
    n: Any = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 10, 10]))
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=3)
    _, scale, shift = coord_map_from_to(n.conv, n.data)
    np.testing.assert_array_equal(shown, row[(np.arange(8) * scale + shift).astype(int)])


def test_layers_that_keep_positions() -> None:
    n = spec()
    n.relu = L.ReLU(n.deconv)
    n.same = L.Convolution(n.relu, num_output=1, kernel_size=1)
    for top in (n.relu, n.same):
        assert coord_map_from_to(top, n.data) == coord_map_from_to(n.deconv, n.data)


def test_several_bottoms_are_mapped_alike() -> None:
    n = spec()
    n.a, n.b = L.Convolution(n.data, n.aux, ntop=2, num_output=1, kernel_size=5, stride=2)
    assert coord_map_from_to(n.a, n.data) == coord_map_from_to(n.b, n.aux) == (1, 2, 2)


def test_axes_apart() -> None:
    narrow, wide = spec(3, 1, 0), spec(5, 2, 10)
    both = spec([3, 5], [1, 2], [0, 10])
    maps: list[Any] = [coord_map_from_to(n.deconv, n.data) for n in (narrow, wide, both)]
    for part in (1, 2):
        assert [maps[0][part][0], maps[1][part][0]] == maps[2][part].tolist()


def test_three_spatial_axes() -> None:
    n: Any = NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 100, 100, 100]))
    n.conv = L.Convolution(n.data, num_output=1, kernel_size=[3, 3, 3], pad=[0, 1, 2])
    _, scale, shift = coord_map_from_to(n.conv, n.data)
    assert np.all(scale == 1)
    assert shift.tolist() == [1, 0, -1]


def test_dilation_widens_the_kernel() -> None:
    n: Any = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 100, 100]))
    n.fc6 = L.Convolution(n.data, num_output=1, kernel_size=3, dilation=6, pad=6)
    assert coord_map_from_to(n.fc6, n.data) == (1, 1, 0)


@pytest.mark.parametrize("offset", [0, 3, 10])
def test_crop_of_a_crop(offset: int) -> None:
    n = spec()
    axis, scale, shift = coord_map_from_to(n.deconv, n.data)
    n.crop = L.Crop(n.deconv, n.data, axis=2, offset=offset)
    assert coord_map_from_to(n.crop, n.data) == (axis, scale, shift + offset)


def test_crop_writes_the_layer() -> None:
    n = spec(pool=4, up=4)
    n.score = crop(n.deconv, n.data)
    layer = n.to_proto().layer[-1]
    assert (layer.type, list(layer.bottom)) == ("Crop", ["deconv", "data"])
    assert (layer.crop_param.axis, list(layer.crop_param.offset)) == (2, [1])


def test_compose_and_inverse() -> None:
    assert compose((None, 1, 0), (1, 2, 3)) == (1, 2, 3)
    assert compose((1, 2, 3), (1, 5, 7)) == (1, 10, 17)
    assert compose((1, 2, 3), inverse((1, 2, 3))) == (1, 1, 0)
    with pytest.raises(AxisMismatchException, match="at 1 in one layer and at 2"):
        compose((1, 1, 0), (2, 1, 0))


def test_unconnected() -> None:
    n = spec()
    n.ip = L.InnerProduct(n.deconv, num_output=10)
    with pytest.raises(RuntimeError, match="no path through layers with coordinates"):
        coord_map_from_to(n.ip, n.data)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (dict(pool=3, up=2), "differ in resolution"),
        (dict(up_pad=10), "does not cover the second"),
        (dict(kernel=2, pad=4), "not whole numbers"),
    ],
)
def test_what_cannot_be_cropped(sizes: dict[str, int], message: str) -> None:
    n = spec(**sizes)
    with pytest.raises(AssertionError, match=message):
        crop(n.deconv, n.data)


def test_sides_given_apart_are_refused() -> None:
    n: Any = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 9, 9]))
    n.conv = L.Convolution(n.data, num_output=1, kernel_h=3, kernel_w=1)
    with pytest.raises(AssertionError, match="give kernel_size, stride and pad as lists"):
        coord_map_from_to(n.conv, n.data)
