"""The state of an ablation while it runs: read from its trials' records, told to a terminal and to its own record."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO

from mriad.errors import MriadError
from mriad.launch.files import read_json
from mriad.tracking.record import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mriad.tracking.record import RunRecord

PERIOD_S = 2.0
PLAIN_S = 30.0
"""Seconds between lines where there is no terminal; a trial that ends is said at once."""
STATES = ("finished", "running", "failed", "waiting")


@dataclass(frozen=True)
class Watched:
    """A job as the watcher sees it."""

    name: str
    folder: Path
    id: str


@dataclass(frozen=True)
class View:
    """One look at all jobs."""

    counts: Mapping[str, int]
    running: Sequence[str]
    """Each with its steps."""
    ended: Sequence[tuple[str, str, str]]
    """Jobs that ended since the last look: name, status, figure or reason."""
    best: str
    seconds: float
    left_s: float | None

    def line(self) -> str:
        """`7 of 18 finished, 2 running, 1 failed; 3:20 left; best soft_all val/dice 0.91`."""
        total = sum(self.counts.values())
        parts = [f"{self.counts['finished']} of {total} finished"]
        parts += [f"{self.counts[s]} {s}" for s in ("running", "failed") if self.counts[s]]
        left = "" if self.left_s is None else f"; {_clock(self.left_s)} left"
        return ", ".join(parts) + left + (f"; best: {self.best}" if self.best else "")


class Watch:
    """Looks at the jobs' records on a thread of its own. Use as a context manager around the work.

    Args:
        jobs: all that were asked for, those done before included.
        record: the ablation's; counts are appended to its metrics while it runs.
        key: metric whose best mean so far is shown, such as "test/dice"; "" for none. higher: which is better.
        stream: where a person looks; default: stderr.
        counted_as: first word of the keys under which the counts are appended.
    """

    def __init__(
        self,
        jobs: Sequence[Watched],
        record: RunRecord,
        key: str = "",
        higher: bool = True,
        stream: TextIO | None = None,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
        counted_as: str = "ablation",
    ) -> None:
        self._jobs = jobs
        self._record = record
        self._key, self._higher = key, higher
        self._stream = stream if stream is not None else sys.stderr
        self._period_s = period_s
        self._clock = clock
        self._counted_as = counted_as
        self._stop = threading.Event()
        self._known: dict[str, tuple[str, float]] = {}
        self._told: set[str] = set()
        self._old: dict[str, object] = {}
        """Starts of jobs that had failed before: they count again when they are started again."""
        self._start = clock()
        self._before: int | None = None
        self._last_line = clock()
        self._logged: tuple[int, int] | None = None
        self._live: Any = None
        self._thread = threading.Thread(target=self._look_on, name="mriad-watch", daemon=True)

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._stream), refresh_per_second=2, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._live is not None:
            self._live.stop()
        self._show(self.look(), last=True)

    def look(self) -> View:
        """Read the records of all jobs that had not ended at the last look."""
        counts: Counter[str] = Counter(dict.fromkeys(STATES, 0))
        running: list[str] = []
        ended: list[tuple[str, str, str]] = []
        for job in self._jobs:
            status, value = self._known.get(job.id, ("", 0.0))
            if not status:
                known = read_json(job.folder / RUN) or {}
                status, value, told = _state(known, self._key)
                if status == "failed" and self._before is None:
                    self._old[job.id] = known.get("starts")
                if status == "failed" and self._old.get(job.id, -1) == known.get("starts"):
                    status, told = "waiting", ""
                if status in ("finished", "failed"):
                    self._known[job.id] = (status, value)
                    ended.append((job.name, status, told))
                elif status == "running":
                    running.append(f"{job.name}{_steps(job.folder)}")
            counts[status] += 1
        if self._before is None:
            self._before = counts["finished"] + counts["failed"]
            self._told |= {name for name, _, _ in ended}
            ended = []
        return View(counts, running, ended, self._best(), self._clock() - self._start, self._left(counts))

    def _left(self, counts: Mapping[str, int]) -> float | None:
        done = counts["finished"] + counts["failed"] - (self._before or 0)
        todo = counts["waiting"] + counts["running"]
        return (self._clock() - self._start) / done * todo if done > 0 else None

    def _best(self) -> str:
        values: dict[str, list[float]] = {}
        for job in self._jobs:
            status, value = self._known.get(job.id, ("", 0.0))
            if status == "finished" and value == value:  # not NaN
                values.setdefault(job.name.split(" fold ")[0], []).append(value)
        if not self._key or not values:
            return ""
        means = {name: sum(v) / len(v) for name, v in values.items()}
        name = (max if self._higher else min)(means, key=lambda n: means[n])
        return f"{name} {self._key} {means[name]:.4g} (mean of {len(values[name])})"

    def _look_on(self) -> None:
        while not self._stop.wait(self._period_s):
            with contextlib.suppress(MriadError, OSError):  # a look may be missed, the work goes on
                self._show(self.look())

    def _show(self, view: View, last: bool = False) -> None:
        for name, status, told in view.ended:
            if name not in self._told:
                self._told.add(name)
                self._print(f"{status:<9} {name}{': ' + told if told else ''}")
        done = (view.counts["finished"], view.counts["failed"])
        if done != self._logged:
            self._logged = done
            values = {f"{self._counted_as}/{state}": float(view.counts[state]) for state in STATES}
            self._record.append(sum(done), values)
        if self._live is not None and not last:
            self._live.update(_table(view))
        elif last or self._clock() - self._last_line >= PLAIN_S:
            self._print(view.line())
            self._last_line = self._clock()

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)


def _table(view: View) -> Any:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("trials", view.line())
    for name in list(view.running)[:8]:
        table.add_row("running", name)
    if len(view.running) > 8:
        table.add_row("", f"and {len(view.running) - 8} more")
    return table


def _state(known: Mapping[str, Any], key: str) -> tuple[str, float, str]:
    """Status, value of the key, and a few words about the end."""
    status = str(known.get("status", "waiting"))
    if status == "finished":
        summary = known.get("summary") or {}
        found = [v for k, v in summary.items() if k.rsplit("/", 1)[0] == key and v is not None] if key else []
        value = sum(found) / len(found) if found else float("nan")
        seconds = (known.get("ended") or 0) - (known.get("started") or 0)
        return status, value, f"{key} {value:.4g} in {_clock(seconds)}" if found else f"in {_clock(seconds)}"
    if status in ("failed", "interrupted"):
        told = str((known.get("error") or {}).get("message") or status)
        return "failed", float("nan"), (told.splitlines() or [status])[0]
    return ("running" if status == "running" else "waiting"), float("nan"), ""


def _steps(folder: Path) -> str:
    found = read_json(folder / "progress.json") or {}
    return f"  {found['step']}/{found['steps']}" if "step" in found and "steps" in found else ""


def _clock(seconds: float) -> str:
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
