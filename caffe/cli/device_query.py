"""`caffe device_query`: the properties of this machine's GPUs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import FlagParser, run
from caffe.cli.net_flags import accept_unused, set_up_log
from caffe.errors import CaffeError

EXAMPLES = """\
examples:
  caffe device_query
  caffe device_query -gpu 0,1
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe device_query", description="Show GPU diagnostic information.", epilog=EXAMPLES)
    p.flag("gpu", default="all", help="the GPUs to show: ids separated by ',' or 'all'")
    accept_unused(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe device_query", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    set_up_log(flags)
    import torch

    from caffe.runtime import why_no_gpu

    if not torch.cuda.device_count():
        raise CaffeError(f"no GPU: {why_no_gpu()}; PyTorch {torch.__version__}")
    log.info("caffe.cpp:138", f"Querying GPUs {flags.gpu}")
    for i in devices.parse_gpus(flags.gpu):
        found = torch.cuda.get_device_properties(i)
        for line, what, value in (
            (177, "Device id", i),
            (178, "Major revision number", found.major),
            (179, "Minor revision number", found.minor),
            (180, "Name", found.name),
            (181, "Total global memory", found.total_memory),
            (182, "Total shared memory per block", found.shared_memory_per_block),
            (184, "Warp size", found.warp_size),
            (198, "Number of multiprocessors", found.multi_processor_count),
        ):
            log.info(f"common.cpp:{line}", f"{what + ':':<30} {value}")
    log.info(log.here(), f"PyTorch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
