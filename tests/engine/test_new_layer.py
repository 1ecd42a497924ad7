"""A layer type that was not there before, added as docs/add_a_layer.md says: it runs in every way that a net is run.

The code of the page itself is what is added.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

import caffe
from caffe.cli import caffe as command
from caffe.engine.cuda_graph import GraphedForward, capturable_steps, compilable_steps
from caffe.engine.layer import Layer, _registry, layer_types
from caffe.engine.net import Net
from caffe.engine.prepack import prepack
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.solver.graphed_step import WARM_UPS, GraphedStep, obstacle
from caffe.solver.updates import rule_for
from tests.conftest import ROOT
from tests.layer_harness import gradients, make_layer
from tests.recording import CpuRecorder

PAGE = (ROOT / "docs" / "add_a_layer.md").read_text(encoding="utf-8")
FILE, CONVERTER = re.findall(r"```python\n(.*?)```", PAGE, re.S)

#: a squeeze-and-excitation block: channels of `conv` are scaled by what is in them, and `data` is added
BLOCK = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "squeeze" type: "Pooling" bottom: "conv" top: "squeeze" pooling_param { pool: AVE global_pooling: true } }
layer { name: "excite" type: "Convolution" bottom: "squeeze" top: "excite" convolution_param {
  num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "gate" type: "Sigmoid" bottom: "excite" top: "gate" }
layer { name: "add" type: "GatedSum" bottom: "gate" bottom: "conv" bottom: "data" top: "add" }
layer { name: "relu" type: "ReLU" bottom: "add" top: "add" }
"""
DEPLOY = (
    """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 6 dim: 5 } } }
"""
    + BLOCK
)
TRAIN = (
    """
layer { name: "data" type: "DummyData" top: "data" top: "target" dummy_data_param {
  shape { dim: 2 dim: 4 dim: 6 dim: 5 } shape { dim: 2 dim: 4 dim: 6 dim: 5 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 0.5 } } }
"""
    + BLOCK
    + 'layer { name: "loss" type: "EuclideanLoss" bottom: "add" bottom: "target" top: "loss" }'
)
SOLVER = 'base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 random_seed: 1 solver_mode: CPU snapshot_prefix: "gated_sum" '


