"""torchvision's ResNet-101 under Caffe's names: the same output from a net with torchvision's strides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe.cli import import_weights
from caffe.engine.net import Net
from caffe.engine.weights import copy_trained_from
from caffe.model_libs import ResNet101Body
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from tests.interop.torchvision_models import torchvision

#: a size whose halves are odd, so that rounding up and down give the same number of pooling windows
SIZE = 65
MEAN = (103.53, 116.28, 123.675)


def test_torchvision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torchvision()
    from torchvision.models import resnet101

    torch.manual_seed(1)
    model = resnet101(weights=None).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    torch.save(model.state_dict(), tmp_path / "resnet101.pth")
    out = tmp_path / "ResNet-101.caffemodel"
    words = ["-from", "torchvision_resnet101", "-weights", tmp_path / "resnet101.pth", "-out", out]
    assert import_weights.main([*map(str, words), "-mean_value", ",".join(map(str, MEAN))]) == 0
    assert "stride of a stage in its 3 x 3 convolution (branch2b)" in capsys.readouterr().out

    spec = NetSpec()
    spec.data = L.Input(input_param=dict(shape=dict(dim=[1, 3, SIZE, SIZE])))
    ResNet101Body(spec, "data")
    param = spec.to_proto()
    layers = {layer.name: layer for layer in param.layer}
    layers["pool1"].pooling_param.pad = 1
    for stage in "345":
        layers[f"res{stage}a_branch2a"].convolution_param.stride[:] = [1]
        layers[f"res{stage}a_branch2b"].convolution_param.stride[:] = [2]
    for layer in param.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.eps = 1e-5  # torchvision's
    net = Net(param, 1)
    copy_trained_from(net, out)
    picture = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3)).astype(np.float64)
    data = (picture[:, :, ::-1] - MEAN).transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy(((picture / 255 - mean) / std).transpose(2, 0, 1)[np.newaxis].astype(np.float32))
    with torch.no_grad():
        found = net({"data": torch.from_numpy(data)})[1]["pool5"].numpy()[0, :, 0, 0]
        model.fc = torch.nn.Identity()
        expected = model(x)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)
