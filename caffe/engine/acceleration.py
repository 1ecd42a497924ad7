"""What makes a net faster at a price or a condition: lower precision, compilation, CUDA graphs.

None of it is in a prototxt: it is chosen for the process (`runtime`), by flags of the commands.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from caffe.engine.runtime import runtime
from caffe.errors import CaffeError

#: fp32: as the original. tf32: on a GPU, convolutions and products of 19-bit inputs, sums in float32. bf16: convolutions
#: and products in bfloat16; weights, normalisation, losses and boxes stay float32.
PRECISIONS = ("fp32", "tf32", "bf16")


def use(precision: str = "fp32", compile: bool = False, graph: bool = False) -> None:
    """Chooses for all nets of the process made from now on. `graph`: CUDA graphs (caffe.engine.cuda_graph), on a GPU."""
    if precision not in PRECISIONS:
        raise CaffeError(f"unknown precision '{precision}'; known: {', '.join(PRECISIONS)}")
    runtime.precision, runtime.compile, runtime.graph = precision, compile, graph
    apply_tf32()


def apply_tf32() -> None:
    """Tells PyTorch whether float32 on a GPU may be rounded to tf32; its own default is yes for convolutions."""
    allowed = runtime.precision != "fp32"
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which a net runs at the chosen precision."""
    if runtime.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
