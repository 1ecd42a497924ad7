"""Blobs: live views, shapes, and reshaping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from caffe.engine.blob import Blob, ParameterBlob
from caffe.errors import CaffeError


def test_data_is_live_both_ways() -> None:
    blob = Blob((2, 3))
    blob.data[...] = 4
    assert torch.equal(blob.data_tensor(), torch.full((2, 3), 4.0))
    view = blob.data
    blob.data_tensor().add_(1)
    np.testing.assert_array_equal(view, np.full((2, 3), 5))


def test_diff_is_zero_until_written() -> None:
    blob = Blob((2,))
    np.testing.assert_array_equal(blob.diff, [0, 0])
    blob.diff[0] = 3
    assert blob.diff_tensor().tolist() == [3, 0]


def test_a_view_that_is_not_contiguous_becomes_one_that_is() -> None:
    blob = Blob()
    blob.set_data(torch.arange(6.0).view(2, 3).t())
    assert blob.shape == (3, 2)
    blob.data[0, 0] = 9
    assert blob.data.flags.c_contiguous
    assert blob.data_tensor()[0, 0] == 9


def test_legacy_dimensions() -> None:
    blob = Blob((5, 6))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (5, 6, 1, 1, 30)
    with pytest.raises(CaffeError, match="at most 4 axes"):
        _ = Blob((1, 2, 3, 4, 5)).num


def test_reshape_keeps_data_of_the_same_count() -> None:
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, np.arange(6).reshape(3, 2))
    blob.reshape(4)
    np.testing.assert_array_equal(blob.data, np.zeros(4))
    with pytest.raises(CaffeError, match="negative"):
        blob.reshape(-1)


def test_a_parameter_s_blob_follows_it() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    blob = ParameterBlob(parameter)
    blob.data[...] = 2
    assert parameter.tolist() == [2, 2, 2]
    (parameter.sum() * 5).backward()
    np.testing.assert_array_equal(blob.diff, [5, 5, 5])
    blob.diff[...] = 1
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1, 1, 1]
    parameter.grad = None
    np.testing.assert_array_equal(blob.diff, [0, 0, 0])
    parameter.data = torch.ones(3) * 7
    np.testing.assert_array_equal(blob.data, [7, 7, 7])


def test_new_values_go_into_the_memory_that_a_held_array_shows() -> None:
    blob = Blob((2, 3))
    corner = blob.data[1:, 1:]
    blob.set_data(torch.arange(6.0).view(2, 3))
    np.testing.assert_array_equal(corner, [[4, 5]])
    corner[...] = -1
    assert blob.data_tensor().tolist() == [[0, 1, 2], [3, -1, -1]]


def test_without_a_held_array_the_tensor_is_taken_as_it_is() -> None:
    blob = Blob((3,))
    blob.data[...] = 1
    values = torch.arange(3.0)
    blob.set_data(values)
    assert blob.data_tensor().data_ptr() == values.data_ptr()


def test_new_values_may_overlap_what_is_held() -> None:
    blob = Blob((2, 2))
    held = blob.data
    held[...] = [[0, 1], [2, 3]]
    blob.set_data(blob.data_tensor().t())
    np.testing.assert_array_equal(held, [[0, 2], [1, 3]])


def test_a_held_array_is_no_change_of_what_autograd_saved() -> None:
    blob = Blob()
    leaf = torch.ones(2, requires_grad=True)
    blob.set_data(leaf.exp())
    held = blob.data
    loss = (leaf.exp() * blob.data_tensor().requires_grad_()).sum()
    blob.set_data(torch.zeros(2))
    loss.backward()
    assert held.tolist() == [0, 0]


@pytest.mark.gpu
def test_a_held_host_copy_shows_what_is_on_the_device_when_data_is_asked_for() -> None:
    blob = Blob()
    blob.set_data(torch.arange(3.0, device="cuda"))
    held = blob.data
    blob.set_data(torch.ones(3, device="cuda"))
    assert np.shares_memory(held, blob.data)
    np.testing.assert_array_equal(held, [1, 1, 1])
    held[0] = 5
    assert blob.data_tensor().tolist() == [5, 1, 1]
