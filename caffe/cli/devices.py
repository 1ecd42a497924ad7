"""Which devices a command runs on: the -gpu flag of Caffe's tools."""

from __future__ import annotations

from caffe import log
from caffe.errors import CaffeError

GPU_HELP = "run on these GPUs: ids separated by ',' or 'all'; default: the CPU"


def parse_gpus(text: str) -> list[int]:
    """The device ids of a -gpu flag, all present on this machine; empty for an empty flag."""
    if not text:
        return []
    import torch

    from caffe.runtime import DO_WITHOUT, check_gpu, why_no_gpu

    if text == "all":
        have = torch.cuda.device_count()
        if not have:
            raise CaffeError(f"-gpu all: this machine has no GPU: {why_no_gpu()}. {DO_WITHOUT}")
        return list(range(have))
    try:
        ids = [int(part) for part in text.split(",")]
    except ValueError:
        raise CaffeError(f"-gpu '{text}': give device ids separated by ',' such as 0,1, or 'all'") from None
    for i in ids:
        check_gpu(i)
    if len(set(ids)) != len(ids):
        raise CaffeError(f"-gpu '{text}': a device is named twice")
    return ids


def use(gpu: int | None) -> None:
    """Makes this process run on a GPU, or on the CPU."""
    from caffe.runtime import runtime

    runtime.mode_gpu = gpu is not None
    if gpu is not None:
        import torch

        runtime.device_id = gpu
        torch.cuda.set_device(gpu)


def use_one(text: str) -> None:
    """Selects the device of a command that runs on one, the first of the -gpu flag, and logs it."""
    gpus = parse_gpus(text)
    if not gpus:
        log.info("caffe.cpp:279", "Use CPU.")
        use(None)
        return
    import torch

    log.info("caffe.cpp:270", f"Use GPU with device ID {gpus[0]}")
    log.info("caffe.cpp:274", f"GPU device name: {torch.cuda.get_device_name(gpus[0])}")
    use(gpus[0])


def synchronize() -> None:
    """Waits until the device has finished its work; for timing."""
    from caffe.runtime import runtime

    if runtime.mode_gpu:
        import torch

        torch.cuda.synchronize()
