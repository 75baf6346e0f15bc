"""What every worker does around the function, whoever started it."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from mriad import errors
from mriad.errors import MriadError
from mriad.launch.checkpoints import FolderCheckpoints
from mriad.launch.files import atomic_write_json, make_folder, read_json
from mriad.launch.lease import beat_for, check_holds
from mriad.launch.protocol import SilentReporter, WorkerContext
from mriad.launch.relay import FileReporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mriad.training.protocols import Reporter

P = TypeVar("P")
R = TypeVar("R")

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Assignment:
    """What the driver tells each worker besides its function and payload."""

    folder: Path
    threads: int
    lease: Path
    token: str
    launcher: str


@dataclass(frozen=True)
class Outcome:
    """What comes back from a worker: a value, or an error that trying again would only repeat."""

    value: Any = None
    error: BaseException | None = None
    trace: str = ""

    def result(self) -> Any:
        """Return the value, or raise the error with the worker's traceback as its cause."""
        if self.error is None:
            return self.value
        raise self.error from WorkerTraceback(self.trace)


class WorkerTraceback(Exception):  # noqa: N818 - not an error of its own: it shows where another one came from
    """The traceback in the worker, as text."""

    def __str__(self) -> str:
        return f"in the worker:\n{self.args[0]}"


def work(
    function: Callable[[WorkerContext[P]], R],
    payload: P,
    assignment: Assignment,
    *,
    rank: int,
    world: int,
    device: str,
    reporter: Reporter | None = None,
) -> R:
    """Call `function` with its context, in the process that does the work.

    Args:
        function: what to run.
        payload: its input.
        assignment: folder, threads and lease.
        rank: 0 … world - 1.
        world: number of workers.
        device: torch.device string.
        reporter: rank 0's; None writes files for the driver (see `mriad.launch.relay`).
    """

    def guard() -> None:
        check_holds(assignment.lease, assignment.token)

    first = rank == 0
    before = torch.get_num_threads()
    torch.set_num_threads(assignment.threads)
    if first:
        _record(assignment, world, device)
    try:
        # The driver beats by itself; workers beat too, since they may outlive it.
        with beat_for(assignment.lease, assignment.token) if reporter is None else contextlib.nullcontext():
            context = WorkerContext(
                rank=rank,
                world=world,
                device=device,
                threads=torch.get_num_threads(),
                folder=assignment.folder,
                reporter=(reporter or FileReporter(assignment.folder)) if first else SilentReporter(),
                checkpoints=FolderCheckpoints(assignment.folder / CHECKPOINTS, writes=first, guard=guard),
                payload=payload,
            )
            return function(context)
    finally:
        torch.set_num_threads(before)


def final_outcome(error: Exception, world: int) -> Outcome | None:
    """Return an outcome for an error that a new try would only repeat, or None where one may help.

    Our own errors are about the input, which does not change. With one worker so is nearly everything else;
    with several, any other error may be the echo of a peer's death ("connection closed by peer").
    """
    accelerator: type[Exception] = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)
    lost_device = isinstance(error, accelerator) and not isinstance(error, torch.OutOfMemoryError)
    if isinstance(error, MriadError) or (world == 1 and not lost_device):
        return Outcome(error=error, trace="".join(traceback.format_exception(error)))
    return None


def leave_failure(assignment: Assignment, outcome: Outcome) -> None:
    """Note an error that a new try would only repeat, for workers that are started again."""
    error = outcome.error
    assert isinstance(error, MriadError)
    note = {
        "token": assignment.token,
        "kind": type(error).__name__,
        "what": error.what,
        "where": {key: str(value) for key, value in error.where.items()},
        "remedy": error.remedy,
        "trace": outcome.trace,
    }
    atomic_write_json(assignment.folder / "failed.json", note)


def left_failure(assignment: Assignment) -> Outcome | None:
    """Return the error that a worker of the same driver has noted."""
    note = read_json(assignment.folder / "failed.json")
    if note is None or note["token"] != assignment.token:
        return None
    kind = getattr(errors, note["kind"], MriadError)
    return Outcome(error=kind(note["what"], where=note["where"], remedy=note["remedy"]), trace=note["trace"])


def attempt(assignment: Assignment) -> None:
    """Count the starts under one driver, and say so when a worker had died."""
    path = assignment.folder / "attempts.json"
    note = read_json(path) or {}
    count = note.get("count", 0) + 1 if note.get("token") == assignment.token else 1
    atomic_write_json(path, {"token": assignment.token, "count": count}, durable=False)
    if count > 1:
        FileReporter(assignment.folder).message(
            f"a worker died; start {count} goes on from the last checkpoint"
        )


def _record(assignment: Assignment, world: int, device: str) -> None:
    """Write down what was really used."""
    make_folder(assignment.folder)
    atomic_write_json(
        assignment.folder / "launch.json",
        {
            "launcher": assignment.launcher,
            "workers": world,
            "threads": torch.get_num_threads(),
            "device": device,
            "torch": torch.__version__,
        },
    )
