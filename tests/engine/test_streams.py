"""Plans of which step runs on which stream, checked for races."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caffe.engine import acceleration, prepack
from caffe.engine.constants import Remembered, remember
from caffe.engine.fused import fuse
from caffe.engine.net import Net
from caffe.engine.streams import CudaStreams, Plan, run_on_streams
from caffe.engine.wiring import Step
from caffe.proto import caffe_pb2
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd321 import SSD321
from tests.engine.test_merged import detector
from tests.streams import CheckedStreams, Race

NETWORKS = pytest.mark.parametrize("network", [MDSSD300, SSD300, SSD321], ids=["MDSSD300", "SSD300", "SSD321"])


def as_on_a_gpu(network: Network, precision: str = "fp32") -> Net:
    """A narrow detector with the steps that it has on a GPU."""
    acceleration.use(precision)
    net = detector(network)
    net.inference_steps = remember(fuse(prepack._for_gpu(net, merging=True)))
    return net


def images(net: Net, seed: int = 0) -> dict[str, Tensor]:
    return {"data": torch.randn(net.blobs["data"].shape, generator=torch.Generator().manual_seed(seed)) * 50}


@torch.no_grad()
def plainly(net: Net, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    blobs = dict(batch)
    kept: dict[str, Tensor] = {}
    with acceleration.autocast(net.device):
        net.run_steps(net.inference_steps, blobs, frozenset(net.blobs), kept)
    return kept | blobs


@torch.no_grad()
def checked(net: Net, plan: Plan, batch: dict[str, Tensor], keep: frozenset[str] = frozenset()) -> dict[str, Tensor]:
    """The blobs that nothing reads and those to keep, from a pass in which a race is an error."""
    blobs = dict(batch)
    kept: dict[str, Tensor] = {}
    with CheckedStreams() as streams, acceleration.autocast(net.device):
        run_on_streams(net, plan, streams, blobs, keep, kept)
        for value in [*blobs.values(), *kept.values()]:
            value + 1  # the caller, on the first stream
    return kept | blobs


def parse(text: str) -> Net:
    return Net(text_format.Parse(text, caffe_pb2.NetParameter()), 1)


@NETWORKS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detectors_without_races_and_with_equal_results(network: Network, precision: str) -> None:
    net = as_on_a_gpu(network, precision)
    plan = Plan(net.inference_steps)
    assert plan.streams > 4
    for seed in range(2):  # default boxes are made in the first pass only
        batch = images(net, seed)
        expected = plainly(net, batch)
        keep = frozenset({"mbox_loc", "mbox_conf", "conv6_2_mbox_loc"} & expected.keys())
        for name, value in checked(net, plan, batch, keep).items():
            assert torch.equal(value, expected[name]), name


def test_mdssd_runs_its_modules_and_predictions_beside_each_other() -> None:
    net = as_on_a_gpu(MDSSD300)
    plan = Plan(net.inference_steps)
    stream = {step.layer.name: place.stream for step, place in zip(plan.steps, plan.places, strict=True)}
    trunk = {stream[name] for name in ("conv1_1", "conv4_3", "fc7", "conv6_2", "conv9_2")}
    modules = {stream[f"module{i}_deconv1"] for i in (1, 2, 3)}
    assert trunk == {0}
    assert len(modules | trunk) == 4
    assert all(stream[f"module{i}_deconv1"] == stream[f"module{i}_conv3"] for i in (1, 2, 3)), "a chain is one stream"
    assert stream["module1_shallow"] not in modules | trunk


@pytest.mark.parametrize(("network", "all_steps", "chain"), [(MDSSD300, 75, 40), (SSD300, 39, 33)])
def test_the_longest_chain_of_steps(network: Network, all_steps: int, chain: int) -> None:
    """The numbers in docs/gpu_speed.md."""
    plan = Plan(as_on_a_gpu(network).inference_steps)
    assert (sum(launches(step) for step in plan.steps), longest_chain(plan)) == (all_steps, chain)


def launches(step: Step) -> int:
    """1, or 0 for what only gives memory another shape, or was computed in an earlier pass."""
    views = ("Input", "Split", "Flatten", "Permute", "Reshape", "Slice")
    return int(step.layer.type_name not in views and not isinstance(step.layer, Remembered))


def longest_chain(plan: Plan) -> int:
    """The number of launches in the longest sequence, in which each waits for the one before."""
    length: list[int] = []
    last: dict[int, int] = {}
    for i, (step, place) in enumerate(zip(plan.steps, plan.places, strict=True)):
        before = [*place.waits, *([last[place.stream]] if place.stream in last else [])]
        length.append(launches(step) + max((length[j] for j in before), default=0))
        last[place.stream] = i
    return max(length)


@torch.no_grad()
def test_cuda_s_streams_and_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's calls in their place: each stream is one of the checked ones, each event one of their marks."""
    checked = CheckedStreams()
    current: list[Any] = []

    class Stream:
        number = 0

        def __init__(self, device: torch.device) -> None:
            Stream.number += 1
            self.number = Stream.number

        def wait_event(self, event: Any) -> None:
            assert self is current[-1]
            checked.wait(event.mark)

    class Event:
        def record(self, stream: Any) -> None:
            assert stream is current[-1]
            self.mark = checked.mark()

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        current.append(stream)
        with checked.on(stream.number):
            yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    net = as_on_a_gpu(MDSSD300)
    plan, batch = Plan(net.inference_steps), images(net)
    first = Stream(net.device)
    first.number = Stream.number = 0
    current.append(first)
    streams = CudaStreams(net.device)
    for _ in range(2):  # the second pass has the same streams
        blobs = dict(batch)
        with checked:
            run_on_streams(net, plan, streams, blobs, frozenset(), {})
        assert torch.equal(blobs["detection_out"], plainly(net, batch)["detection_out"])
    assert set(checked.work) == set(range(plan.streams))
    assert Stream.number == plan.streams - 1


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_any_number_of_streams(most: int) -> None:
    net = as_on_a_gpu(MDSSD300)
    plan = Plan(net.inference_steps, most)
    assert plan.streams == most
    batch = images(net)
    assert torch.equal(checked(net, plan, batch)["detection_out"], plainly(net, batch)["detection_out"])


