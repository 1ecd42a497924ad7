"""Nets that need more memory than there is are refused before anything is allocated; all others are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from caffe.engine import memory
from caffe.engine.net import Net
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text
from caffe.runtime import runtime
from tests.processes import python

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { SHAPE } } } '
BACK = " force_backward: true"


def net(layers: str, shape: tuple[int, ...] = (2, 3, 8, 8), phase: int = 1) -> Net:
    data = DATA.replace("SHAPE", " ".join(f"dim: {d}" for d in shape))
    return Net(parse_text(data + layers, caffe_pb2.NetParameter(), "net"), phase)


HUGE = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 2147483647 kernel_size: 3 }',
    "inner product": 'type: "InnerProduct" inner_product_param { num_output: 2147483647 }',
    "deconvolution": 'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 30000 stride: 30000 }',
    "tile": 'type: "Tile" tile_param { axis: 1 tiles: 2147483647 }',
    "embed": 'type: "Embed" embed_param { input_dim: 2147483647 num_output: 2147483647 }',
    "priors": 'type: "PriorBox" bottom: "data" prior_box_param { MANY }',
    "parameter": 'type: "Parameter" parameter_param { shape { dim: 2147483647 dim: 2147483647 } }',
    "padding": 'type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 pad: 1000000 }',
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("phase", [0, 1])
def test_a_net_beyond_the_memory_is_refused_at_once(name: str, phase: int) -> None:
    text = HUGE[name].replace("MANY", "min_size: 4 " * 300)
    shape = (2, 3, 8, 8)
    if name == "priors":
        shape = (1, 1, 30_000, 30_000)
    bottom = "" if name == "parameter" else 'bottom: "data"'
    began = time.process_time()
    with pytest.raises(NetError, match=r"layer 'huge' \(\w+\): the net needs at least [\d,.]+ GB of memory.*has \d"):
        net(f'layer {{ name: "huge" {bottom} top: "y" {text} }}', shape, phase)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["Input", "DummyData"])
def test_an_input_beyond_the_memory(kind: str) -> None:
    field = {"Input": "input_param", "DummyData": "dummy_data_param"}[kind]
    text = f'layer {{ name: "in" type: "{kind}" top: "x" {field} {{ shape {{ dim: 2147483647 dim: 2147483647 }} }} }}'
    with pytest.raises(NetError, match=rf"layer 'in' \({kind}\): the net needs at least"):
        Net(parse_text(text, caffe_pb2.NetParameter(), "net"), 1)


def test_a_size_beyond_all_numbers() -> None:
    shape = "dim: 2147483647 " * 40
    text = f'layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}'
    with pytest.raises(NetError, match=r"layer 'in' \(Input\): .*over 1e15 GB"):
        Net(parse_text(text, caffe_pb2.NetParameter(), "net"), 1)


MB = 1_000_000
SIDE = 500  # a blob of SIDE × SIDE is 1 MB
CONV = (
    'layer {{ name: "c{0}" type: "Convolution" bottom: "{1}" top: "c{0}" '
    "convolution_param {{ num_output: 1 kernel_size: 1 }} }}"
)
RELU = 'layer {{ name: "r{0}" type: "ReLU" bottom: "c{0}" top: "c{0}" }}'


def chain(length: int) -> str:
    text = ""
    for i in range(length):
        text += CONV.format(i, f"c{i - 1}" if i else "data") + RELU.format(i)
    return text


def limit(monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda: int(megabytes * MB))


def test_in_a_test_only_a_layer_s_own_blobs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bottom and top of a convolution; what is in place, and what was used up, is not counted again."""
    limit(monkeypatch, 2.1)
    net(chain(50), (1, 1, SIDE, SIDE))
    limit(monkeypatch, 1.9)
    with pytest.raises(NetError, match=r"'c0' \(Convolution\): the net needs at least 0.0 GB .* for the blobs of this"):
        net(chain(50), (1, 1, SIDE, SIDE))


def test_in_training_what_the_backward_needs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = 'layer { name: "l" type: "Reduction" bottom: "c9" top: "l" loss_weight: 1 }'
    limit(monkeypatch, 9.2)  # the inputs of nine of ten convolutions; the data needs no gradient
    net(chain(10) + loss, (1, 1, SIDE, SIDE), 0)
    limit(monkeypatch, 8.8)
    with pytest.raises(
        NetError, match=r"'c9' \(Convolution\).* for what the layers up to this one keep for the backward"
    ):
        net(chain(10) + loss, (1, 1, SIDE, SIDE), 0)
    frozen = (chain(10) + loss).replace("convolution_param", "param { lr_mult: 0 } convolution_param")
    net(frozen, (1, 1, SIDE, SIDE), 0)


def test_blobs_that_are_read_twice_or_viewed_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 3.2)
    split = "".join(CONV.format(i, "c0") for i in range(1, 8))
    view = 'layer { name: "f" type: "Flatten" bottom: "c0" top: "f" } layer { name: "f2" type: "Flatten" bottom: "f" top: "f2" }'
    total = 'layer { name: "l" type: "Reduction" bottom: "f2" top: "l" loss_weight: 1 }'
    net(CONV.format(0, "data") + split + view + total, (1, 1, SIDE, SIDE), 0)


def test_half_the_memory_at_half_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 1.9)
    monkeypatch.setattr(runtime, "precision", "bf16")
    net(chain(3), (1, 1, SIDE, SIDE))


def test_shared_parameters_are_counted_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are allocated before they are shared."""
    limit(monkeypatch, 1.3)
    text = 'inner_product_param { num_output: 1 bias_term: false } param { name: "w" } }'
    two = "".join(f'layer {{ name: "{n}" type: "InnerProduct" bottom: "data" top: "{n}" {text}' for n in "ab")
    net(two, (1, 100_000))


# ---- what the machine has


def test_the_machine_s_memory_is_at_most_the_physical() -> None:
    physical = memory._physical()
    assert 0 < memory.machine_memory() <= physical


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Path("/proc/self/cgroup").read_text().splitlines()[0] if Path("/proc/self/cgroup").exists() else ""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("12345678\n")
    (tmp_path / "memory.max").write_text("12345678\n")
    assert memory.machine_memory() == (12345678 if group else memory._physical())
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{1 << 62}\n")
    assert memory.machine_memory() == memory._physical()


def test_ulimit_counts() -> None:
    code = (
        "import resource; from caffe.engine.memory import machine_memory; import torch; "
        "resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30)); assert machine_memory() <= 64 << 30; "
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33)); print(machine_memory() <= 1 << 33)"
    )
    assert python("-c", code).stdout == "True\n"


def test_tensors_may_be_as_large_as_the_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest limit that lets a net pass is at most what running it allocates."""
    limit(monkeypatch, 2.1)
    made = net(chain(3), (1, 1, SIDE, SIDE))
    with torch.no_grad():
        _, outputs = made()
    assert outputs["c2"].shape == (1, 1, SIDE, SIDE)
