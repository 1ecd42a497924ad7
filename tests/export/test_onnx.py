"""Exported models of layers and joins of layers, run by ONNX Runtime, give what the engine gives; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe.cli.export_onnx import main
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.errors import CaffeError
from caffe.proto.text import read_net
from tests.export.runs import engine, net_of, run

# without onnx, the lines above skip this module
# isort: split
from caffe.export.onnx_model import onnx_model

LAYERS = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 pad: 2 stride: 2 dilation: 2 }',
    "groups": 'type: "Convolution" convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 pad_w: 1 group: 2 }',
    "no bias": 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 bias_term: false }',
    "deconvolution": 'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }',
    "deconvolution in groups": 'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 stride: 2 group: 2 }',
    "pool, rounding up": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
    "pool, padded": 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 pad: 1 }',
    "pool, last window dropped": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 3 pad: 1 }',
    "pool, stride over kernel": 'type: "Pooling" pooling_param { kernel_size: 2 stride: 4 }',
    "average": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 2 stride: 2 }',
    "average, padded": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
    "average, rounding up and padded": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 1 }',
    "global average": 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
    "global max": 'type: "Pooling" pooling_param { global_pooling: true }',
    "inner product": 'type: "InnerProduct" inner_product_param { num_output: 5 }',
    "inner product, transposed": 'type: "InnerProduct" inner_product_param { num_output: 5 transpose: true bias_term: false }',
    "inner product by row": 'type: "InnerProduct" inner_product_param { num_output: 5 axis: 2 }',
    "flatten": 'type: "Flatten"',
    "flatten the rest": 'type: "Flatten" flatten_param { axis: 2 }',
    "reshape": 'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 7 } }',
    "permute": 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }',
    "softmax": 'type: "Softmax"',
    "softmax over the last": 'type: "Softmax" softmax_param { axis: -1 }',
    "normalize": 'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
    "normalize whole": 'type: "Normalize" norm_param { across_spatial: true channel_shared: true }',
    "batch norm": 'type: "BatchNorm"',
    "scale": 'type: "Scale" scale_param { bias_term: true }',
    "scale, no axis": 'type: "Scale" scale_param { num_axes: 0 }',
    "scale, last axes": 'type: "Scale" scale_param { axis: 2 num_axes: -1 }',
    "bias": 'type: "Bias"',
    "lrn": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }',
    "relu": 'type: "ReLU"',
    "leaky relu": 'type: "ReLU" relu_param { negative_slope: 0.1 }',
    "prelu": 'type: "PReLU"',
    "prelu, shared": 'type: "PReLU" prelu_param { channel_shared: true }',
    "elu": 'type: "ELU" elu_param { alpha: 0.7 }',
    "sigmoid": 'type: "Sigmoid"',
    "tanh": 'type: "TanH"',
    "abs": 'type: "AbsVal"',
    "bnll": 'type: "BNLL"',
    "power": 'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }',
    "power, a constant": 'type: "Power" power_param { power: -3 scale: 0 shift: 2 }',
    "power, 1 / 0": 'type: "Power" power_param { power: -1 scale: 0 }',
    "power, a root of a negative number": 'type: "Power" power_param { power: 0.5 scale: 0 shift: -2 }',
    "power, beyond float32": 'type: "Power" power_param { power: 400 scale: 0 shift: 9 }',
    "exp": 'type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }',
    "log": 'type: "Log" log_param { base: 10 scale: 0.1 shift: 20 }',
    "dropout": 'type: "Dropout"',
}  # fmt: skip


@pytest.mark.parametrize("name", list(LAYERS))
def test_layer(name: str) -> None:
    net = net_of(
        f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 4 dim: 11 dim: 7 }} }} }}
            layer {{ name: "l" bottom: "x" top: "y" {LAYERS[name]} }}"""
    )
    model = onnx_model(net)
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(0, 3, (batch, 4, 11, 7)).astype(np.float32)
        (found,) = run(model, x=x).values()
        np.testing.assert_allclose(found, engine(net, x=x)["y"], rtol=1e-4, atol=1e-5)


