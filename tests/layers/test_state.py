"""Layers that keep state or write files: BatchNorm's statistics, recurrent state, HDF5Output; and devices."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from caffe.engine.layer import TEST
from caffe.engine.layer_types.recurrent import Recurrent
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from tests.layer_harness import make_layer, run


def test_batch_norm_accumulates_statistics_as_the_original() -> None:
    layer = make_layer("BatchNorm", "batch_norm_param { moving_average_fraction: 0.9 }", [(2, 3, 2, 2)])
    rng = np.random.default_rng(0)
    mean, variance, weight = np.zeros(3), np.zeros(3), 0.0
    for _ in range(3):
        x = rng.normal(2, 3, size=(2, 3, 2, 2)).astype(np.float32)
        run(layer, torch.from_numpy(x))
        mean = 0.9 * mean + x.mean(axis=(0, 2, 3))
        variance = 0.9 * variance + x.var(axis=(0, 2, 3)) * 8 / 7
        weight = 0.9 * weight + 1
    for blob, expected in zip(layer.blobs, (mean, variance, np.array([weight])), strict=True):
        np.testing.assert_allclose(blob.detach().numpy(), expected, rtol=1e-5)


def test_batch_norm_on_stored_statistics_leaves_them_alone() -> None:
    layer = make_layer("BatchNorm", "batch_norm_param { use_global_stats: true }", [(2, 3)])
    run(layer, torch.randn(2, 3))
    assert all(not blob.any() for blob in layer.blobs)


def test_batch_norm_of_a_single_value_has_no_variance_to_correct() -> None:
    layer = make_layer("BatchNorm", "", [(1, 2)])
    assert run(layer, torch.tensor([[3.0, -4.0]]))[0].tolist() == [[0, 0]]
    assert [b.tolist() for b in layer.blobs] == [[3, -4], [0, 0], [1]]


def test_batch_norm_blobs_do_not_learn() -> None:
    layer = make_layer("BatchNorm", "param { lr_mult: 0 }", [(2, 3)])
    assert [spec.lr_mult for spec in layer.param.param] == [0, 0, 0]
    assert not any(blob.requires_grad for blob in layer.blobs)
    with pytest.raises(NetError, match="lr_mult: 0"):
        make_layer("BatchNorm", "param { decay_mult: 0 }", [(2, 3)])


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_recurrent_state_carries_over_and_markers_clear_it(kind: str) -> None:
    layer = make_layer(kind, "recurrent_param { num_output: 3 weight_filler { type: 'xavier' } }", [(4, 2, 5), (4, 2)])
    assert isinstance(layer, Recurrent)
    x, going_on = torch.randn(4, 2, 5), torch.ones(4, 2)
    whole = run(layer, x, going_on)[0]
    layer.reset()
    halves = [run(layer, x[:2], going_on[:2])[0], run(layer, x[2:], going_on[2:])[0]]
    torch.testing.assert_close(torch.cat(halves), whole)
    anew = going_on.clone()
    anew[0] = 0
    torch.testing.assert_close(run(layer, x, anew)[0], whole)
    assert not torch.allclose(run(layer, x, going_on)[0], whole)


def test_recurrent_state_of_another_number_of_streams_is_forgotten() -> None:
    layer = make_layer(
        "LSTM", "recurrent_param { num_output: 3 weight_filler { type: 'xavier' } }", [(1, 2, 5), (1, 2)]
    )
    x = torch.randn(1, 3, 5)
    first = run(layer, x, torch.ones(1, 3))[0]
    run(layer, x[:, :2], torch.ones(1, 2))
    torch.testing.assert_close(run(layer, x, torch.ones(1, 3))[0], first)


def test_hdf5_output_holds_every_batch(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    layer = make_layer("HDF5Output", f"hdf5_output_param {{ file_name: '{path}' }}", [(2, 3), (2,)], tops=0)
    data, label = torch.randn(5, 3), torch.arange(5.0)
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        assert run(layer, data[rows], label[rows]) == []
    with h5py.File(path) as file:
        assert file["data"].dtype == np.float32
        np.testing.assert_array_equal(file["data"][()], data.numpy().reshape(5, 3, 1, 1))
        np.testing.assert_array_equal(file["label"][()], label.numpy().reshape(5, 1, 1, 1))
    with pytest.raises(NetError, match="holds items of 3×1×1, now 4×1×1"):
        run(layer, torch.zeros(1, 4), torch.zeros(1))


def test_infogain_matrix_from_a_file(tmp_path: Path) -> None:
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=2, width=2, data=[1, 0, 0, 4])
    (tmp_path / "h.binaryproto").write_bytes(blob.SerializeToString())
    text = f"infogain_loss_param {{ source: '{tmp_path / 'h.binaryproto'}' }}"
    layer = make_layer("InfogainLoss", text, [(1, 2), (1,)])
    (loss,) = run(layer, torch.tensor([[0.5, 0.25]]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(4 * np.log(4))
    with pytest.raises(NetError, match="must be 3×3"):
        make_layer("InfogainLoss", text, [(1, 3), (1,)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"\xff\xff\xff", "not a binary BlobProto"),
        (caffe_pb2.BlobProto(num=1, channels=1, height=2, width=2, data=[1]).SerializeToString(), "but 1 values"),
    ],
)
def test_infogain_matrix_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "h.binaryproto"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetError, match=message):
        make_layer("InfogainLoss", f"infogain_loss_param {{ source: '{path}' }}", [(1, 2), (1,)])


@pytest.mark.parametrize("empty", [(0, 3, 4, 4)])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }"),
        ("Pooling", "pooling_param { kernel_size: 2 }"),
        ("ReLU", ""),
        ("InnerProduct", "inner_product_param { num_output: 2 }"),
        ("Softmax", ""),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
        ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    ],
)
def test_empty_batches_pass_through(kind: str, text: str, empty: tuple[int, ...]) -> None:
    layer = make_layer(kind, text, [(2, *empty[1:])])
    (top,) = run(layer, torch.zeros(empty))
    assert top.shape == layer.reshape([empty])[0]
    assert top.shape[0] == 0


def test_losses_of_half_precision_scores_are_summed_in_float32() -> None:
    layer = make_layer("SoftmaxWithLoss", "", [(4, 3), (4,)])
    (loss,) = run(layer, torch.zeros(4, 3, dtype=torch.bfloat16, requires_grad=True), torch.zeros(4))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(3), rel=1e-6)


def test_dropout_in_test_keeps_every_value() -> None:
    layer = make_layer("Dropout", "", [(3,)], phase=TEST)
    assert run(layer, torch.tensor([1.0, -2.0, 3.0]))[0].tolist() == [1, -2, 3]
