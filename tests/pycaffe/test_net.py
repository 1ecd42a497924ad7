"""caffe.Net: blobs, params, forward and backward in parts, files, sharing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.errors import CaffeError, NetError

NET = """name: 'testnet' force_backward: true
layer { type: 'DummyData' name: 'data' top: 'data' top: 'label'
  dummy_data_param { num: 5 channels: 2 height: 3 width: 4 num: 5 channels: 1 height: 1 width: 1
    data_filler { type: 'gaussian' std: 1 } data_filler { type: 'constant' } } }
layer { type: 'Convolution' name: 'conv' bottom: 'data' top: 'conv'
  convolution_param { num_output: 11 kernel_size: 2 pad: 3 weight_filler { type: 'gaussian' std: 1 }
    bias_filler { type: 'constant' value: 2 } }
  param { decay_mult: 1 } param { decay_mult: 0 } }
layer { type: 'InnerProduct' name: 'ip' bottom: 'conv' top: 'ip_blob'
  inner_product_param { num_output: 13 weight_filler { type: 'gaussian' std: 2.5 } bias_filler { type: 'constant' value: -3 } } }
layer { type: 'SoftmaxWithLoss' name: 'loss' bottom: 'ip_blob' bottom: 'label' top: 'loss' }
"""

INPUT_NET = """layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: 'conv1' type: 'Convolution' bottom: 'data' top: 'conv1'
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } } }
layer { name: 'relu1' type: 'ReLU' bottom: 'conv1' top: 'conv1' }
layer { name: 'a' type: 'Pooling' bottom: 'conv1' top: 'a' pooling_param { kernel_size: 2 stride: 2 } }
layer { name: 'b' type: 'Pooling' bottom: 'conv1' top: 'b' pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: 'sum' type: 'Eltwise' bottom: 'a' bottom: 'b' top: 'sum' }
"""


@pytest.fixture
def net(tmp_path: Path) -> caffe.Net:
    return make(tmp_path, NET, caffe.TRAIN)


def make(folder: Path, text: str, phase: int = 1, **kwargs: object) -> caffe.Net:
    file = folder / "net.prototxt"
    file.write_text(text)
    return caffe.Net(str(file), phase, **kwargs)


def test_layers_blobs_and_params_in_order(net: caffe.Net) -> None:
    assert [layer.type for layer in net.layers] == ["DummyData", "Convolution", "InnerProduct", "SoftmaxWithLoss"]
    assert list(net.blobs) == ["data", "label", "conv", "ip_blob", "loss"]
    assert list(net.params) == ["conv", "ip"]
    assert [p.shape for p in net.params["conv"]] == [(11, 2, 2, 2), (11,)]
    assert net.bottom_names["ip"] == ["conv"]
    assert net.top_names["data"] == ["data", "label"]
    assert net.blob_loss_weights["loss"] == 1
    assert net.outputs == ["loss"]
    assert net.inputs == []


def test_memory_outlives_the_net(net: caffe.Net) -> None:
    net.forward()
    net.backward()
    params = [p for ps in net.params.values() for p in ps]
    blobs = list(net.blobs.values())
    del net
    assert np.isfinite(sum(float(b.data.sum() + b.diff.sum()) for b in params + blobs))


def test_gradients_reach_every_blob_and_accumulate_in_params(net: caffe.Net) -> None:
    net.forward()
    net.backward()
    once = net.params["conv"][0].diff.copy()
    assert np.abs(once).max() > 0
    assert np.abs(net.blobs["data"].diff).max() > 0
    net.backward()
    np.testing.assert_allclose(net.params["conv"][0].diff, 2 * once, rtol=1e-5)
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()


def test_forward_in_two_parts_uses_what_was_written_between(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    whole = net.forward()["sum"].copy()
    out = net.forward(end="conv1")
    assert list(out) == ["conv1"]
    net.blobs["conv1"].data[...] *= 2
    parts = net.forward(start="relu1")["sum"]
    np.testing.assert_allclose(parts, 2 * whole, rtol=1e-5)


def test_backward_in_two_parts_equals_the_whole(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET + "force_backward: true")
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    net.forward()
    diff = np.random.default_rng(1).normal(size=net.blobs["sum"].shape).astype(np.float32)
    whole = net.backward(sum=diff)["data"].copy()
    net.blobs["sum"].diff[...] = diff
    net.backward(end="a")
    assert np.abs(net.blobs["a"].diff - diff).max() == 0
    net.backward(start="conv1_relu1_0_split")
    np.testing.assert_array_equal(net.blobs["data"].diff, whole)
    assert np.abs(whole).max() > 0


def test_keyword_inputs(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    data = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    first = net.forward(data=data, blobs=["conv1"])
    assert set(first) == {"sum", "conv1"}
    with pytest.raises(CaffeError, match="do not match net inputs"):
        net.forward(image=data)
    with pytest.raises(CaffeError, match="not batch sized"):
        net.forward(data=data[:1])
    with pytest.raises(CaffeError, match="no layer 'conv7'.*conv1"):
        net.forward(end="conv7")


def test_forward_all_pads_the_last_batch(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    data = np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)
    out = net.forward_all(data=data)["sum"]
    assert len(out) == 5
    np.testing.assert_allclose(out[:2], net.forward(data=data[:2])["sum"], rtol=1e-6)
    outs, diffs = net.forward_backward_all(data=data, sum=np.ones((5, 4, 2, 2), np.float32))
    assert len(outs["sum"]) == 5
    assert len(diffs["data"]) == 5


def test_reshape_follows_the_input(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    net.blobs["data"].reshape(1, 3, 10, 12)
    net.reshape()
    assert net.blobs["conv1"].data.shape == (1, 4, 8, 10)
    assert net.forward()["sum"].shape == (1, 4, 4, 5)


def test_inputs_without_a_reshape_call_are_followed_too(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    net.blobs["data"].reshape(3, 3, 6, 6)
    assert net.forward(data=np.zeros((3, 3, 6, 6)))["sum"].shape == (3, 4, 2, 2)


@pytest.mark.parametrize("name", ["w.caffemodel", "w.caffemodel.h5"])
def test_save_and_load(tmp_path: Path, net: caffe.Net, name: str) -> None:
    net.save(str(tmp_path / name))
    other = make(tmp_path, NET, caffe.TEST, weights=str(tmp_path / name))
    for layer in net.params:
        for mine, theirs in zip(net.params[layer], other.params[layer], strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)
            assert not np.shares_memory(mine.data, theirs.data)
    old_form = caffe.Net(str(tmp_path / "net.prototxt"), str(tmp_path / name), caffe.TEST)
    np.testing.assert_array_equal(old_form.params["ip"][0].data, net.params["ip"][0].data)


def test_save_hdf5_takes_any_name(tmp_path: Path, net: caffe.Net) -> None:
    net.save_hdf5(str(tmp_path / "weights"))
    other = make(tmp_path, NET, caffe.TEST)
    other.load_hdf5(str(tmp_path / "weights"))
    np.testing.assert_array_equal(other.params["ip"][0].data, net.params["ip"][0].data)


def test_weights_of_another_shape_name_layer_shapes_and_remedy(tmp_path: Path, net: caffe.Net) -> None:
    net.save(str(tmp_path / "w.caffemodel"))
    other = make(tmp_path, NET.replace("num_output: 13", "num_output: 7"), caffe.TEST)
    with pytest.raises(NetError, match=r"(?s)layer 'ip'.*13 792.*7 792.*rename this layer.*-skip_mismatched"):
        other.copy_from(str(tmp_path / "w.caffemodel"))


def test_share_with(tmp_path: Path, net: caffe.Net) -> None:
    other = make(tmp_path, NET, caffe.TEST)
    other.share_with(net)
    net.params["ip"][0].data[0, 0] = 42
    assert other.params["ip"][0].data[0, 0] == 42


def test_levels_and_stages(tmp_path: Path) -> None:
    text = """layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 } } }
    layer { name: 'deep' type: 'ReLU' bottom: 'data' top: 'deep' include { min_level: 1 } }
    layer { name: 'b' type: 'ReLU' bottom: 'data' top: 'b' include { stage: 'B' } }"""
    assert list(make(tmp_path, text).top_names) == ["data"]
    assert "deep" in make(tmp_path, text, level=1).top_names
    assert "b" in make(tmp_path, text, stages=["B"]).top_names


def test_shared_parameters_are_one(tmp_path: Path) -> None:
    text = """force_backward: true
    layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 2 dim: 3 } } }
    layer { name: 'one' type: 'InnerProduct' bottom: 'data' top: 'one' param { name: 'w' lr_mult: 2 }
      inner_product_param { num_output: 3 bias_term: false weight_filler { type: 'xavier' } } }
    layer { name: 'two' type: 'InnerProduct' bottom: 'one' top: 'two' param { name: 'w' }
      inner_product_param { num_output: 3 bias_term: false } }
    layer { name: 'flat' type: 'InnerProduct' bottom: 'two' top: 'flat' param { name: 'w' share_mode: PERMISSIVE }
      inner_product_param { num_output: 3 bias_term: false transpose: true } }
    """
    net = make(tmp_path, text, caffe.TRAIN)
    weights = net.params["one"][0].data
    net.params["two"][0].data[0, 0] = 5
    assert weights[0, 0] == 5
    data = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    out = net.forward(data=data)["flat"]
    np.testing.assert_allclose(out, data @ weights.T @ weights.T @ weights, rtol=1e-5)
    net.backward(flat=np.ones_like(out))
    assert np.abs(net.params["one"][0].diff).max() > 0
    np.testing.assert_array_equal(net.params["one"][0].diff, net.params["two"][0].diff)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer { name: 'c' type: 'Convolutoin' }", "unknown layer type 'Convolutoin'. Did you mean 'Convolution'"),
        ("layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' }", "Unknown bottom blob 'x'.*layer 'r'"),
        (
            "layer { name: 'd' type: 'Input' top: 'x' input_param { shape { dim: 1 } } }"
            "layer { name: 'e' type: 'Input' top: 'x' input_param { shape { dim: 1 } } }",
            "Top blob 'x' produced by multiple sources.*layer 'e'",
        ),
        (
            "layer { name: 'd' type: 'Input' top: 'x' input_param { shape { dim: 1 } } }"
            "layer { name: 'r' type: 'ReLU' bottom: 'x' bottom: 'x' top: 'y' }",
            "layer 'r'.*takes 1 bottom",
        ),
        (
            "layer { name: 'd' type: 'Input' top: 'x' input_param { shape { dim: 1 } } }"
            "layer { name: 'r' type: 'ReLU' bottom: 'x' top: 'y' propagate_down: true propagate_down: true }",
            "layer 'r'.*propagate_down",
        ),
    ],
)
def test_nets_that_cannot_be_built(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(tmp_path, text)


def test_what_is_written_to_default_boxes_does_not_stay(tmp_path: Path) -> None:
    text = """layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
    layer { name: 'p' type: 'PriorBox' bottom: 'data' bottom: 'data' top: 'p' prior_box_param { min_size: 4 } }"""
    net = make(tmp_path, text)
    boxes = net.forward()["p"].copy()
    net.blobs["p"].data[...] = 0
    np.testing.assert_array_equal(net.forward()["p"], boxes)
    assert boxes.any()


def test_what_a_net_consists_of_is_made_once_and_lives(tmp_path: Path) -> None:
    net = make(tmp_path, INPUT_NET)
    for name in (
        "blobs", "params", "layers", "layer_dict", "inputs", "outputs", "top_names", "bottom_names",
        "blob_loss_weights", "_layer_names", "_blob_names", "_blobs", "_inputs", "_outputs",
    ):  # fmt: skip
        assert getattr(net, name) is getattr(net, name), name
    assert [net._blob_names[i] for i in net._outputs] == net.outputs
    assert [net._blob_names[i] for i in net._bottom_ids(2)] == net.bottom_names["relu1"]
    params, blobs, view = net.params, net.blobs, net.layer_dict["conv1"]
    assert view.blobs[0] is params["conv1"][0]
    other = make(tmp_path, INPUT_NET)
    other.params["conv1"][0].data[...] = 3
    net.share_with(other)
    assert (params["conv1"][0].data == 3).all(), "parameters that moved to another net's memory"
    other.params["conv1"][0].data[...] = 4
    assert (params["conv1"][0].data == 4).all()
    blobs["data"].reshape(5, 3, 8, 8)
    net.reshape()
    assert blobs["conv1"].shape == (5, 4, 6, 6)
    assert net.forward()["sum"].shape == (5, 4, 3, 3)
    assert blobs["conv1"].data.shape == (5, 4, 6, 6)


def test_a_walk_over_the_parameters_of_a_deep_net(tmp_path: Path) -> None:
    """601 layers. Scripts ask for `net.params[name]` within loops; made anew at each access it takes 19 s."""
    layers = ["layer { name: 'data' type: 'Input' top: 'x' input_param { shape { dim: [1, 8, 8, 8] } } }"]
    for i in range(200):
        layers += [
            f"layer {{ name: 'c{i}' type: 'Convolution' bottom: 'x' top: 'c{i}' convolution_param {{ num_output: 8 "
            "kernel_size: 1 bias_term: false } }".replace("'x'", f"'c{i - 1}'" if i else "'x'"),
            f"layer {{ name: 'b{i}' type: 'BatchNorm' bottom: 'c{i}' top: 'c{i}' }}",
            f"layer {{ name: 's{i}' type: 'Scale' bottom: 'c{i}' top: 'c{i}' scale_param {{ bias_term: true }} }}",
        ]
    net = make(tmp_path, "\n".join(layers))
    assert len(net.layers) == 601
    began = time.process_time()
    for name in net.params:
        for i in range(len(net.params[name])):
            net.params[name][i].data[...] *= 1
    assert time.process_time() - began < 0.2
    began = time.process_time()
    for i in range(601):
        assert len(net.layers) == len(net.top_names) == len(net.bottom_names) == len(net._top_ids(i)) + 600
    assert time.process_time() - began < 0.2