JOINS = {
    "concat": 'layer { name: "l" type: "Concat" bottom: "x" bottom: "z" top: "y" }',
    "concat of last": 'layer { name: "l" type: "Concat" bottom: "x" bottom: "z" top: "y" concat_param { axis: -1 } }',
    "sum": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" }',
    "difference": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { coeff: 1 coeff: -2 } }',
    "product": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { operation: PROD } }',
    "max": 'layer { name: "l" type: "Eltwise" bottom: "x" bottom: "z" top: "y" eltwise_param { operation: MAX } }',
    "scale": 'layer { name: "l" type: "Scale" bottom: "x" bottom: "z" top: "y" scale_param { axis: 0 } }',
    "slices": """layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_point: 1 } }
        layer { name: "c" type: "Concat" bottom: "b" bottom: "a" bottom: "z" top: "y" }""",
    "in place, read twice": """layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }
        layer { name: "q" type: "ReLU" bottom: "p" top: "p" relu_param { negative_slope: 0.5 } }
        layer { name: "l" type: "Eltwise" bottom: "x" bottom: "p" bottom: "z" top: "y" }
        layer { name: "t" type: "TanH" bottom: "y" top: "y" }""",
    "crop": """layer { name: "pool" type: "Pooling" bottom: "z" top: "small" pooling_param { kernel_size: 3 stride: 2 } }
        layer { name: "l" type: "Crop" bottom: "x" bottom: "small" top: "y" crop_param { axis: 2 offset: 2 offset: 1 } }""",
}


@pytest.mark.parametrize("name", list(JOINS))
def test_joins(name: str) -> None:
    net = net_of(
        """layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }"""
        + JOINS[name]
    )
    model = onnx_model(net)
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        x, z = (rng.normal(size=(batch, 3, 6, 5)).astype(np.float32) for _ in "xz")
        (found,) = run(model, x=x, z=z).values()
        np.testing.assert_allclose(found, engine(net, x=x, z=z)["y"], rtol=1e-5, atol=1e-6)


def test_several_outputs_keep_their_names() -> None:
    net = net_of(
        """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 2 dim: 2 } } }
           layer { name: "s" type: "Slice" bottom: "x" top: "b" top: "a" }"""
    )
    model = onnx_model(net)
    assert [output.name for output in model.graph.output] == net.outputs == ["a", "b"]
    x = np.random.default_rng(0).normal(size=(2, 4, 2, 2)).astype(np.float32)
    for name, found in run(model, x=x).items():
        np.testing.assert_array_equal(found, engine(net, x=x)[name])


# ---- what cannot be exported


@pytest.mark.parametrize(
    ("shape", "kernel"), [((1, 4, 7, 6, 2, 2), 3), ((1, 3, 99, 99), 60)], ids=["four axes", "large windows"]
)
def test_windows_that_would_be_too_many_filters_are_refused(shape: tuple[int, ...], kernel: int) -> None:
    dims = " ".join(f"dim: {size}" for size in shape)
    net = net_of(
        f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
        layer {{ name: "l" type: "Im2col" bottom: "x" top: "y" convolution_param {{
            kernel_size: {kernel} pad: 1 stride: 50 }} }}"""
    )
    with pytest.raises(CaffeError, match=r"'l' \(Im2col\).* would be a convolution with [\d,]+ filters"):
        onnx_model(net)


def test_nets_that_read_their_own_data_are_refused() -> None:
    net = net_of('layer { name: "p" type: "Parameter" top: "x" parameter_param { shape { dim: 2 } } }')
    with pytest.raises(CaffeError, match="has no input: it reads its data itself. Export the deploy net"):
        onnx_model(net)


def test_nothing_is_left_of_a_failed_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } } '
        'layer { name: "l" type: "HDF5Output" bottom: "x" bottom: "x" hdf5_output_param { file_name: "x.h5" } }'
    )
    net = Net(read_net(tmp_path / "net.prototxt"), 1)
    save(net, str(tmp_path / "w.caffemodel"))
    (tmp_path / "x.h5").unlink()  # which a net that may write makes
    flags = ["-model", str(tmp_path / "net.prototxt"), "-weights", str(tmp_path / "w.caffemodel")]
    assert main([*flags, "-out", str(tmp_path / "net.onnx")]) == 1
    assert "layer 'l' (HDF5Output) cannot be exported" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "w.caffemodel"]
