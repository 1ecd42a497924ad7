"""Whole nets on a GPU: the CPU's numbers, also when compiled."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffe.engine import acceleration
from caffe.engine.net import Net
from caffe.runtime import runtime
from tests.narrow import narrow_deploy, narrow_train

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("nets_on_gpu")]
PREDICTIONS = ["conv4_3", "fc7", "mbox_loc", "mbox_conf", "mbox_priorbox"]


def on_cpu(param: object, phase: int) -> Net:
    runtime.mode_gpu = False
    return Net(param, phase)


def on_gpu(param: object, like: Net) -> Net:
    """A net with the weights of a net on the CPU."""
    runtime.mode_gpu = True
    net = Net(param, like.phase)
    net.load_state_dict(like.state_dict())
    return net


def distance(ours: Tensor, expected: Tensor) -> float:
    """Relative, in the 2-norm."""
    return float((ours.detach().cpu().double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-9))


@torch.no_grad()
@pytest.mark.parametrize(
    ("precision", "compiled", "most"), [("fp32", False, 1e-5), ("tf32", False, 1e-2), ("bf16", False, 0.05), ("bf16", True, 0.05)]
)  # fmt: skip
def test_detection_as_on_the_cpu(precision: str, compiled: bool, most: float) -> None:
    expected_net = on_cpu(narrow_deploy(), 1)
    data = torch.randn(2, 3, 300, 300) * 50
    expected = expected_net({"data": data}, PREDICTIONS)[1]
    acceleration.use(precision, compile=compiled)
    net = on_gpu(narrow_deploy(), expected_net)
    found = net({"data": data.cuda()}, PREDICTIONS)[1]
    for name in PREDICTIONS:
        assert distance(found[name], expected[name]) < most, name


def test_training_as_on_the_cpu() -> None:
    expected_net = on_cpu(narrow_train(), 0)
    label = torch.zeros(1, 1, 4, 8)
    label[0, 0, :, 0] = torch.tensor([0, 0, 1, 1])
    label[0, 0, :, 1] = torch.tensor([1, 2, 3, 4])
    label[0, 0, :, 3:7] = torch.tensor([0.2, 0.3, 0.5, 0.6])
    batch = {"data": torch.randn(2, 3, 300, 300) * 50, "label": label}
    net = on_gpu(narrow_train(), expected_net)
    losses = [n({k: v.to(n.device) for k, v in batch.items()})[0] for n in (expected_net, net)]
    assert distance(losses[1], losses[0].detach()) < 1e-5
    for loss in losses:
        loss.backward()
    distances = {}
    for step, expected_step in zip(net.steps, expected_net.steps, strict=True):
        for i, (ours, expected) in enumerate(zip(step.layer.blobs, expected_step.layer.blobs, strict=True)):
            assert ours.grad is not None
            assert expected.grad is not None
            distances[f"{step.layer.name} {i}"] = distance(ours.grad, expected.grad)
    # Where rounding moves a value over a ReLU's kink or to another place of a pooling window, the layers below get
    # another gradient, by half a per cent here (so they do between two implementations of convolution on the CPU).
    assert max(distances.values()) < 0.05, distances
    over = [name for name, value in distances.items() if value > 1e-4]
    assert len(over) < len(distances) / 10, over