def added(folder: Path, name: str, text: str) -> ModuleType:
    """Writes a user's file and imports it."""
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, with the file of the page; its types are forgotten afterwards."""
    known, modules = dict(_registry), set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    added(tmp_path, "gated_sum", FILE)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    _registry.clear()
    _registry.update(known)


def net_of(text: str, phase: int) -> Net:
    torch.manual_seed(0)
    return Net(text_format.Parse(text, caffe_pb2.NetParameter()), phase)


def image(seed: int = 0, *shape: int) -> dict[str, Tensor]:
    return {"data": torch.randn(shape or (1, 4, 6, 5), generator=torch.Generator().manual_seed(seed))}


def test_it_is_no_type_of_the_project_yet() -> None:
    assert "GatedSum" in layer_types()
    assert not (Path(caffe.__file__).parent / "engine" / "layer_types" / "gated_sum.py").exists(), (
        "the page needs another example now"
    )


def test_values_gradients_and_shapes_that_do_not_fit() -> None:
    shapes = [(2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)]
    rng = np.random.default_rng(0)
    a, x, y = (rng.normal(size=shape) for shape in shapes)
    layer = make_layer("GatedSum", "", shapes)
    torch.testing.assert_close(layer(*map(torch.from_numpy, (a, x, y))), torch.from_numpy(a * x + y))
    diff = rng.normal(size=shapes[1])
    found = gradients(layer, (a, x, y), diff)
    for ours, expected in zip(found, ((diff * x).sum((2, 3), keepdims=True), diff * a, diff), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    with pytest.raises(NetError, match="layer 'l' .GatedSum.: needs a: N×C×1×1.*they are 2×4×1×1"):
        make_layer("GatedSum", "", [(2, 4, 1, 1), *shapes[1:]])
    with pytest.raises(NetError, match="takes 3 bottom blob"):
        net_of(DEPLOY.replace('bottom: "gate" bottom: "conv" bottom: "data"', 'bottom: "gate" bottom: "conv"'), 1)


def test_trains_tests_and_resumes_by_the_commands(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "net.prototxt").write_text(TRAIN)
    (folder / "solver.prototxt").write_text(SOLVER + 'net: "net.prototxt" max_iter: 60 display: 20 snapshot: 30')
    assert command.main(["train", "-solver", "solver.prototxt"]) == 0
    losses = [float(loss) for loss in re.findall(r"Iteration \d+, loss = (\S+)", capfd.readouterr().err)]
    assert losses[-1] < 0.7 * losses[0]
    assert command.main(["train", "-solver", "solver.prototxt", "-snapshot", "gated_sum_iter_30.solverstate"]) == 0
    weights = ["-weights", "gated_sum_iter_60.caffemodel"]
    assert command.main(["test", "-model", "net.prototxt", *weights, "-iterations", "2"]) == 0
    assert command.main(["time", "-model", "net.prototxt", "-iterations", "1"]) == 0
    assert re.search(r"\] +add\tbackward:", capfd.readouterr().err)


def test_pycaffe_sees_it(folder: Path) -> None:
    spec = caffe.NetSpec()
    spec.data = caffe.layers.Input(input_param=dict(shape=dict(dim=[2, 3, 4, 4])))
    spec.a = caffe.layers.Pooling(spec.data, global_pooling=True)
    spec.sum = caffe.layers.GatedSum(spec.a, spec.data, spec.data)
    (folder / "spec.prototxt").write_text(f"force_backward: true\n{spec.to_proto()}")
    net = caffe.Net("spec.prototxt", caffe.TEST)
    data = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    top = net.forward(data=data)["sum"]
    np.testing.assert_allclose(top, data.max((2, 3), keepdims=True) * data + data, rtol=1e-6)
    assert [layer.type for layer in net.layers][-1] == "GatedSum"
    net.backward(sum=np.ones_like(top))
    assert np.abs(net.blobs["data"].diff).min() > 0


@torch.no_grad()
def test_test_passes_in_all_their_forms() -> None:
    net = net_of(DEPLOY, 1)
    plain = net(image())[1]["add"]
    assert net.steps[-1].layer.in_place, "the ReLU may overwrite what GatedSum made"
    assert float(plain.min()) == 0
    net.blobs["data"].set_data(image()["data"])
    net.forward_layers()
    torch.testing.assert_close(net.blobs["add"].data_tensor(), plain, rtol=0, atol=0)

    graphed = GraphedForward(net, CpuRecorder())
    assert capturable_steps(net.steps) == (len(net.steps), None)
    for seed, shape in ((0, ()), (1, ()), (2, (3, 4, 8, 7))):
        torch.testing.assert_close(
            graphed(image(seed, *shape), frozenset())[1]["add"], net(image(seed, *shape))[1]["add"]
        )

    net.inference_steps = prepack(net)
    torch.testing.assert_close(net(image())[1]["add"], plain)

    other = net_of(DEPLOY, 1)
    torch._dynamo.reset()
    other._run_head = torch.compile(other._run_first, fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(other(image())[1]["add"], plain)


def iterations(net: Net, count: int, graphed: bool) -> list[float]:
    param = text_format.Parse(SOLVER, caffe_pb2.SolverParameter())
    rule = rule_for("SGD")(param, net.learnable_params, net.params_lr, net.params_weight_decay)
    step = GraphedStep(net, rule, recorder=CpuRecorder())
    losses = []
    for i in range(count):
        batch = {**image(i, 2, 4, 6, 5), "target": torch.full((2, 4, 6, 5), 0.5)}
        if graphed:
            losses.append(step.run([batch], 0.01, i)[0])
            continue
        for parameter in net.learnable_params:
            parameter.grad = None
        loss, _ = net(batch)
        loss.backward()
        rule.apply(0.01, i)
        losses.append(float(loss.detach()))
    return losses


def test_whole_iterations_are_recorded() -> None:
    assert obstacle(text_format.Parse(SOLVER, caffe_pb2.SolverParameter()), net_of(TRAIN, 0), 1) is None
    count = WARM_UPS + 4
    found, expected = (iterations(net_of(TRAIN, 0), count, graphed) for graphed in (True, False))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_export_says_what_is_missing_and_takes_the_page_s_function(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from caffe.export import neurons, registry
    from caffe.export.onnx_model import onnx_model

    net = net_of(DEPLOY, 1)
    with pytest.raises(
        NetError, match=r"layer 'add' \(GatedSum\) cannot be exported: there is no conversion.*Convolution"
    ):
        onnx_model(net)
    monkeypatch.setattr(registry, "_converters", dict(registry._converters))
    exec(compile(CONVERTER, "add_a_layer.md", "exec"), dict(vars(neurons)))
    session = runtime.InferenceSession(onnx_model(net).SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (image(), image(1, 3, 4, 6, 5)):
        with torch.no_grad():
            expected = net(batch)[1]["add"].numpy()
        (found,) = session.run(None, {"data": batch["data"].numpy()})
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


LOOKS = """
from caffe.engine.layer import Layer, register


