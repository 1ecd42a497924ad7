"""Prototxts: their errors, fields of other forks in solvers, and how messages are printed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe.errors import ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.print import float_text
from caffe.proto.text import parse_text, read_net, read_solver, read_text, to_text
from caffe.proto.weights import write_weights


def problem_with(text: str) -> str:
    with pytest.raises(ProtoError) as error:
        parse_text(text, caffe_pb2.NetParameter(), "net.prototxt")
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layer {\n  namx: 'x'\n}", "net.prototxt:2:3: unknown field 'namx' in 'layer' (LayerParameter); did you mean"),
        ("layer { convolution_param { kernal_size: 3 } }", "did you mean 'kernel_size'?"),
        ("layer { kernel_size: 3 }", "it belongs in 'convolution_param' or 'pooling_param'\n"),
        ("layer { post_nms_topn: 3 }", "it belongs in 'proposal_param'"),
        ("layer { convolution_param { bottom: 'x' } }", "it belongs in 'layer' around it"),
        ("layer { layer { } }", "it belongs in the net itself"),
        ("layer { dropout_param { zzz: 1 } }", "known fields: dropout_ratio"),
        ("layer { include { phase: TESTT } }", "'TESTT' is not a Phase; did you mean 'TEST'? (allowed: TRAIN, TEST)"),
        ("layer { pooling_param { pool: 77 } }", "'77' is not a PoolMethod (allowed: MAX, AVE, STOCHASTIC)"),
        ("name: 'a'\nlayer {\n  name: 'b'\n", "the text ends, but 'layer {' of line 2 is never closed"),
        ("layer { name: 'b' } }", "net.prototxt:1:21: one '}' too many"),
        ("layer { name: 'b }", "ending quote"),
        ("layer { name 'b' }", 'Expected ":"'),
        ("layer { convolution_param { num_output: 1.5 } }", "Couldn't parse integer: 1.5"),
        ("input_dim: 99999999999", "Value out of range: 99999999999"),
        ("name: 'a' name: 'b'", "'name' is given twice"),
        ("force_backward: trux", 'Expected "true" or "false"'),
        ("layer { name: '\\377' }", "utf-8"),
        ("[a.b] { }", "extensions"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what_instead(text: str, says: str) -> None:
    message = problem_with(text)
    assert says in message
    assert re.match(r"net\.prototxt:\d+:\d+: ", message)


def test_the_line_is_shown_with_a_mark_under_the_place() -> None:
    _, line, mark = problem_with("name: 'x'\nlayer { namx: 'x' }\n").split("\n")
    assert line[mark.index("^") :].startswith("namx:")


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    _, line, mark = problem_with("layer { name: 'x' " + "bottom: 'b' " * 100 + "namx: 'x' }").split("\n")
    assert line[mark.index("^") :].startswith("namx:")
    assert len(line) < 130


def test_nothing_is_merged_from_a_text_with_an_error() -> None:
    net = caffe_pb2.NetParameter(name="before")
    with pytest.raises(ProtoError):
        parse_text("force_backward: true layer { namx: 'x' }", net, "net")
    assert to_text(net) == 'name: "before"\n'


@pytest.mark.parametrize("bracket", ["layer {", "layer <", "input_dim: [", "{", "layer { include {"])
def test_deep_nesting_is_an_error_not_a_crash(bracket: str) -> None:
    problem_with(bracket * 100_000)


class TestFiles:
    def refuse(self, path: Path, says: str) -> None:
        with pytest.raises(ProtoError, match=says) as error:
            read_net(path)
        assert str(path) in str(error.value)

    def test_a_missing_file_is_answered_with_its_neighbors(self, tmp_path: Path) -> None:
        (tmp_path / "train.prototxt").touch()
        self.refuse(tmp_path / "trainx.prototxt", r"no such file; did you mean '.*train\.prototxt'")

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "models" / "train.prototxt", "no directory .*models")

    def test_a_folder_is_no_prototxt(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "a directory where a prototxt should be")

    def test_weights_are_no_prototxt(self, tmp_path: Path) -> None:
        net = caffe_pb2.NetParameter(name="n")
        net.layer.add(name="ip")
        write_weights(tmp_path / "w.caffemodel", net, [[np.zeros(3, "f4")]])
        self.refuse(tmp_path / "w.caffemodel", "NetParameter.*are the prototxt and the weights exchanged")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"\xff\xd8\xff\xe0\0\0", "a JPEG image"),
            ("name: 'a'".encode("utf-16"), "UTF-16; save it as UTF-8"),
            (b"# ol\xe9\nname: 'ol\xe9' # ol\xe9\n", r":2:10: not UTF-8 text \(byte 0xe9\)"),
            (b"name: '#ol\xe9'\n", r":1:11: not UTF-8 text \(byte 0xe9\)"),
            (b"a\0\0\1\2\0", "binary data"),
            (b"\nol\xe9 " + b"x" * 200, r":2:3: not UTF-8"),
        ],
    )
    def test_what_is_no_text_is_named(self, tmp_path: Path, content: bytes, says: str) -> None:
        path = tmp_path / "net.prototxt"
        path.write_bytes(content)
        self.refuse(path, says)

    def test_comments_may_have_another_encoding(self, tmp_path: Path) -> None:
        path = tmp_path / "net.prototxt"
        path.write_bytes("# 如果图片\nname: 'a#b' # 方式\n#'则".encode("gbk"))
        assert read_net(path).name == "a#b"

    def test_an_endless_file_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "net.prototxt"
        with open(path, "wb") as file:
            file.write(b"# " + b"x" * 1000)
            file.truncate(1 << 40)
        self.refuse(path, "of more than 67,108,864 are not read")

    def test_windows_editors_files_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "net.prototxt"
        path.write_bytes(b"\xef\xbb\xbfname: 'n\xc3\xa9t'\r\nforce_backward: true\r\n")
        assert read_net(path).name == "nét"

    def test_an_empty_file_is_an_empty_net(self, tmp_path: Path) -> None:
        (tmp_path / "net.prototxt").touch()
        assert read_net(tmp_path / "net.prototxt") == caffe_pb2.NetParameter()

    def test_any_message_can_be_read(self, shared: Path) -> None:
        labels = read_text(shared / "golden/train_run/labelmap_bccd.prototxt", caffe_pb2.LabelMap())
        assert [item.label for item in labels.item] == [0, 1, 2, 3]


class TestSolversOfOtherForks:
    def read(self, tmp_path: Path, text: str) -> caffe_pb2.SolverParameter:
        (tmp_path / "solver.prototxt").write_text(text)
        return read_solver(tmp_path / "solver.prototxt")

    @pytest.mark.parametrize(
        "foreign",
        [
            "store_blobs: true",
            "foo { a: '}' b [1,2] }",
            "foo: 'a' \"b\"",
            "foo: [1, 2]",
            "foo: -1.5e3",
            "foo < a: 1 >",
            "foo: BAR",
        ],
    )
    def test_their_fields_are_dropped_with_a_warning(
        self, tmp_path: Path, foreign: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        solver = self.read(tmp_path, f"max_iter: 7\n{foreign} base_lr: 0.5\n")
        assert to_text(solver) == "base_lr: 0.5\nmax_iter: 7\n"
        assert re.search(
            r"^W.*solver\.prototxt:2: unknown field '(foo|store_blobs)' is ignored", capsys.readouterr().err
        )

    @pytest.mark.parametrize("text", ["bass_lr: 1", "max_iters: 10", "foo {", "foo", "foo:", "net_param { namx: 'a' }"])
    def test_slips_of_known_fields_and_broken_ones_are_errors(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ProtoError, match=r"solver\.prototxt:1:\d+: "):
            self.read(tmp_path, text)

    @pytest.mark.parametrize(
        ("text", "wanted", "message"),
        [
            (
                "name: 'n'\nlayer { name: 'a' }\n" * 200,
                read_solver,
                "a net's prototxt where a solver's should be: give",
            ),
            ("net: 'n' base_lr: 1 debug_info: true", read_net, "a solver's prototxt where a net's should be: give"),
            ("item { name: 'cat' label: 1 }", read_net, "a label map's prototxt where a net's should be"),
        ],
    )
    def test_a_prototxt_of_another_kind(
        self, tmp_path: Path, text: str, wanted: Any, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "given.prototxt").write_text(text)
        with pytest.raises(ProtoError, match=rf"given\.prototxt: {message}"):
            wanted(tmp_path / "given.prototxt")
        assert capsys.readouterr().err == ""

    def test_a_net_with_a_slip_is_still_a_net(self, tmp_path: Path) -> None:
        (tmp_path / "net.prototxt").write_text("layer { name: 'a' } momentum: 0.9")
        with pytest.raises(ProtoError, match="net.prototxt:1:21: unknown field 'momentum'"):
            read_net(tmp_path / "net.prototxt")

    def test_a_text_of_unknown_fields_alone_is_no_solver(self, tmp_path: Path) -> None:
        with pytest.raises(ProtoError, match="not a SolverParameter"):
            self.read(tmp_path, "qqq: 1\n" * 1000)

    def test_many_long_unknown_fields_are_not_read_a_thousand_times(self, tmp_path: Path) -> None:
        """What is read again after each is limited to 1.2 million characters."""
        began = time.process_time()
        with pytest.raises(ProtoError, match="too many unknown fields to go on; not a SolverParameter"):
            self.read(tmp_path, f'nett: "{"x" * 2000}"\n' * 3000)
        assert time.process_time() - began < 5

    def test_the_face_detectors_solver(self, shared: Path) -> None:
        solver = read_solver(shared / "data/facedetect/yufacedetectnet-open-v2.solver.prototxt")
        assert (solver.lr_policy, solver.power, solver.type) == ("poly", 2, "SGD")


class TestPrinting:
    @pytest.mark.parametrize("log", ["train_run/caffe.log", "end_to_end/caffe.log"])
    @pytest.mark.parametrize(
        ("after", "kind"),
        [
            ("Initializing net from parameters", "NetParameter"),
            ("Initializing solver from parameters", "SolverParameter"),
        ],
    )
    def test_messages_are_printed_as_in_the_originals_log(self, shared: Path, log: str, after: str, kind: str) -> None:
        _, _, rest = (shared / "golden" / log).read_text().partition(after)
        printed = re.split(r"\n[IWEF]\d{8} ", rest.partition("\n")[2])[0] + "\n"
        message = parse_text(printed, getattr(caffe_pb2, kind)(), log)
        assert to_text(message) == printed.rstrip("\n") + "\n"

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.1, "0.1"), (1e-10, "1e-10"), (0.0004, "0.0004"), (1.1920929e-07, "1.1920929e-07"), (16777216, "16777216"),
         (104, "104"), (1 / 3, "0.333333343"), (float("inf"), "inf"), (float("-inf"), "-inf"), (float("nan"), "nan")],
    )  # fmt: skip
    def test_floats_take_the_digits_they_need(self, value: float, text: str) -> None:
        assert float_text(float(np.float32(value))) == text

    def test_text_is_escaped_and_comes_back(self) -> None:
        net = caffe_pb2.NetParameter(name='a"b\\c\né\t')
        assert to_text(net) == 'name: "a\\"b\\\\c\\n\\303\\251\\t"\n'
        assert parse_text(to_text(net), caffe_pb2.NetParameter(), "x") == net

    def test_bytes_and_doubles(self) -> None:
        datum = caffe_pb2.Datum(data=b"\xff\x00'", label=-1)
        assert to_text(datum) == 'data: "\\377\\000\\\'"\nlabel: -1\n'
        assert (
            to_text(caffe_pb2.BlobProto(double_data=[0.1, 1 / 3]))
            == "double_data: 0.1\ndouble_data: 0.33333333333333331\n"
        )
