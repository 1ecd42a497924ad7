"""Convolutions of the same blob as one: which they are, and that every blob stays what it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe.engine import acceleration, prepack
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.flat_concat import FlatConcat
from caffe.engine.fused import ConvolutionReLU, fuse
from caffe.engine.merged import MergedConvolution, merge
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.engine.wiring import Step
from caffe.image_detector import ImageDetector
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd321 import SSD321
from tests.engine.test_fused import in_two_steps
from tests.narrow import narrow_deploy
from tests.recording import CpuRecorder

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 13 dim: 11 } } }'
#: rounding errors of float32 sums in another order, relative to a blob's largest number
ROUNDING = 2e-6


def convolution(
    name: str, outputs: int = 10, text: str = "kernel_size: 3", bottom: str = "data", more: str = ""
) -> str:
    return f"""layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {more} convolution_param {{
        num_output: {outputs} weight_filler {{ type: "xavier" }} bias_filler {{ type: "uniform" }} {text} }} }}"""


def layer(kind: str, bottom: str, top: str | None = None, text: str = "") -> str:
    return f'layer {{ name: "{top or bottom} {kind}" type: "{kind}" bottom: "{bottom}" top: "{top or bottom}" {text} }}'


def split(bottom: str, *tops: str) -> str:
    """A Split layer that the net's author wrote."""
    return (
        f'layer {{ name: "split {bottom}" type: "Split" bottom: "{bottom}" {" ".join(f"top: {t!r}" for t in tops)} }}'
    )


def net_of(*layers: str, more: str = "") -> Net:
    return Net(text_format.Parse("\n".join([more, INPUT, *layers]), caffe_pb2.NetParameter()), 1)


def names(steps: list[Step]) -> list[str]:
    """The merged convolutions."""
    return [step.layer.name for step in steps if isinstance(step.layer, MergedConvolution)]


def images(net: Net, count: int | None = None) -> dict[str, Tensor]:
    count, *sizes = (count or net.blobs["data"].shape[0], *net.blobs["data"].shape[1:])
    return {"data": torch.randn(count, *sizes, generator=torch.Generator().manual_seed(count))}


def blobs(net: Net, steps: list[Step], batch: dict[str, Tensor], *wanted: str) -> dict[str, Tensor]:
    """What a pass by these steps leaves in every blob of the net, or in those that are wanted."""
    net.inference_steps = steps
    keep = frozenset(wanted or net.blobs)
    assert net.makes(keep), "the pass would be one of other steps"
    with torch.no_grad():
        return {name: value.clone() for name, value in net(batch, keep)[1].items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], error: float = ROUNDING) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(found[name], value, rtol=0, atol=error * scale, msg=partial("{}: {}".format, name))


def detector(network: Network) -> Net:
    """A narrow one whose normalization leaves numbers as they are."""
    net = Net(narrow_deploy(network), 1)
    for step in net.steps:
        if step.layer.type_name == "BatchNorm":
            for blob, value in zip(step.layer.blobs, (0, 1, 1), strict=True):
                blob.data.fill_(value)
    return net


