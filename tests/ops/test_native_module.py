"""caffe/_C.pyi against the compiled module, the options by name, and what a build for another stub says."""

from __future__ import annotations

import ast
import inspect
import platform
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import caffe.ops
from caffe import _C
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2
from tests.cuda_on_cpu import build

STUB = Path(caffe.ops.__file__).parent.parent / "_C.pyi"
Members = dict[str, list[str]]


def arguments(signature: str) -> list[str]:
    """Each argument of "def f(a: int) -> int" and the result, with types."""
    (function,) = ast.parse(f"{signature}: ...").body
    assert isinstance(function, ast.FunctionDef)
    assert not function.args.posonlyargs, f"an argument without a name: {signature}"
    assert function.returns is not None
    types = [f"{a.arg}: {ast.unparse(a.annotation)}" for a in function.args.args if a.annotation]
    return [*types, ast.unparse(function.returns)]


def declared() -> Members:
    """Names in the stub with their arguments, fields with their type; those of a class with its name before them."""
    found: Members = {}

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                found[prefix + node.name] = arguments(ast.unparse(node).removesuffix(":\n    ..."))
            elif isinstance(node, ast.AnnAssign):
                found[prefix + ast.unparse(node.target)] = [ast.unparse(node.annotation)]
            elif isinstance(node, ast.ClassDef):
                add(node.body, f"{node.name}.")

    add(ast.parse(STUB.read_text()).body, "")
    return found


def compiled(module: ModuleType) -> Members:
    """The same, read off the module."""
    found: Members = {}

    def signature(function: Any) -> str:
        ((text, *_),) = function.__nb_signature__
        return str(text).replace("caffe._C.", "").replace("_C.", "").replace("collections.abc.", "")

    def add(owner: object, prefix: str) -> None:
        for name, value in vars(owner).items():
            if isinstance(value, property):  # the type that it may be given
                found[prefix + name] = re.findall(r"arg: (.*), /", signature(value.fset))
            elif hasattr(value, "__nb_signature__"):
                found[prefix + name] = arguments(signature(value))
            elif inspect.isclass(value):
                add(value, f"{name}.")
            elif not name.startswith("__"):
                found[prefix + name] = [type(value).__name__]

    add(module, "")
    return found


def test_the_stub_declares_what_this_build_has() -> None:
    wanted = declared()
    if not _C.has_cuda:
        absent = [name for name in wanted if name.endswith("_cuda") and name != "has_cuda"]
        wanted = {name: wanted[name] for name in wanted if name not in (*absent, "cuda_error_string")}
    assert compiled(_C) == wanted


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the emulated device is for Linux on x86-64"
)
def test_the_stub_declares_what_a_build_with_cuda_has() -> None:
    module = compiled(build.load())
    del module["set_seed"]
    assert module == declared()


def test_every_option_of_the_loss_has_a_field() -> None:
    native = {n for n, value in vars(_C.MultiBoxLossOptions).items() if isinstance(value, property)}
    assert native == {name for name, _ in MultiBoxLossOptions(2).values()}


def test_a_build_for_another_stub_says_how_to_build_again(tmp_path: Path) -> None:
    stub = tmp_path / "caffe" / "_C.pyi"
    stub.parent.mkdir()
    stub.write_text(STUB.read_text() + "def of_tomorrow() -> int: ...\n")
    with pytest.raises(ImportError, match=r"built from other sources than .*_C\.pyi; install caffe again"):
        caffe.ops._check_native_module(stub)
    (tmp_path / "CMakeLists.txt").touch()
    with pytest.raises(ImportError, match="'make setup', or 'pip install -e .'"):
        caffe.ops._check_native_module(stub)
    caffe.ops._check_native_module(STUB)


def test_a_build_that_is_missing_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(caffe, "_C")
    monkeypatch.setitem(sys.modules, "caffe._C", None)
    with pytest.raises(ImportError, match="cannot be loaded.*install caffe again"):
        caffe.ops._check_native_module(tmp_path / "caffe" / "_C.pyi")


# ---- From a prototxt to the options


def test_defaults_are_those_of_the_proto() -> None:
    layer = caffe_pb2.LayerParameter()
    layer.multibox_loss_param.num_classes = 21
    assert MultiBoxLossOptions.of_layer(layer) == MultiBoxLossOptions(21)


def test_every_field_of_a_prototxt_reaches_the_options() -> None:
    layer = caffe_pb2.LayerParameter(propagate_down=[False, False])
    p = layer.multibox_loss_param
    p.num_classes, p.background_label_id = 7, 5
    p.loc_loss_type, p.conf_loss_type, p.match_type = p.L2, p.LOGISTIC, p.BIPARTITE
    p.mining_type, p.code_type = p.HARD_EXAMPLE, caffe_pb2.PriorBoxParameter.CORNER_SIZE
    p.loc_weight, p.overlap_threshold, p.neg_pos_ratio, p.neg_overlap = 2.5, 0.25, 1.5, 0.75
    p.use_prior_for_matching = p.use_difficult_gt = False
    p.encode_variance_in_target = p.map_object_to_agnostic = p.ignore_cross_boundary_bbox = True
    p.bp_inside = p.use_prior_for_nms = True
    p.sample_size = 9
    p.nms_param.nms_threshold, p.nms_param.top_k = 0.5, 11
    layer.loss_param.normalization = layer.loss_param.FULL
    options = MultiBoxLossOptions.of_layer(layer)
    # Mining needs shared locations, so share_location is what stays.
    assert [one[0] for one in options.values() if one in MultiBoxLossOptions(21).values()] == ["share_location"]
    left_out = {"share_location", "do_neg_mining", "objectness_score"}  # the last is RefineDet's: layer_types/forks
    assert {f.name for f in p.DESCRIPTOR.fields} - {f.name for f, _ in p.ListFields()} == left_out
    p.Clear()
    p.num_classes, p.share_location, p.mining_type = 7, False, p.NONE
    assert not MultiBoxLossOptions.of_layer(layer).share_location


def test_text_keeps_every_value() -> None:
    options = MultiBoxLossOptions(
        3, neg_pos_ratio=float("inf"), loc_weight=0.1, overlap_threshold=1 / 3, bp_inside=True
    )
    again = MultiBoxLossOptions.of_text(options.text)
    assert again == options
    assert [type(value) for _, value in again.values()] == [type(value) for _, value in options.values()]