def test_every_wait_is_needed() -> None:
    """Without any one of them there is a race, so the check finds each that is missing.

    Only a view may also be there by another wait, for what it is a view of, and what is remembered always is.
    """
    net = as_on_a_gpu(MDSSD300)
    batch = images(net)
    plan = Plan(net.inference_steps)
    waits = [(i, j) for i, place in enumerate(plan.places) for j in place.waits]
    checked(net, plan, batch)  # what is remembered is made
    not_needed = []
    for i, j in waits:
        broken = Plan(net.inference_steps)
        broken.places[i] = replace(plan.places[i], waits=tuple(w for w in plan.places[i].waits if w != j))
        try:
            checked(net, broken, batch)
            not_needed.append(plan.steps[j])
        except Race:
            pass
    assert not any(launches(step) for step in not_needed)
    assert len(not_needed) <= 0.1 * len(waits)


def test_blobs_are_kept_while_other_streams_read_them() -> None:
    net = parse("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 } } }
        layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { shift: 1 } }
        layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { scale: 2 } }
        layer { name: "c" type: "Power" bottom: "a" top: "c" power_param { scale: 3 } }
        layer { name: "d" type: "Power" bottom: "b" top: "d" power_param { scale: 2 } }""")
    plan = Plan(net.inference_steps)
    batch = {"x": torch.arange(4.0)}
    assert checked(net, plan, batch)["c"].tolist() == [3, 6, 9, 12]

    class Forgetful(dict[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:  # what is held is a copy, so the blob itself is freed
            return super().__getitem__(name).clone()

    def run() -> None:
        with CheckedStreams() as streams, torch.no_grad():
            run_on_streams(net, plan, streams, Forgetful(batch), frozenset(), {})

    with pytest.raises(Race, match="used again while"):
        run()


def test_the_caller_waits_for_all_streams() -> None:
    net = parse("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 } } }
        layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { shift: 1 } }
        layer { name: "b" type: "Power" bottom: "x" top: "b" power_param { shift: 2 } }
        layer { name: "l" type: "Reduction" bottom: "b" top: "l" loss_weight: 2 }
        layer { name: "m" type: "Reduction" bottom: "a" top: "m" loss_weight: 3 }""")
    plan = Plan(net.inference_steps)
    assert plan.streams == 2
    with CheckedStreams() as streams, torch.no_grad():
        blobs = {"x": torch.arange(4.0)}
        loss = run_on_streams(net, plan, streams, blobs, frozenset(), {})
    assert streams.work[1] > 0
    assert loss is not None
    assert loss.item() == 2 * 14 + 3 * 10


