"""MDSSD300 and SSD300, input blob to detections, on the CPU: the engine beside OpenCV, ONNX Runtime, OpenVINO and
PyTorch, at batch 1 and 8.

All have the same random weights, with the background made likely, so that about as many boxes reach the suppression as
in a photograph. Detections are compared before anything is timed; then the candidates run in turn. A peer that is not
installed is left out and listed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_forward import copy_weights
from mdssd_in_pytorch import MDSSD300
from report import time_in_turn, write_result
from torch import Tensor

from caffe.data.feed.memory import keep_freed_memory
from caffe.engine import acceleration
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.engine.weights import save
from caffe.ops.detection_output import CENTER_SIZE, detection_output
from caffe.proto.caffe_pb2 import NetParameter
from caffe.proto.text import read_net

Array = np.ndarray[Any, Any]
MODELS = Path(__file__).resolve().parent.parent / "models"
#: from an N x 3 x 300 x 300 blob to detections, K x 7
Candidate = Callable[[Array], Array]

CLASSES = 21
BACKGROUND_BIAS = 5.0


class Unsupported(Exception):
    """The reason why a candidate cannot run here."""


def read_deploy(network: str, batch: int) -> NetParameter:
    """The network's deploy prototxt for a batch of this size."""
    param = read_net(MODELS / network / "VOC" / "deploy.prototxt")
    param.layer[0].input_param.shape[0].dim[0] = batch
    return param


def make_engine(param: NetParameter) -> Net:
    """The deploy net with the background likely."""
    net = Net(param, phase=1)
    for step in net.steps:
        if step.layer.name.endswith("_mbox_conf"):
            step.layer.blobs[1].data.view(-1, CLASSES)[:, 0] += BACKGROUND_BIAS
    return net


def packed(net: Net, param: NetParameter) -> Net:
    """The same net as ImageDetector runs it."""
    other = Net(param, phase=1)
    other.load_state_dict(net.state_dict())
    other.inference_steps = prepack(other)
    return other


def engine(net: Net) -> Candidate:
    @torch.inference_mode()
    def run(image: Array) -> Array:
        return np.asarray(net({"data": torch.from_numpy(image)})[1]["detection_out"][0, 0])

    return run