RELUS = layer("ReLU", "a"), layer("ReLU", "b")
SAME = "kernel_size: 3 pad: 1"


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ((convolution("a"), convolution("b", 3)), ["a + b"]),
        ((convolution("a"), convolution("b"), convolution("c", 1)), ["a + b + c"]),
        ((convolution("a", text="kernel_size: 3 bias_term: false"), convolution("b")), []),
        (
            [convolution(name, text="kernel_size: 3 bias_term: false") for name in "ab"],
            ["a + b"],
        ),
        ((convolution("a"), convolution("b", text="kernel_size: 1")), []),
        ((convolution("a"), convolution("b", text="kernel_h: 3 kernel_w: 1")), []),
        ((convolution("a"), convolution("b", text="kernel_size: 3 pad: 1")), []),
        ((convolution("a"), convolution("b", text="kernel_size: 3 stride: 2")), []),
        ((convolution("a"), convolution("b", text="kernel_size: 3 dilation: 2")), []),
        ([convolution(name, text="kernel_size: 3 group: 2") for name in "ab"], []),
        ([convolution(name, text="kernel_size: 3 axis: 2") for name in "ab"], []),
        ((convolution("a"), RELUS[0], convolution("b"), RELUS[1]), ["a + b"]),
        ((convolution("a"), RELUS[0], convolution("b")), []),
        ((convolution("a"), RELUS[0], convolution("b"), convolution("c"), convolution("d"), layer("ReLU", "d")),
         ["a + d", "b + c"]),
        ((convolution("a"), convolution("b", bottom="a"), convolution("c", bottom="a")), ["b + c"]),
        ((convolution("a"), layer("Power", "data", "other"), convolution("b", bottom="other")), []),
        ((convolution("a"), convolution("b", more="loss_weight: 1")), []),
        ((convolution("a"), layer("Deconvolution", "data", "b", "convolution_param { num_output: 2 kernel_size: 3 }")), []),
        # a layer in place changes one reader's blob, not the other's
        ((split("data", "x", "y", "z"), convolution("a", bottom="x"), layer("ReLU", "y"), convolution("b", bottom="y"),
          convolution("c", bottom="z")), ["a + c"]),
        # where the first would be computed, there is no bottom of the second yet
        ((split("data", "x", "y"), convolution("a", bottom="x"), split("y", "z"), convolution("b", bottom="z")), []),
        ((split("data", "x", "y"), split("y", "z"), convolution("a", bottom="x"), convolution("b", bottom="z")), ["a + b"]),
    ],
)  # fmt: skip
def test_what_is_merged(layers: tuple[str, ...], merged: list[str]) -> None:
    net = net_of(*layers)
    steps = merge(net.steps)
    assert names(steps) == merged
    if not merged:
        assert steps == net.steps
    assert_same(blobs(net, steps, images(net)), blobs(net, net.steps, images(net)))


def test_names_that_are_taken() -> None:
    """Also with tops that have their bottom's name."""
    a, b = convolution("a", 6, SAME, "x"), convolution("b", 6, SAME, "y").replace('top: "b"', 'top: "y"')
    net = net_of(layer("Power", "data", "a + y"), split("data", "x", "y"), a, b)
    steps = merge(net.steps)
    assert names(steps) == ["a + b"]
    assert_same(blobs(net, steps, images(net)), blobs(net, net.steps, images(net)))


