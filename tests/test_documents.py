"""The documents: links lead somewhere, prose is wrapped, and the README's Python runs as pasted."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.proto.text import to_text
from tests.conftest import ROOT
from tests.narrow import CLASSES, narrow_deploy

DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {"build", "demo_run"} & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
WIDTH = 120


@cache
def lines_outside_code(path: Path) -> list[tuple[int, str]]:
    """The numbered lines of a document that are not in fenced code."""
    lines, fenced = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append((number, line))
    return lines


def anchors(path: Path) -> set[str]:
    """The fragments that a document's headings can be linked by."""
    headings = [line.lstrip("#").strip() for _, line in lines_outside_code(path) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_documents_are_found() -> None:
    assert {ROOT / "README.md", ROOT / "docs/README.md", ROOT / "demo/README.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for number, line in lines_outside_code(document):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue  # an address on the web
            file, _, fragment = target.partition("#")
            path = (document.parent / file).resolve() if file else document
            if not path.exists() or (fragment and fragment not in anchors(path)):
                broken.append(f"line {number}: {target}")
    assert not broken


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"({path.name})" not in index]
    assert missing == ["README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_wrapped(document: Path) -> None:
    too_long = [number for number, line in lines_outside_code(document) if len(line) > WIDTH and line[0] != "|"]
    assert not too_long, f"lines over {WIDTH} columns"


def test_quoted_messages_are_the_programs() -> None:
    """Each message that training_problems.md quotes is in the package's source, except for what is filled in."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "caffe").rglob("*.py")]
    texts = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    known = "\n".join(text for text in texts if isinstance(text, str))
    page = lines_outside_code(ROOT / "docs/training_problems.md")
    first_cells = [line.split("|")[1] for _, line in page if line.startswith("| ") and "---" not in line]
    quoted = [text for cell in first_cells for text in re.findall(r"`([^`=]+)`", cell) if " " in text]
    assert len(quoted) > 15
    assert [text for text in quoted if text not in known] == []


def test_python_of_the_readme_runs_as_pasted(tmp_path: Path) -> None:
    """With the files that `make demo` leaves, of an untrained net here: no error, and nothing on standard error."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert blocks
    torch.manual_seed(0)
    deploy, weights, labels = (
        tmp_path / name for name in re.findall(r'"(demo_run/[^"*]+\.(?:prototxt|caffemodel))"', readme)
    )
    for path in (deploy, weights, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    deploy.write_text(to_text(narrow_deploy()))
    save(Net(narrow_deploy(), 1), weights)
    names = ["background", *(f"thing{label}" for label in range(1, CLASSES))]
    labels.write_text("".join(f'item {{ name: "{name}" label: {i} }}\n' for i, name in enumerate(names)))
    (picture,) = (tmp_path / name for name in re.findall(r'"(demo_run/[^"*]+\.jpg)"', readme))
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    program = tmp_path / "pasted.py"
    program.write_text("\n".join(blocks))
    run = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    found = run.stdout.splitlines()
    assert found
    assert all(re.match(r"thing\d", line) for line in found), run.stdout
