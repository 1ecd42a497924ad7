"""MDSSD300, batch 32, forward with detection output on a GPU: its share of the device's bf16 matrix rate.

Also the share of DetectionOutput in it, and the same network by hand in PyTorch at the same settings, up to the
predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from cpu_forward import HEADS, copy_weights, engine_up_to_heads
from mdssd_in_pytorch import MDSSD300
from on_gpu import FORWARD_OPERATIONS, begin, deploy_net, images, milliseconds
from report import write_result

from caffe.engine import acceleration
from caffe.engine.layer_types.detection_output import DetectionOutput
from caffe.runtime import runtime

WAYS: tuple[dict[str, bool], ...] = (
    {"graph": True},
    {"graph": True, "tune": True},
    {"graph": True, "compile": True},
    {"graph": True, "compile": True, "tune": True},
)


def main() -> None:
    batch, rate, figures = begin(__doc__, "MDSSD300 forward")
    with torch.no_grad():
        for settings in WAYS:
            name = ", ".join(settings)
            acceleration.use("bf16", **settings)
            took, detection = with_detections(batch)
            share = batch * FORWARD_OPERATIONS / (took / 1e3) / rate
            print(f"{name}: {took:.2f} ms, {share:.1%} of the matrix rate (goal: over 70%)")
            print(f"{name}: DetectionOutput {detection / took:.1%} of the forward (goal: under 10%)", flush=True)
            figures[name] = {"ms": took, "of matrix rate": share, "DetectionOutput's share": detection / took}
        for compiled in (False, True):
            engine, peer = against_pytorch(batch, compiled)
            name = "engine / PyTorch by hand" + (", both compiled" if compiled else "")
            print(f"{name}: {engine / peer:.3f} (goal: at most 1)", flush=True)
            figures[name] = engine / peer
    acceleration.use()
    write_result("gpu_forward", figures)


def with_detections(batch: int) -> tuple[float, float]:
    """Milliseconds of the forward, and of its DetectionOutput layer alone on the same predictions."""
    net = deploy_net("MDSSD300")
    layer = next(step for step in net.steps if isinstance(step.layer, DetectionOutput))
    layer.layer.static_shape = True
    data = {"data": images(batch, 300)}
    bottoms = [net(data, keep=layer.bottoms)[1][name] for name in layer.bottoms]
    return milliseconds(lambda: net(data)), milliseconds(lambda: layer.layer(*bottoms))


def against_pytorch(batch: int, compiled: bool) -> tuple[float, float]:
    """Milliseconds up to the predictions: the engine's and the peer's, at bf16 and without CUDA graphs, alike."""
    acceleration.use("bf16", compile=compiled)
    net, peer = engine_up_to_heads(), MDSSD300().eval().to(runtime.device)
    copy_weights(net, peer)
    peer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent from its overloads
    run_peer = torch.compile(peer, dynamic=False) if compiled else peer
    data = images(batch, 300)

    def by_hand() -> Any:
        with torch.autocast(runtime.device.type, dtype=torch.bfloat16):
            return run_peer(data)

    outputs = net({"data": data}, keep=HEADS)[1]
    for name, expected in zip(HEADS, by_hand(), strict=True):
        error = float((outputs[name].float() - expected.float()).norm() / expected.float().norm())
        assert error < 0.02, f"{name}: relative difference {error:.1e}"
    ours = [milliseconds(lambda: net({"data": data}, keep=HEADS), rounds=25)]
    theirs = [milliseconds(by_hand, rounds=25)]
    ours.append(milliseconds(lambda: net({"data": data}, keep=HEADS), rounds=25))
    theirs.append(milliseconds(by_hand, rounds=25))
    return min(ours), min(theirs)


if __name__ == "__main__":
    main()