INCEPTION = [
    *[text for name, outputs in (("one", 8), ("reduce3", 4), ("reduce5", 2))
      for text in (convolution(name, outputs, "kernel_size: 1"), layer("ReLU", name))],
    convolution("three", 6, "kernel_size: 3 pad: 1", "reduce3"), layer("ReLU", "three"),
    convolution("five", 4, "kernel_size: 5 pad: 2", "reduce5"), layer("ReLU", "five"),
    'layer { name: "all" type: "Concat" bottom: "one" bottom: "three" bottom: "five" top: "all" }',
]  # fmt: skip
RESIDUAL = [
    convolution("branch1", 12, "kernel_size: 1 stride: 2 bias_term: false"),
    layer("BatchNorm", "branch1"), layer("Scale", "branch1"),
    convolution("branch2a", 4, "kernel_size: 1 stride: 2 bias_term: false"),
    layer("BatchNorm", "branch2a"), layer("Scale", "branch2a"), layer("ReLU", "branch2a"),
    convolution("branch2b", 12, "kernel_size: 3 pad: 1", "branch2a"),
    'layer { name: "sum" type: "Eltwise" bottom: "branch1" bottom: "branch2b" top: "sum" }', layer("ReLU", "sum"),
]  # fmt: skip
#: Faster R-CNN's two, which are read in other orders of axes
PROPOSALS = [
    convolution("shared", 8, "kernel_size: 3 pad: 1"), layer("ReLU", "shared"),
    convolution("scores", 6, "kernel_size: 1", "shared"), convolution("boxes", 12, "kernel_size: 1", "shared"),
    layer("Reshape", "scores", "pairs", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }"),
    layer("Softmax", "pairs", "probabilities"),
    layer("Permute", "boxes", "rows", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    layer("Flatten", "rows", "row"),
]  # fmt: skip
#: layers that overwrite one of two blobs in the same memory
IN_PLACE = [
    convolution("a"), convolution("b"), layer("ReLU", "a", text="relu_param { negative_slope: 0.5 }"),
    layer("ELU", "b"), layer("Dropout", "b"), layer("TanH", "a"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "count"), [(INCEPTION, 1), (RESIDUAL, 1), (PROPOSALS, 1), (IN_PLACE, 1)],
    ids=["inception", "residual", "proposals", "in place"],
)  # fmt: skip
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("multiple", [1, 8])
def test_small_nets(layers: list[str], count: int, form: torch.memory_format, multiple: int) -> None:
    net = net_of(*layers)
    steps = merge(net.steps, multiple=multiple)
    assert len(names(steps)) == count
    for images_in_batch in (1, 3):
        batch = {"data": images(net, images_in_batch)["data"].contiguous(memory_format=form)}
        assert_same(blobs(net, steps, batch), blobs(net, net.steps, batch))


@pytest.mark.parametrize(
    ("network", "count"), [(MDSSD300, 7), (SSD300, 6), (SSD321, 20)], ids=["MDSSD300", "SSD300", "SSD321"],
)  # fmt: skip
@pytest.mark.parametrize("multiple", [1, 8])
def test_whole_detectors(network: Network, count: int, multiple: int) -> None:
    net = detector(network)
    steps = merge(net.steps, multiple=multiple)
    for step in steps:
        if isinstance(step.layer, MergedConvolution):
            assert all(len(blob) % multiple == 0 for blob in step.layer.blobs)
    merged = names(steps)
    assert len(merged) == count
    assert sum("_mbox_loc" in name and "_mbox_conf" in name for name in merged) == (6 if network != MDSSD300 else 7)
    expected, found = (blobs(net, each, images(net)) for each in (net.steps, steps))
    # of boxes whose scores are equal but for the last digits, another may be kept
    rows, expected_rows = (each.pop("detection_out")[0, 0] for each in (found, expected))
    assert_same(found, expected, 1e-5)
    assert len(rows) == len(expected_rows)
    torch.testing.assert_close(rows[:, 2].sort()[0], expected_rows[:, 2].sort()[0], rtol=1e-4, atol=1e-6)
    same = (rows[:, None] - expected_rows[None]).abs().amax(2).amin(1) < 1e-4
    assert int(same.sum()) >= 0.98 * len(rows)


@pytest.mark.parametrize(("multiple", "filters"), [(1, 18), (4, 20)])
def test_weights_are_in_memory_once_and_the_net_s_own(multiple: int, filters: int) -> None:
    net = net_of(*PROPOSALS)
    before = [parameter.clone() for parameter in net.parameters()]
    expected = blobs(net, net.steps, images(net))
    steps = merge(net.steps, share=True, multiple=multiple)
    (merged,) = (step.layer for step in steps if isinstance(step.layer, MergedConvolution))
    originals = [step.layer for step in net.steps if step.layer.name in ("scores", "boxes")]
    for index in range(2):
        joined = merged.blobs[index]
        assert joined.untyped_storage().nbytes() == 4 * filters * originals[0].blobs[index][0].numel()
        assert not joined[18:].any()
        for one in originals:
            assert one.blobs[index].untyped_storage().data_ptr() == joined.untyped_storage().data_ptr()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert_same(blobs(net, steps, images(net)), expected)
    assert [p.requires_grad for p in net.parameters()] == [True] * len(before)
    net.inference_steps = net.steps
    assert all(torch.equal(v, expected[k]) for k, v in blobs(net, net.steps, images(net)).items())


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_weights_keep_their_memory_format(share: bool, form: torch.memory_format) -> None:
    """Otherwise cuDNN would have them converted in every pass."""
    net = net_of(convolution("a", 5), convolution("b", 6))
    net.to(memory_format=form)  # type: ignore[call-overload]  # absent from its overloads
    (merged,) = (step.layer for step in merge(net.steps, share=share, multiple=8) if step.layer.blobs)
    assert merged.blobs[0].shape == (16, 6, 3, 3)
    for weight in [merged.blobs[0], *(step.layer.blobs[0] for step in net.steps if step.layer.blobs)]:
        assert weight.is_contiguous(memory_format=form)
        assert not weight.is_contiguous() or form == torch.contiguous_format


def test_shared_weights_stay_shared() -> None:
    """Under one name, in the same shape or with as many values (PERMISSIVE)."""
    named = 'param { name: "w" share_mode: PERMISSIVE } param { name: "b" }'
    text = "kernel_size: 1"
    net = net_of(
        convolution("a", 6, text, more=named), convolution("b", 6, text), convolution("c", 6, text, more=named),
        layer("Reshape", "data", "flat", "reshape_param { shape { dim: 0 dim: 3 dim: 26 dim: 11 } }"),
        convolution("d", 12, text, "flat", more='param { name: "w" share_mode: PERMISSIVE }'),
    )  # fmt: skip
    expected = blobs(net, net.steps, images(net))
    net.inference_steps = prepack._for_gpu(net, merging=True)
    assert names(net.inference_steps) == ["a + b + c"]
    assert_same(blobs(net, net.inference_steps, images(net)), expected)
    by_name = {step.layer.name: step.layer for step in net.steps}
    assert by_name["a"].blobs[0] is by_name["c"].blobs[0]
    with torch.no_grad():
        by_name["a"].blobs[0].fill_(3)
    assert bool((by_name["d"].blobs[0] == 3).all()), "the net's layers read the same weights as before"


def test_with_a_relu_in_the_same_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", in_two_steps)
    net = net_of(*INCEPTION)
    steps = fuse(merge(net.steps))
    assert [step.layer.name for step in steps if isinstance(step.layer, ConvolutionReLU)] == [
        "one + reduce3 + reduce5", "three", "five"
    ]  # fmt: skip
    assert_same(blobs(net, steps, images(net)), blobs(net, net.steps, images(net)))


@pytest.mark.parametrize("precision", acceleration.PRECISIONS)
def test_as_on_a_gpu_at_every_precision(precision: str) -> None:
    acceleration.use(precision)
    net = net_of(*PROPOSALS, *IN_PLACE)
    batch = images(net)
    separate = prepack._for_gpu(net, merging=False)
    expected = blobs(net, separate, batch)
    steps = prepack._for_gpu(net, merging=True)
    assert sorted(names(steps)) == ["a + b", "scores + boxes"]
    found = blobs(net, steps, batch)
    assert_same(found, expected, {"fp32": ROUNDING, "tf32": ROUNDING, "bf16": 1e-2}[precision])
    assert found["scores"].dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    held = {step.layer.blobs[0].dtype for step in steps if isinstance(step.layer, MergedConvolution)}
    assert held == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters()), "the net keeps its own weights"


