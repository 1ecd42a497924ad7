"""The native functions as PyTorch operators, one module per layer. Nothing else in caffe imports `caffe._C`."""

from __future__ import annotations

import hashlib
from pathlib import Path


def _check_native_module(stub: Path) -> None:
    """Raises ImportError where `caffe._C` is missing or was built for another interface than `stub` declares."""
    root = stub.parent.parent
    remedy = "install caffe again"
    if (root / "CMakeLists.txt").is_file():
        remedy = f"build them again: in {root}, 'make setup', or 'pip install -e .' in an environment of your own"
    try:
        from caffe import _C
    except ImportError as error:
        raise ImportError(f"the native layers cannot be loaded ({error}); {remedy}") from error
    if not stub.is_file() or getattr(_C, "stub_sha256", "") == hashlib.sha256(stub.read_bytes()).hexdigest():
        return
    raise ImportError(f"the native layers in {_C.__file__} were built from other sources than {stub}; {remedy}")


_check_native_module(Path(__file__).resolve().parent.parent / "_C.pyi")
