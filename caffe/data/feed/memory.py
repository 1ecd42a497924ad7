"""How the process keeps its memory."""

from __future__ import annotations

import ctypes

#: glibc's numbers for these options, from malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Lets glibc keep freed blocks for the next allocation; elsewhere does nothing.

    By default each large block is requested from the system again, page by page: a fifth of the time of augmentation,
    half of that of MultiBoxLoss's backward, a quarter of that of SSD300's detection in batches of 8. A limit for blocks
    that come from the system cannot be over 32 MB, less than a batch of 32 images of 300 × 300, so none do. The process
    then never shrinks.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 512 << 20), (_M_TOP_PAD, 16 << 20)):
            mallopt(option, value)
