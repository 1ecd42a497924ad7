"""The tests' own child processes: default signals, a time limit, and no processes left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import python, running

SIGNALS = "import signal; print(*(signal.getsignal(s) is signal.SIG_IGN for s in (signal.SIGINT, signal.SIGHUP)))"
#: a child that starts another, which ignores all signals that it can, in its own session
FAMILY = """
import subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
grandchild.stdout.readline()
print(grandchild.pid, flush=True)
time.sleep({seconds})
"""


def test_signals_that_the_tests_ignore_are_not_ignored_by_children() -> None:
    old = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)]
    try:
        assert python("-c", SIGNALS, check=True).stdout == "False False\n"
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGHUP), old, strict=True):
            signal.signal(number, handler)


def test_nothing_is_left_of_a_child_s_family() -> None:
    for seconds in (600, 0):  # killed, and ended by itself
        with running([sys.executable, "-c", FAMILY.format(seconds=seconds)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            grandchild = Path("/proc", child.stdout.readline().strip(), "environ")
            assert grandchild.exists()
        deadline = time.monotonic() + 5
        while grandchild.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not grandchild.exists()


def test_a_child_that_hangs_is_ended() -> None:
    begun = time.monotonic()
    assert python("-c", "import time; time.sleep(600)", seconds=0.5).returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 30


def test_a_failure_shows_what_the_child_said() -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with status 1.*ZeroDivisionError"):
        python("-c", "1 / 0", check=True)
