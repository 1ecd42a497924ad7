"""Fuzzing that coverage guides: `python -m tests.fuzz.guided weights -max_total_time=600`, with the package atheris.

The readers of tests/fuzz.kinds, whose Python code is instrumented: inputs that reach new code are kept and mutated
further. Anything but an answer or a CaffeError ends the run with the input. Other arguments are libFuzzer's. It starts
after half a minute, which instrumenting the package takes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("tests.fuzz.guided: needs the package atheris: pip install atheris (Linux; tests.fuzz needs nothing)")
    with atheris.instrument_imports(include=["caffe"]):
        from caffe.errors import CaffeError
        from tests.fuzz.kinds import KINDS
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python -m tests.fuzz.guided KIND [libFuzzer's arguments]; kinds: {', '.join(KINDS)}")
    kind = KINDS[sys.argv.pop(1)]
    os.environ.setdefault("GLOG_minloglevel", "2")
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder) / "corpus", Path(folder) / f"case{kind.suffix}"
        corpus.mkdir()
        for number, sample in enumerate(kind.samples()):
            (corpus / str(number)).write_bytes(sample)

        def one(data: bytes) -> None:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            with contextlib.suppress(CaffeError):
                kind.read(path)

        atheris.Setup([*sys.argv, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
