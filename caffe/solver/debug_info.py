"""`debug_info: true`: a pass layer by layer that logs the mean magnitude of every blob and gradient it meets."""

from __future__ import annotations

from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.solver.number_format import ostream_number


def _mean_magnitude(tensor: Tensor) -> str:
    return ostream_number(float(tensor.detach().abs().mean())) if tensor.numel() else "0"


def forward_backward(net: Net) -> float:
    """Runs `net` forward and backward, logging as Net::ForwardDebugInfo and BackwardDebugInfo do. Returns the loss."""
    loss = 0.0
    for i, step in enumerate(net.steps):
        loss += net.forward_layers(i, i)
        name = step.layer.name
        for top in step.tops:
            value = _mean_magnitude(net.blobs[top].data_tensor())
            log.info("net.cpp:609", f"    [Forward] Layer {name}, top blob {top} data: {value}")
        for j, blob in enumerate(step.layer.blobs):
            log.info("net.cpp:621", f"    [Forward] Layer {name}, param blob {j} data: {_mean_magnitude(blob)}")
    for i in range(len(net.steps) - 1, -1, -1):
        step = net.steps[i]
        net.backward_layers(i, i)
        if not step.need_backward:
            continue
        name = step.layer.name
        for bottom, wanted in zip(step.bottoms, step.bottom_grad, strict=True):
            if wanted:
                value = _mean_magnitude(net.blobs[bottom].diff_tensor())
                log.info("net.cpp:637", f"    [Backward] Layer {name}, bottom blob {bottom} diff: {value}")
        for j, blob in enumerate(step.layer.blobs):
            if blob.requires_grad and blob.grad is not None:
                log.info(
                    "net.cpp:647", f"    [Backward] Layer {name}, param blob {j} diff: {_mean_magnitude(blob.grad)}"
                )
    return loss
