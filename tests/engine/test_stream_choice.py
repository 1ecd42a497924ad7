"""A CUDA graph on one stream and on several: the faster is kept, and both give the same; on a GPU if there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from caffe.engine import acceleration, prepack
from caffe.engine.cuda_graph import CudaRecorder, GraphedForward
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from tests.engine.test_merged import detector
from tests.engine.test_streams import NETWORKS, as_on_a_gpu, images, parse, plainly
from tests.recording import CpuRecorder
from tests.streams import CheckedStreams


class TimedRecorder(CpuRecorder):
    """Recordings take the given times, in order."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self._left = list(seconds)

    def seconds(self, replay: Any) -> float:
        replay()
        return self._left.pop(0)


@torch.no_grad()
@pytest.mark.parametrize(("times", "used"), [((2.0, 1.0), "several"), ((1.0, 2.0), "one")])
def test_the_faster_recording_is_kept(
    times: tuple[float, float], used: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    net = as_on_a_gpu(MDSSD300)
    acceleration.use(graph=True, tune=True)
    capfd.readouterr()
    streams = CheckedStreams()
    recorder = TimedRecorder(*times)
    graphed = GraphedForward(net, recorder, streams)
    for seed in range(3):
        batch = images(net, seed)
        expected = plainly(net, batch)["detection_out"]
        found = graphed(batch, frozenset())[1]["detection_out"]
        assert torch.equal(found, expected)
    assert recorder.warm_ups == 4, "two of each, once"
    log = capfd.readouterr().err
    assert f"CUDA graph: on 8 streams a pass takes {times[1] / times[0]:.2f} of its time on one" in log
    assert f"ms; {used} will be used" in log
    assert log.count("CUDA graph") == 1


@torch.no_grad()
def test_memory_for_one_recording_only(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)

    class Full(CpuRecorder):
        def warm_up(self, work: Any) -> Any:
            if self.warm_ups == 2:
                raise torch.OutOfMemoryError
            return super().warm_up(work)

    net = as_on_a_gpu(SSD300)
    acceleration.use(graph=True, tune=True)
    graphed, batch = GraphedForward(net, Full(), CheckedStreams()), images(net)
    assert torch.equal(graphed(batch, frozenset())[1]["detection_out"], plainly(net, batch)["detection_out"])
    assert graphed.several_to_one is None
    assert "memory is too small" in capfd.readouterr().err


@torch.no_grad()
def test_one_recording_without_tuning_or_branches() -> None:
    chain = parse("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 } } }
        layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { shift: 1 } }""")
    for net, batch, tune in ((as_on_a_gpu(SSD300), None, False), (chain, {"x": torch.ones(4)}, True)):
        acceleration.use(graph=True, tune=tune)
        recorder = CpuRecorder()
        GraphedForward(net, recorder, CheckedStreams())(batch or images(net), frozenset())
        assert recorder.warm_ups == 2


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
@NETWORKS
@pytest.mark.parametrize("precision", acceleration.PRECISIONS)
@torch.no_grad()
def test_on_a_gpu(precision: str, network: Network) -> None:
    """Pass after pass on several streams, predictions and detections are those of a recording on one."""
    acceleration.use(precision)
    net = detector(network)
    net.inference_steps = prepack.prepack(net)
    keep = frozenset({"mbox_loc", "mbox_conf"})
    batches = [{name: value.cuda() for name, value in images(net, seed).items()} for seed in range(4)]
    one = GraphedForward(net)
    expected = [one(batch, keep)[1] for batch in batches]
    acceleration.use(precision, tune=True)
    torch.backends.cudnn.benchmark = False  # the same kernels, so the same numbers

    class PreferLater(CudaRecorder):
        asked = 0

        def seconds(self, replay: Any) -> float:
            assert super().seconds(replay) > 0
            self.asked += 1
            return 1 / self.asked

    several = GraphedForward(net, PreferLater())
    for _ in range(20):
        for batch, blobs in zip(batches, expected, strict=True):
            found = several(batch, keep)[1]
            assert found.keys() == blobs.keys()
            for name, value in blobs.items():
                torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)
    assert several.several_to_one == 0.5
