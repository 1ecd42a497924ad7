"""Work on many files, spread over processes, with a progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from caffe.errors import DataError

Result = TypeVar("Result")
#: fewer jobs than this are done in this process: starting others would take longer
_FEW = 64


def spread(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], what: str, *, here: bool = False
) -> Iterator[Result]:
    """`function(*job)` for each job, in order; `what` describes the work to the user. On all cores unless `here`."""
    workers = min(len(os.sched_getaffinity(0)), 16)
    with tqdm(total=len(jobs), desc=what, unit=" images", disable=None, leave=False) as progress:
        if here or len(jobs) < _FEW or workers == 1:
            for job in jobs:
                yield function(*job)
                progress.update()
            return
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(workers, context, _one_thread) as pool:
            try:
                for result in pool.map(function, *zip(*jobs, strict=True), chunksize=16):
                    yield result
                    progress.update()
            except BrokenProcessPool:
                raise DataError(f"a process ended while {what} images: out of memory?") from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)