def engine_bf16(net: Net, param: NetParameter | None) -> Candidate:
    """The engine as `-precision bf16` runs it, on a processor that computes in bfloat16; packed if `param` is given."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise Unsupported("this processor has no AVX-512 bf16 and no AMX")
    with at_bf16():
        run = engine(packed(net, param) if param else net)

    def run_bf16(image: Array) -> Array:
        with at_bf16():
            return run(image)

    return run_bf16


@contextmanager
def at_bf16() -> Iterator[None]:
    acceleration.use("bf16")
    try:
        yield
    finally:
        acceleration.use("fp32")


def pytorch(net: Net, network: str, channels_last: bool = False) -> Candidate:
    """The network by hand; softmax by PyTorch, the last step by the engine's operator: torchvision's is different."""
    if network != "MDSSD300":
        raise Unsupported("only MDSSD300 is written by hand")
    peer = MDSSD300(CLASSES).eval()
    copy_weights(net, peer)
    form = torch.channels_last if channels_last else torch.contiguous_format
    peer.to(memory_format=form)  # type: ignore[call-overload]  # absent from its overloads
    prior = priors(net)

    @torch.inference_mode()
    def run(image: Array) -> Array:
        loc, conf = peer(torch.from_numpy(image).contiguous(memory_format=form))
        return np.asarray(decode(loc, conf, prior))

    return run


def priors(net: Net) -> Tensor:
    with torch.inference_mode():
        boxes: Tensor = net({"data": torch.zeros(1, 3, 300, 300)}, keep=["mbox_priorbox"])[1]["mbox_priorbox"]
    return boxes


def decode(loc: Tensor, conf: Tensor, prior: Tensor) -> Tensor:
    return detection_output(
        loc, conf.view(len(loc), -1, CLASSES).softmax(2), prior, num_classes=CLASSES, code_type=CENTER_SIZE,
        confidence_threshold=0.01, nms_threshold=0.45, top_k=400, keep_top_k=200,
    )  # fmt: skip


def opencv(net: Net, network: str, folder: Path, threads: int) -> Candidate:
    import cv2

    if int(cv2.__version__.split(".")[0]) > 4:
        raise Unsupported(f"OpenCV {cv2.__version__} has no importer of Caffe's nets")
    cv2.setNumThreads(threads)
    weights = folder / "net.caffemodel"
    save(net, weights)
    peer = cv2.dnn.readNetFromCaffe(str(MODELS / network / "VOC" / "deploy.prototxt"), str(weights))

    def run(image: Array) -> Array:
        peer.setInput(image, "data")
        return np.asarray(peer.forward("detection_out")[0, 0])

    return run


def onnx_file(net: Net, folder: Path) -> Path:
    from caffe.export.onnx_model import export_onnx

    path = folder / "net.onnx"
    if not path.exists():
        export_onnx(net, path)
    return path


def onnx_runtime(net: Net, folder: Path, threads: int) -> Candidate:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(onnx_file(net, folder)), options, providers=["CPUExecutionProvider"]
    )  # fmt: skip
    return lambda image: np.asarray(session.run(["detection_out"], {"data": image})[0][0, 0])


def openvino(net: Net, batch: int, folder: Path, threads: int) -> Candidate:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(onnx_file(net, folder))
    model.reshape({"data": [batch, 3, 300, 300]})
    compiled = core.compile_model(model, "CPU", settings)
    return lambda image: np.asarray(compiled([image])["detection_out"][0, 0])


def differing(found: Array, expected: Array, score: float = 1e-4, corner: float = 1e-3) -> int:
    """How many of the expected detections have no match in `found`: same image and label, score and corners within the
    tolerance.

    Another order of summation changes the last digits of scores, and of two boxes that tie up to those, another stays.
    """
    missing = 0
    for row in expected:
        same = found[(found[:, :2] == row[:2]).all(1)]
        near = (abs(same[:, 2] - row[2]) < score) & (abs(same[:, 3:] - row[3:]) < corner).all(1)
        missing += not near.any()
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["MDSSD300", "SSD300"], help="default: MDSSD300 SSD300")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="default: 1 8")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="threads of each (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each at batch 1 (default: 10)")
    parser.add_argument("--only", default="", help="time only candidates with one of these words in their names (a,b)")
    args = parser.parse_args()
    keep_freed_memory()  # as ssd_detect does
    words = [word.lower() for word in args.only.split(",") if word]
    cases: dict[str, Any] = {}
    for network in args.networks:
        for batch in args.batches:
            for threads in args.threads:
                torch.manual_seed(0)
                torch.set_num_threads(threads)
                name = f"{network}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
                rounds = max(3, args.rounds // batch)
                with tempfile.TemporaryDirectory() as folder:
                    cases[name] = compare(network, batch, threads, rounds, words, Path(folder))
                print(f"{name}: {cases[name]['time / engine']}", flush=True)
    capability = torch.backends.cpu.get_cpu_capability()
    what = "input blob to detections, float32 unless the name says otherwise"
    write_result(f"cpu_peers_{capability.lower()}", {"what": what, "capability": capability, "cases": cases})


def compare(
    network: str, batch: int, threads: int, rounds: int, words: list[str], folder: Path
) -> dict[str, Any]:  # fmt: skip
    param = read_deploy(network, batch)
    net = make_engine(param)
    images = np.random.default_rng(0).normal(0, 50, (batch, 3, 300, 300)).astype(np.float32)
    makers: dict[str, Callable[[], Candidate]] = {
        "engine": lambda: engine(net),
        "engine, prepacked": lambda: engine(packed(net, param)),
        "engine, bf16": lambda: engine_bf16(net, None),
        "engine, bf16, prepacked": lambda: engine_bf16(net, param),
        "PyTorch by hand": lambda: pytorch(net, network),
        "PyTorch by hand, channels last": lambda: pytorch(net, network, channels_last=True),
        "OpenCV": lambda: opencv(net, network, folder, threads),
        "ONNX Runtime": lambda: onnx_runtime(net, folder, threads),
        "OpenVINO": lambda: openvino(net, batch, folder, threads),
    }
    candidates: dict[str, Candidate] = {}
    absent = []
    for name, make in makers.items():
        if name != "engine" and words and not any(word in name.lower() for word in words):
            continue
        try:
            candidates[name] = make()
        except ModuleNotFoundError as error:
            absent.append(f"{name} ({error.name} is not installed)")
        except Unsupported as error:
            absent.append(f"{name} ({error})")
    expected = candidates["engine"](images)
    differ = {name: differing(run(images), expected) for name, run in candidates.items() if "bf16" not in name}
    for name, count in differ.items():
        assert count <= len(expected) // 50, f"{name}: {count} of {len(expected)} detections differ"
    rounded = {name: differing(run(images), expected, 0.02, 0.02) for name, run in candidates.items() if "bf16" in name}
    times = time_in_turn({name: partial(run, images) for name, run in candidates.items()}, rounds)
    first = times["engine"]["median_ms"]
    peers = [t["median_ms"] for name, t in times.items() if name in ("OpenCV", "ONNX Runtime", "OpenVINO")]
    prepacked = times.get("engine, prepacked")
    return {
        "detections": len(expected),
        "detections that differ": differ,
        "detections that differ by over 0.02 at bf16": rounded,
        "time / engine": {name: round(t["median_ms"] / first, 3) for name, t in times.items()},
        "prepacked / best peer": round(prepacked["median_ms"] / min(peers), 3) if prepacked and peers else None,
        "left out": absent,
        **times,
    }


if __name__ == "__main__":
    main()
