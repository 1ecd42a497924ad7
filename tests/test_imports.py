"""The package's imports go down only, and modules do not import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import caffe

PACKAGE = Path(caffe.__file__).parent

#: from the top down; what stands in one line may import each other, short of circles
LAYERS: list[tuple[str, ...]] = [
    ("caffe.cli",),
    ("caffe.report",),
    # pycaffe's modules, which scripts import
    (
        "caffe", "caffe._caffe", "caffe.classifier", "caffe.coord_map", "caffe.detector", "caffe.dnn", "caffe.draw",
        "caffe.io", "caffe.model_libs", "caffe.net_spec", "caffe.pycaffe", "caffe.pysolver",
    ),
    ("caffe.recipe",),
    ("caffe.solver", "caffe.image_detector", "caffe.export", "caffe.interop", "caffe.dataset_check", "caffe.net_check"),
    ("caffe.engine", "caffe.default_boxes", "caffe.web_page"),
    ("caffe.ops", "caffe.detection", "caffe.data"),
    ("caffe.proto", "caffe._C"),
    ("caffe.files", "caffe.errors", "caffe.log", "caffe.runtime"),
]  # fmt: skip
HEIGHT = {unit: -level for level, units in enumerate(LAYERS) for unit in units}


def modules() -> dict[str, Path]:
    """The package's modules, by name."""
    found = {}
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("_C.pyi")]):
        parts = ("caffe", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def unit(module: str) -> str:
    """The line of LAYERS that a module belongs to: its folder in the package, or itself."""
    return ".".join(module.split(".")[:2])


def imports(module: str, *, at_once: bool = False) -> Iterator[tuple[str, int]]:
    """What a module imports of the package, and the line. `at_once`: only what runs when the module is imported."""

    def walk(nodes: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in nodes:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if at_once and (later or typing):
                continue
            yield node
            for name in ("body", "orelse", "finalbody"):
                yield from walk(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from walk(handler.body)

    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in walk(tree.body):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[0] == "caffe")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            if node.module and node.module.split(".")[0] == "caffe":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield (inner if inner in MODULES else node.module), node.lineno


def test_every_module_has_its_place() -> None:
    assert {unit(module) for module in MODULES} == set(HEIGHT), "LAYERS names every folder and module, and no other"
    for folder in {path.parent for path in MODULES.values()}:
        assert (folder / "__init__.py").exists(), f"{folder} would be left out of what is installed"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module: str) -> None:
    for imported, line in imports(module):
        mine, other = unit(module), unit(imported)
        up = mine != other and HEIGHT[other] > HEIGHT[mine]
        assert not up, f"{MODULES[module]}:{line}: {mine} imports {imported}, which stands above it"


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A circle of a graph; None where there is none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return None
        for other in sorted(edges.get(node, ())):
            found = visit(other, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    for node in sorted(edges):
        found = visit(node, [])
        if found:
            return found
    return None


def test_no_circle_of_modules() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
    edges = {
        module: {imported for imported, _ in imports(module, at_once=True)} - {module, "caffe"} for module in MODULES
    }
    assert circle(edges) is None


def test_no_circle_of_folders() -> None:
    """Two that stand side by side import each other in one direction at most, later imports included."""
    edges: dict[str, set[str]] = {name: set() for name in HEIGHT}
    for module in MODULES:
        edges[unit(module)] |= {unit(imported) for imported, _ in imports(module)} - {unit(module), "caffe"}
    assert circle(edges) is None


def test_only_ops_knows_the_native_layers() -> None:
    assert {unit(m) for m in MODULES for imported, _ in imports(m) if imported == "caffe._C"} == {"caffe.ops"}
