# The native module. Its functions take addresses and are called by caffe/ops alone, which check everything first;
# layers/*.h say what each takes.
from typing import Any

has_cuda: bool

def __getattr__(name: str) -> Any: ...
