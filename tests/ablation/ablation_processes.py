"""What the kill tests need of processes: who was started by whom, who still runs, and what trials left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def descendants(pid: int) -> dict[int, str]:
    """Command lines of the processes below one."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):  # one may end meanwhile
        for task in list(Path(f"/proc/{pid}/task").iterdir()):
            with contextlib.suppress(OSError):
                for child in map(int, (task / "children").read_text().split()):
                    found[child] = command_line(child)
                    found |= descendants(child)
    return found


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def living(processes: Mapping[int, str]) -> dict[int, str]:
    """Those that still run: no zombies, and no other program that was given the number."""
    found = {}
    for pid, name in processes.items():
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            now = command_line(pid)
            if state != "Z" and ("ray" in now or now == name):
                found[pid] = name
    return found


def kill(processes: Mapping[int, str]) -> None:
    """SIGKILL by number, each only if it is still what it was."""
    for pid in living(processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    """Look until `ready` gives something true, and return it."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return found


def tables(runs: Path) -> dict[str, str]:
    """The table of every trial, by the trial's id."""
    return {
        json.loads((path.parent / "run.json").read_text())["id"]: path.read_text()
        for path in runs.glob("runs/*/cases.csv")
    }


def trials(runs: Path) -> list[dict[str, Any]]:
    """The records of all trials that were ever started."""
    found = [json.loads(path.read_text()) for path in runs.glob("runs/*/run.json")]
    return [record for record in found if record["kind"] == "trial"]


def midway(runs: Path, least: int, most: int) -> bool:
    """Whether at least `least` trials have ended, at most `most`, and one more trains."""
    states = [record["status"] for record in trials(runs)]
    return least <= states.count("finished") <= most and "running" in states


def trainers(runs: Path) -> dict[int, str]:
    """Process numbers of trials in the first half of their steps, with the trial's id."""
    found: dict[int, str] = {}
    for path in runs.glob("runs/*/run.json"):
        record = json.loads(path.read_text())
        if record["kind"] != "trial" or record["status"] != "running":
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):  # it may end meanwhile
            at = json.loads((path.parent / "progress.json").read_text())
            owner = json.loads(sorted(path.parent.glob("lease-*.json"))[-1].read_text())
            if 0.05 < at["step"] / at["steps"] < 0.5:
                found[owner["pid"]] = record["id"]
    return found
