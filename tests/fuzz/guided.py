"""Fuzzing that coverage guides: `python -m tests.fuzz.guided weights -max_total_time=600`, with the package atheris.

The readers of tests/fuzz.kinds, whose Python code is instrumented: inputs that reach new code are kept and mutated
further. Anything but an answer or a CaffeError ends the run with the input. Other arguments are libFuzzer's.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
from pathlib import Path
from types import FunctionType
from typing import Any


def _instrument(atheris: Any) -> int:
    """Instruments all functions and methods of the package that are loaded, in place; returns their number.

    Not by atheris's hook for imports: an editable installation loads modules in a way that the hook does not see.
    """
    functions = {
        found
        for found in gc.get_objects()
        if isinstance(found, FunctionType) and (found.__module__ or "").partition(".")[0] == "caffe"
    }
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("tests.fuzz.guided: needs the package atheris: pip install atheris (Linux; tests.fuzz needs nothing)")
    from caffe.errors import CaffeError
    from tests.fuzz.kinds import KINDS

    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python -m tests.fuzz.guided KIND [libFuzzer's arguments]; kinds: {', '.join(KINDS)}")
    kind = KINDS[sys.argv.pop(1)]
    os.environ.setdefault("GLOG_minloglevel", "2")
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder) / "corpus", Path(folder) / f"case{kind.suffix}"
        corpus.mkdir()
        samples = list(kind.samples())
        for number, sample in enumerate(samples):
            (corpus / str(number)).write_bytes(sample)

        def one(data: bytes) -> None:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            with contextlib.suppress(CaffeError):
                kind.read(path)

        for sample in samples:  # also loads the modules that the reader needs
            one(sample)
        print(f"{_instrument(atheris)} functions instrumented", file=sys.stderr)
        atheris.Setup([*sys.argv, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