def test_layers_with_shared_parameters_are_in_order() -> None:
    """At bf16 the first of them has autocast round the weights for all."""
    conv = """layer { name: "%s" type: "InnerProduct" bottom: "x" top: "%s" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }"""
    net = parse(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        + "".join(conv % (name, name) for name in "abc")
    )
    plan = Plan(net.inference_steps)
    places = {step.layer.name: (i, place) for i, (step, place) in enumerate(zip(plan.steps, plan.places, strict=True))}
    for first, second in ("ab", "bc"):
        after = places[second][1]
        assert places[first][0] in after.waits or places[first][1].stream == after.stream
    acceleration.use("bf16")
    batch = {"x": torch.randn(2, 3)}
    assert torch.equal(checked(net, plan, batch)["c"], plainly(net, batch)["c"])


@st.composite
def nets(draw: st.DrawFn) -> str:
    """Layers of several kinds, some in place, that read any of the blobs so far."""
    text = ['layer { name: "in" type: "Input" top: "b0" input_param { shape { dim: 2 dim: 3 dim: 4 } } }']
    blobs, unread = ["b0"], {"b0"}
    for i in range(1, draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["Power", "Eltwise", "ReLU", "Concat", "Flatten", "loss"]))
        if kind == "ReLU" and not unread:
            continue
        bottom, other = draw(st.sampled_from(blobs)), draw(st.sampled_from(blobs))
        top = f"b{i}"
        if kind == "Power":
            more = f'bottom: "{bottom}" top: "{top}" power_param {{ scale: {i} shift: 1 }}'
        elif kind == "Eltwise":
            more = f'bottom: "{bottom}" bottom: "{other}" top: "{top}"'
        elif kind == "ReLU":
            top = bottom = other = draw(st.sampled_from(sorted(unread)))
            more = f'bottom: "{bottom}" top: "{top}"'
        elif kind == "Concat":
            more = f'bottom: "{bottom}" bottom: "{other}" top: "cat{i}"'
            text.append(f'layer {{ name: "l{i}" type: "Concat" {more} }}')
            more = f'bottom: "cat{i}" top: "{top}" slice_param {{ axis: 1 slice_point: 3 }} top: "rest{i}"'
            kind = "Slice"
        elif kind == "Flatten":
            more = f'bottom: "{bottom}" top: "flat{i}"'
            text.append(f'layer {{ name: "f{i}" type: "Flatten" {more} }}')
            kind = "Reshape"
            more = f'bottom: "flat{i}" top: "{top}" reshape_param {{ shape {{ dim: 0 dim: 3 dim: 4 }} }}'
        else:
            kind = "Reduction"
            more = f'bottom: "{bottom}" top: "loss{i}" loss_weight: {i}'
            top = ""
        text.append(f'layer {{ name: "{kind}{i}" type: "{kind}" {more} }}')
        unread -= {bottom, other} if kind in ("Eltwise", "Slice") else {bottom}
        if top:
            unread.add(top)
        if top and top not in blobs:
            blobs.append(top)
    return "\n".join(text)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=nets(), most=st.integers(1, 5))
def test_any_net(text: str, most: int) -> None:
    net = parse(text)
    plan = Plan(net.inference_steps, most)
    batch = {"b0": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))}
    blobs = dict(batch)
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        expected_loss = net.run_steps(net.inference_steps, dict(batch), frozenset(), {})
        expected = plainly(net, batch)
        with CheckedStreams() as streams:
            loss = run_on_streams(net, plan, streams, blobs, frozenset(), kept)
            for value in blobs.values():
                value + 1
    assert plan.streams <= most
    assert (loss is None) == (expected_loss is None)
    if loss is not None and expected_loss is not None:
        assert torch.equal(loss, expected_loss)
    for name, value in blobs.items():
        assert torch.equal(value, expected[name])
