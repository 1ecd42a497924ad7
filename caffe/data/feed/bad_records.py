"""Training records that cannot be read and are left out, up to a number that the user allows.

A record that is left out is replaced by the next one that this rank can read. So what a run sees depends on the data
alone, not on the number of workers or on pauses.
"""

from __future__ import annotations

from caffe import log
from caffe.errors import DataError
from caffe.runtime import runtime

_left_out: dict[str, str] = {}


def allow(count: int) -> None:
    """A training begins, which may leave out `count` records; with several ranks, each of them as many."""
    runtime.skip_bad_records = count
    _left_out.clear()


def leave_out(record: str, error: str) -> None:
    """Counts a record of this process's training. Raises its error if that is one more than are allowed."""
    if record in _left_out:
        return
    allowed = runtime.skip_bad_records
    if len(_left_out) >= allowed:
        raise DataError(f"{error}. Records left out before it: {len(_left_out)} (-skip_bad_records {allowed})")
    _left_out[record] = error
    log.warning(log.here(), f"Left out, {len(_left_out)} of at most {allowed}: {error}")


def log_left_out() -> None:
    """Logs all records that were left out."""
    if _left_out:
        listed = "".join(f"\n    {error}" for error in _left_out.values())
        log.warning(log.here(), f"Records left out because they cannot be read: {len(_left_out)}{listed}")
