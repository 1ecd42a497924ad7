"""Where log lines say that they come from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import caffe
from caffe import log

PACKAGE = Path(caffe.__file__).parent


def test_a_line_of_our_own_has_the_file_and_line_of_its_call(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOG_minloglevel", raising=False)

    def through_another(where: str, message: str) -> None:
        log.warning(where, message)

    through_another(log.here(), "ours")
    log.info("solver.cpp:243", "the original's")
    err = capfd.readouterr().err
    line = next(
        i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if '(log.here(), "ours")' in text
    )
    assert re.search(rf"^W\d{{8}} [\d:.]+ +\d+ test_log\.py:{line}\] ours$", err, re.M)
    assert re.search(r"^I\d{8} [\d:.]+ +\d+ solver\.cpp:243\] the original's$", err, re.M)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_origin_in_python_is_written_by_hand(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.fullmatch(r"[a-z_]+\.py(:\d+)?", node.value), f"{path}:{node.lineno}: log.here() knows"
