"""Which processes belong to something that we started, so that we can see it gone and touch nothing else.

Read from /proc; on systems without it nothing is found, and nothing waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process; its start tells it from a later one with the same number."""

    pid: int
    started: str
    """Clock ticks since the system's start, as /proc has it."""

    command: str = ""

    @property
    def runs(self) -> bool:
        """Whether this very process is there and not just waiting to be collected."""
        state = _state(self.pid)
        return state is not None and state == (self.started, True)


def started_with(mark: str) -> list[Process]:
    """Our children whose command line holds `mark`, and all that descend from them.

    Other children of this process (a caller's own) are left out.
    """
    found: dict[int, Process] = {}
    todo = [pid for pid in _children(os.getpid()) if mark in _command(pid)]
    while todo:
        pid = todo.pop()
        state = _state(pid)
        if state is not None and pid not in found:
            found[pid] = Process(pid, state[0], _command(pid))
            todo += _children(pid)
    return list(found.values())


def wait_gone(processes: list[Process], patience_s: float) -> list[Process]:
    """Wait until processes have ended; kill those that then still run, and return them."""
    until = time.monotonic() + patience_s
    left = [process for process in processes if process.runs]
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = [process for process in left if process.runs]
    for process in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)
    return left


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, bool] | None:
    """(start, whether it runs), or None where there is no such process."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[19], fields[0] not in "ZX"  # proc(5): fields 22 and 3; two come before the bracket