class Largest(Layer):
    def reshape(self, bottom):
        return [bottom[0]]

    def forward(self, *bottom):
        return bottom[0] / max(float(bottom[0].abs().max()), 1e-6)  # looks at a value


@register
class Forgetful(Largest):
    type_name = "Forgetful"


@register
class Candid(Largest):
    type_name = "Candid"

    def graph_obstacle(self):
        return "divides by a number that the host reads"
"""


@torch.no_grad()
def test_a_layer_that_no_graph_can_hold_says_why_or_is_named(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    added(folder, "looks", LOOKS)
    end = 'layer {{ name: "end" type: "{}" bottom: "add" top: "end" }}'
    candid = net_of(DEPLOY + end.format("Candid"), 1)
    graphed = GraphedForward(candid, CpuRecorder())
    assert "layer 'end' (Candid) divides by a number that the host reads" in capfd.readouterr().err
    assert compilable_steps(candid.steps) == len(candid.steps) - 1
    for seed in range(3):
        found, expected = graphed(image(seed), frozenset())[1], candid(image(seed))[1]
        torch.testing.assert_close(found["end"], expected["end"])
    forgetful = GraphedForward(net_of(DEPLOY + end.format("Forgetful"), 1), CpuRecorder())
    with pytest.raises(NetError, match=r"layer 'end' \(Forgetful\) does what a graph cannot hold: .*without -graph"):
        forgetful(image(), frozenset())


NATIVE = '''
import torch
from caffe.engine.layer import Layer, register


@torch.library.custom_op("new_layer_test::gated_sum", mutates_args=())
def gated_sum(a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Stands for a call of compiled code: it works on the memory, and autograd does not see into it."""
    return torch.from_numpy(a.detach().numpy() * x.detach().numpy() + y.detach().numpy())


@gated_sum.register_fake
def _(a, x, y):
    return torch.empty_like(x)


def _backward(ctx, diff):
    a, x = ctx.saved_tensors
    return (diff * x).sum((2, 3), keepdim=True), diff * a, diff


gated_sum.register_autograd(_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2]))


@register
class NativeGatedSum(Layer):
    type_name = "NativeGatedSum"
    bottoms = (3, 3)

    def reshape(self, bottom):
        return [bottom[1]]

    def forward(self, *bottom):
        return gated_sum(*bottom)
'''


def test_a_native_one_runs_the_same_ways(folder: Path) -> None:
    added(folder, "native_gated_sum", NATIVE)
    deploy, train = (text.replace('"GatedSum"', '"NativeGatedSum"') for text in (DEPLOY, TRAIN))
    count = WARM_UPS + 4
    expected = iterations(net_of(TRAIN, 0), count, False)
    for graphed in (False, True):
        np.testing.assert_allclose(iterations(net_of(train, 0), count, graphed), expected, rtol=1e-5)
    with torch.no_grad():
        net, plain = net_of(deploy, 1), net_of(DEPLOY, 1)(image())[1]["add"]
        assert not net.steps[-1].layer.in_place, "it does not say that its top may be overwritten"
        torch.testing.assert_close(GraphedForward(net, CpuRecorder())(image(), frozenset())[1]["add"], plain)
        torch._dynamo.reset()
        net._run_head = torch.compile(net._run_first, fullgraph=True, dynamic=False, backend="aot_eager")
        torch.testing.assert_close(net(image())[1]["add"], plain)


def test_the_page_names_every_attribute_of_the_contract() -> None:
    said = set(re.findall(r"`([a-z_]+)(?:\([a-z]*\))?`", PAGE))
    given = {
        "type_name",
        "add_blob",
        "fill",
        "fail",
        "where",
        "named_in_errors",
        "canonical_axis",
        "with_blobs",
        "extra_repr",
    }
    contract = {name for name in vars(Layer) if not name.startswith("_")} - given
    assert contract <= said, f"not on the page: {sorted(contract - said)}"