@torch.no_grad()
def test_recorded_and_compiled() -> None:
    net = net_of(*PROPOSALS, *IN_PLACE)
    steps = merge(net.steps, share=True)
    expected = {count: blobs(net, net.steps, images(net, count)) for count in (1, 2)}
    net.inference_steps = steps
    graphed = GraphedForward(net, CpuRecorder())
    kept = frozenset({"scores", "boxes", "a"})
    for count in (1, 2, 1):
        found = graphed(images(net, count), kept)[1]
        assert_same(found, {name: expected[count][name] for name in found})
        assert kept < found.keys()
    torch._dynamo.reset()
    net._run_head = torch.compile(net._run_first, fullgraph=True, dynamic=False, backend="aot_eager")
    found = net(images(net), kept)[1]
    assert_same(found, {name: expected[2][name] for name in found})


def test_layer_by_layer_and_with_gradients_nothing_is_merged() -> None:
    """pycaffe's partial passes run each layer by itself, and every blob can be read in between."""
    net = net_of(*PROPOSALS, *IN_PLACE, more="force_backward: true")
    expected = blobs(net, net.steps, images(net))
    net.inference_steps = merge(net.steps, share=True)
    net.blobs["data"].set_data(images(net)["data"])
    last = net.layer_names.index("scores")
    net.forward_layers(end=last)
    assert torch.equal(net.blobs["scores"].data_tensor(), expected["scores"])
    net.forward_layers(start=last + 1)
    for name in ("boxes", "probabilities", "row", "a", "b"):
        assert torch.equal(net.blobs[name].data_tensor(), expected[name]), name
    loss = net(images(net), ["boxes"])[1]["boxes"].sum()
    loss.backward()
    by_name = {step.layer.name: step.layer for step in net.steps}
    gradients = [by_name[name].blobs[0].grad for name in ("boxes", "scores")]
    assert [grad is not None and bool(grad.any()) for grad in gradients] == [True, False]


