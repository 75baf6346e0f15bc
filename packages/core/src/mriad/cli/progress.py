"""Progress with the time left: a bar on a terminal, plain lines elsewhere. For everything that takes over 5 s."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FIRST_LINE_S = 5.0
"""Nothing is said about what takes less than this, where there is no terminal."""
LONGEST_PAUSE_S = 60.0
"""Plain lines come after 5, 10, 20, … seconds, then this far apart."""


class Progress:
    """How much of a known amount of work is done. Make it with `progress`."""

    def __init__(
        self,
        total: int,
        what: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.what = what
        self.done = 0
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock
        self._start = self._last_line = clock()
        self._pause = FIRST_LINE_S
        self._first: int | None = None
        self._lines = 0
        self._note = ""
        self._bar: Any = None
        if self._stream.isatty():
            self._open_bar()

    def advance(self, n: int = 1) -> None:
        """Say that n more are done."""
        self.update(self.done + n)

    def update(self, done: int) -> None:
        """Say how many are done in all. The first number is where the work begins, when that is not 0."""
        if self._first is None:
            self._first = done if done > 1 else 0
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._clock() - self._last_line >= self._pause and done < self.total:
            self._line(f"{self._rate()} left")
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)

    def note(self, text: str) -> None:
        """Show a few words beside the numbers, such as the loss."""
        self._note = text
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def message(self, text: str) -> None:
        """Print a line of its own."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """End the display. Where lines were printed, the last one says how long it took."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._lines:
            self._line(f"took {_clock_time(self._clock() - self._start)}")

    def _open_bar(self) -> None:
        from rich import progress as rich
        from rich.console import Console

        self._bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=self._stream),
        )
        self._task = self._bar.add_task(self.what, total=self.total, note="")
        self._bar.start()

    def _line(self, end: str) -> None:
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        note = f", {self._note}" if self._note else ""
        print(f"{self.what}: {self.done}/{self.total}{share}{note}, {end}", file=self._stream, flush=True)
        self._last_line = self._clock()
        self._lines += 1

    def _rate(self) -> str:
        """The time left, at the mean rate so far."""
        done = self.done - (self._first or 0)
        if done <= 0:
            return "unknown time"
        return _clock_time((self._clock() - self._start) / done * (self.total - self.done))


@contextmanager
def progress(total: int, what: str) -> Iterator[Progress]:
    """Show progress inside a block: `with progress(len(cases), "prepare") as shown: … shown.advance()`."""
    shown = Progress(total, what)
    try:
        yield shown
    finally:
        shown.close()


class TerminalReporter:
    """A `Reporter` (see `mriad.training.protocols`) that talks to the person at the terminal."""

    def __init__(self, what: str = "train", stream: TextIO | None = None) -> None:
        self.what = what
        self._stream = stream
        self._progress: Progress | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the training loss beside the progress, and validation results on a line of their own."""
        if self._progress is not None and "train/loss" in values:
            self._progress.note(f"loss {values['train/loss']:.4g}")
        found = {k: v for k, v in values.items() if k.startswith("val/")}
        # "val/dice" is the mean over structures of "val/dice/cord", …: where it is there, it is enough for a line.
        found = {k: v for k, v in found.items() if k.count("/") == 1} or found
        if found:
            self.message(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))

    def progress(self, step: int, steps: int) -> None:
        """Move the display on; a new total begins a new one."""
        if self._progress is not None and self._progress.total != steps:
            self.close()
        if self._progress is None:
            self._progress = Progress(steps, self.what, self._stream)
        self._progress.update(step)

    def message(self, text: str) -> None:
        """One line for a person."""
        if self._progress is not None:
            self._progress.message(text)
        else:
            print(text, file=self._stream if self._stream is not None else sys.stderr, flush=True)

    def close(self) -> None:
        """End the display."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _clock_time(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
