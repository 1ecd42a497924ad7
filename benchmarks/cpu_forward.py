"""MDSSD300's forward at batch 1 on the CPU: the engine against the same network written by hand in PyTorch.

Both have the same weights, and their outputs are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mdssd_in_pytorch import MDSSD300
from report import time_in_turn, write_result

from caffe.engine.net import Net
from caffe.proto.text import read_net

DEPLOY = Path(__file__).resolve().parent.parent / "models" / "MDSSD300" / "VOC" / "deploy.prototxt"
HEADS = ("mbox_loc", "mbox_conf")


def engine_up_to_heads() -> Net:
    """The deploy net without the steps after the predictions (softmax, decoding), which the peer does not have."""
    param = read_net(DEPLOY)
    del param.layer[[layer.name for layer in param.layer].index("mbox_conf_reshape") :]
    return Net(param, phase=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each (default: 10)")
    args = parser.parse_args()
    torch.manual_seed(0)
    net, peer = engine_up_to_heads(), MDSSD300().eval()
    copy_weights(net, peer)
    image = torch.randn(1, 3, 300, 300) * 50

    with torch.inference_mode():
        outputs = net({"data": image}, keep=HEADS)[1]
        for name, expected in zip(HEADS, peer(image), strict=True):
            error = float((outputs[name] - expected).norm() / expected.norm())
            assert error < 1e-4, f"{name}: relative difference {error:.1e}"
        times = time_in_turn(
            {"engine": lambda: net({"data": image}, keep=HEADS), "PyTorch by hand": lambda: peer(image)},
            rounds=args.rounds,
        )
    ratio = times["engine"]["median_ms"] / times["PyTorch by hand"]["median_ms"]
    write_result(
        "cpu_forward", {"what": "MDSSD300 forward, batch 1", "engine / PyTorch by hand": round(ratio, 3), **times}
    )


def copy_weights(net: Net, peer: MDSSD300) -> None:
    """Copies the engine's weights to the peer: both have their layers in the order of the paper's figure 2."""
    layers = [step.layer for step in net.steps if len(step.layer.blobs)]
    order = [layer for layer in layers if "_mbox_" not in layer.name]
    order += [layer for layer in layers if layer.name.endswith("_mbox_loc")]
    order += [layer for layer in layers if layer.name.endswith("_mbox_conf")]
    with torch.no_grad():
        for mine, theirs in zip(peer.parameters(), (blob for layer in order for blob in layer.blobs), strict=True):
            mine.copy_(theirs)


if __name__ == "__main__":
    main()
