"""Builds the native module with cuda/*.cu compiled for the CPU: `load()` returns it, with its *_cuda functions.

They take addresses in host memory and a stream of 0. `set_seed(n)` sets the order in which threads run (0: by index).
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import nanobind

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-mf16c", "-w"]


def _closing(text: str, opening: int) -> int:
    """The position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise ValueError("unbalanced parentheses")


def _split(arguments: str) -> list[str]:
    """The arguments, split at commas outside all brackets."""
    parts, depth = [""], 0
    for character in arguments:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def translate(source: str) -> str:
    """CUDA's launches and dynamic shared memory as plain C++."""
    source = re.sub(
        r"extern __shared__ (?:__align__\(\d+\) )?(?:unsigned )?char (\w+)\[\];", r"char* \1 = emulated::dynamic_shared();",
        source,
    )  # fmt: skip
    while match := re.search(r"([\w:]+(?:<[^<>;]*>)?)\s*<<<", source):
        middle = source.index(">>>", match.end())
        opening = source.index("(", middle)
        closing = _closing(source, opening)
        grid, block, *rest = _split(source[match.end() : middle])
        shared = rest[0] if rest else "0"
        call = f"{match[1]}{source[opening : closing + 1]}"
        launch = f"emulated::launch({grid}, {block}, {shared}, [&] {{ {call}; }})"
        source = source[: match.start()] + launch + source[closing + 1 :]
    return source


BINDING = """
#include <nanobind/nanobind.h>
#include "cuda_runtime.h"
namespace emulated {
void bind(nanobind::module_& m) { m.def("set_seed", [](uint64_t to) { seed = to; }, nanobind::arg("to")); }
}
"""


def _build(folder: Path, target: Path) -> None:
    bindings = (ROOT / "layers" / "bindings.cpp").read_text()
    # The real module's bindings, and the emulator's seed.
    bindings = bindings.replace(
        "NB_MODULE(_C, m) {",
        "namespace emulated { void bind(nb::module_&); }\nNB_MODULE(_C, m) {\n  emulated::bind(m);",
    )
    (folder / "bindings.cpp").write_text(bindings)
    (folder / "seed.cpp").write_text(BINDING)
    sources = [folder / "bindings.cpp", folder / "seed.cpp", HERE / "emulated.cpp"]
    sources += [p for p in (ROOT / "layers").glob("*.cpp") if p.name != "bindings.cpp"]
    sources.append(Path(nanobind.source_dir()) / "nb_combined.cpp")
    for cuda in (ROOT / "cuda").glob("*.cu"):
        translated = folder / f"cuda_{cuda.stem}.cpp"
        translated.write_text(f'#line 1 "{cuda}"\n' + translate(cuda.read_text()))
        sources.append(translated)
    robin_map = Path(nanobind.source_dir()).parent / "ext" / "robin_map" / "include"
    include = [
        HERE / "include",
        ROOT / "layers",
        ROOT / "cuda",
        nanobind.include_dir(),
        robin_map,
        sysconfig.get_paths()["include"],
    ]
    compiler = os.environ.get("CXX", "c++").split()

    def compile_one(source: Path) -> Path:
        result = folder / f"{source.stem}.o"
        flags = [
            *FLAGS,
            "-DCAFFE_WITH_CUDA",
            "-DNB_DOMAIN=emulated",
            '-DCAFFE_STUB_SHA256=""',
            *(f"-I{i}" for i in include),
        ]
        command = [*compiler, *flags, "-c", str(source), "-o", str(result)]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return result

    with ThreadPoolExecutor(2) as pool:
        objects = [str(o) for o in pool.map(compile_one, sources)]
    whole = target.with_suffix(f".{os.getpid()}")
    subprocess.run([*compiler, "-shared", "-pthread", "-o", str(whole), *objects], check=True)
    os.replace(whole, target)


@functools.cache
def load() -> ModuleType:
    """The module, built if its sources have changed since the last time."""
    sources = sorted([*(ROOT / "layers").iterdir(), *(ROOT / "cuda").iterdir(), *HERE.rglob("*.*")])
    text = b"".join(p.read_bytes() for p in sources if p.suffix in (".cpp", ".cu", ".h", ".cuh", ".py"))
    digest = hashlib.sha256(text + sys.version.encode() + nanobind.__version__.encode()).hexdigest()[:16]
    target = ROOT / "build" / "cuda_on_cpu" / f"_C_{digest}.so"
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes need it at once; one builds it
        if not target.exists():
            try:
                with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                    _build(Path(folder), target)
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{' '.join(error.cmd)}\n{error.stdout}") from None
    spec = importlib.util.spec_from_file_location("_C", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(load().__file__)