def test_not_on_the_cpu() -> None:
    net = Net(narrow_deploy(), 1)
    assert not names(prepack.prepack(net))


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
@pytest.mark.parametrize("network", [MDSSD300, SSD300, SSD321], ids=["MDSSD300", "SSD300", "SSD321"])
@pytest.mark.parametrize("precision", acceleration.PRECISIONS)
@torch.no_grad()
def test_predictions_on_a_gpu(precision: str, network: Network) -> None:
    acceleration.use(precision)
    net = detector(network)
    separate, together = (prepack.prepack(net, merging=merging) for merging in (False, True))
    predictions = ("mbox_loc", "mbox_conf")
    assert len(names(together)) >= 6
    assert sum(isinstance(step.layer, FlatConcat) for step in together) == len(predictions)
    for count in (1, 3):
        batch = {name: value.cuda() for name, value in images(net, count).items()}
        expected, found = (blobs(net, steps, batch, *predictions) for steps in (separate, together))
        for name in predictions:
            error = float((found[name] - expected[name]).float().norm() / expected[name].float().norm())
            assert error < {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}[precision], (name, count)


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True], ids=["steps", "graph"])
def test_detections_on_a_gpu(tmp_path: Path, graph: bool) -> None:
    """Boxes in pixels and scores, merged and separate, from the same image at float32."""
    param = narrow_deploy()
    (tmp_path / "deploy.prototxt").write_text(to_text(param))
    save(Net(param, 1), tmp_path / "net.caffemodel")
    image = torch.randint(0, 256, (240, 320, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    rows = []
    for merging in (False, True):
        detector = ImageDetector(tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel", device="cuda", graph=graph)
        if not merging:
            detector.net.inference_steps = prepack.prepack(detector.net, merging=False)
            detector._graphed = GraphedForward(detector.net) if graph else None
        assert bool(names(detector.net.inference_steps)) == merging
        rows.append(torch.from_numpy(detector.detect_arrays([image])[0]))
    assert len(rows[0]) == 200
    torch.testing.assert_close(rows[1][:, 1], rows[0][:, 1], rtol=1e-4, atol=1e-5)  # scores, in their order
    same = (rows[1][:, None, :] - rows[0][None, :, :]).abs().amax(2).amin(1) < 0.02  # pixels
    assert int(same.sum()) >= 196, "of equal scores another box may be kept"
