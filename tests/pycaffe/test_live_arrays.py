"""Arrays of a net that a user keeps: they show what later passes compute, and keeping them changes no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import CaffeError

# Layers in place that need their input or their output for the gradient, views of one memory, and blobs read twice.
NET = """force_backward: true
layer { name: 'data' type: 'Input' top: 'data' top: 'label'
  input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 } } }
layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv'
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } } }
layer { name: 'bn' type: 'BatchNorm' bottom: 'conv' top: 'conv' }
layer { name: 'scale' type: 'Scale' bottom: 'conv' top: 'conv' scale_param { bias_term: true filler { value: 1.5 } } }
layer { name: 'elu' type: 'ELU' bottom: 'conv' top: 'conv' }
layer { name: 'prelu' type: 'PReLU' bottom: 'conv' top: 'conv' }
layer { name: 'power' type: 'Power' bottom: 'conv' top: 'conv' power_param { power: 2 shift: 3 } }
layer { name: 'tanh' type: 'TanH' bottom: 'conv' top: 'tanh' }
layer { name: 'flat' type: 'Flatten' bottom: 'tanh' top: 'flat' }
layer { name: 'relu' type: 'ReLU' bottom: 'flat' top: 'flat' }
layer { name: 'pool' type: 'Pooling' bottom: 'conv' top: 'pool' pooling_param { kernel_size: 4 pool: AVE } }
layer { name: 'flat_pool' type: 'Flatten' bottom: 'pool' top: 'flat_pool' }
layer { name: 'both' type: 'Concat' bottom: 'flat' bottom: 'flat_pool' top: 'both' }
layer { name: 'score' type: 'InnerProduct' bottom: 'both' top: 'score'
  inner_product_param { num_output: 5 weight_filler { type: 'xavier' } } }
layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'score' bottom: 'label' top: 'loss' }
"""


def make(folder: Path, phase: int = caffe.TRAIN) -> caffe.Net:
    file = folder / "net.prototxt"
    file.write_text(NET)
    caffe.set_random_seed(3)
    return caffe.Net(str(file), phase)


def feed(net: caffe.Net, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = rng.standard_normal((4, 3, 6, 6))
    net.blobs["label"].data[...] = rng.integers(0, 5, 4)


def hold(net: caffe.Net) -> list[np.ndarray]:
    return [array for blob in net.blobs.values() for array in (blob.data, blob.diff)]


def test_a_slice_kept_over_a_forward_shows_its_result(tmp_path: Path) -> None:
    net = make(tmp_path, caffe.TEST)
    feed(net, 0)
    net.forward()
    first = net.blobs["score"].data[0]
    before = first.copy()
    net.params["score"][1].data[...] += 1
    net.forward()
    np.testing.assert_allclose(first, before + 1, rtol=1e-5)
    assert np.shares_memory(first, net.blobs["score"].data)


def test_what_forward_returned_shows_the_next_forward(tmp_path: Path) -> None:
    net = make(tmp_path, caffe.TEST)
    feed(net, 0)
    loss = net.forward()["loss"]
    before = float(loss)
    feed(net, 1)
    net.forward()
    assert float(loss) == float(net.blobs["loss"].data) != before


def test_diffs_kept_over_a_backward_show_its_result(tmp_path: Path) -> None:
    net = make(tmp_path)
    feed(net, 0)
    net.forward()
    net.backward()
    diff, weight_diff = net.blobs["data"].diff[1], net.params["conv"][0].diff
    before, weight_before = diff.copy(), weight_diff.copy()
    feed(net, 1)
    net.clear_param_diffs()
    net.forward()
    net.backward()
    np.testing.assert_array_equal(diff, net.blobs["data"].diff[1])
    np.testing.assert_array_equal(weight_diff, net.params["conv"][0].diff)
    assert not np.array_equal(diff, before)
    assert not np.array_equal(weight_diff, weight_before)


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_keeping_every_array_changes_no_number(tmp_path: Path, phase: int) -> None:
    watched, alone = make(tmp_path, phase), make(tmp_path, phase)
    kept: list[np.ndarray] = []
    for iteration in range(3):
        for net in (watched, alone):
            feed(net, iteration)
            net.clear_param_diffs()
            net.forward()
            if net is watched:
                kept += hold(watched)
            net.backward()
        for name, blob in alone.blobs.items():
            np.testing.assert_array_equal(watched.blobs[name].data, blob.data.copy(), err_msg=name)
            np.testing.assert_array_equal(watched.blobs[name].diff, blob.diff.copy(), err_msg=name)
        for name, blobs in alone.params.items():
            for one, other in zip(watched.params[name], blobs, strict=True):
                np.testing.assert_array_equal(one.diff, other.diff, err_msg=name)


def test_a_kept_array_of_another_shape_stays_as_it_was(tmp_path: Path) -> None:
    net = make(tmp_path, caffe.TEST)
    feed(net, 0)
    net.forward()
    score = net.blobs["score"].data
    before = score.copy()
    net.blobs["data"].reshape(2, 3, 6, 6)
    net.blobs["label"].reshape(2)
    net.forward()
    assert net.blobs["score"].data.shape == (2, 5)
    np.testing.assert_array_equal(score, before)


def test_arrays_kept_over_a_step_of_the_solver(tmp_path: Path) -> None:
    net_file, solver_file = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    net_file.write_text(NET)
    solver_file.write_text(
        f"net: '{net_file}' base_lr: 0.1 momentum: 0.9 lr_policy: 'fixed' max_iter: 9 random_seed: 3"
    )
    solver = caffe.get_solver(str(solver_file))
    feed(solver.net, 0)
    solver.step(1)
    loss = solver.net.blobs["loss"].data
    weight = solver.net.params["conv"][0]
    data, diff = weight.data, weight.diff
    before = float(loss), data.copy(), diff.copy()
    solver.step(1)
    assert float(loss) != before[0]
    assert not np.array_equal(data, before[1])
    assert not np.array_equal(diff, before[2])
    np.testing.assert_array_equal(data, weight.data)
    np.testing.assert_array_equal(diff, weight.diff)


def test_a_gpu_that_is_not_there_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for choose in (caffe.set_mode_gpu, lambda: caffe.set_device(0)):
        with pytest.raises(CaffeError, match=r"asked for GPU 0, but this machine has no GPU.*caffe\.set_mode_cpu\(\)"):
            choose()
