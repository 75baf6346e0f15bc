"""What the tests run in workers: importable by name in a fresh process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from mriad.errors import DataError

if TYPE_CHECKING:
    from mriad.launch import WorkerContext


def count(context: WorkerContext[dict[str, Any]]) -> dict[str, Any]:
    """A training loop in small: resume, step, average over ranks, report, checkpoint."""
    steps, start = context.payload["steps"], 0
    value = torch.zeros(4, dtype=torch.float64)
    state = context.checkpoints.load("last")
    if state is not None:
        start, value = state["step"], state["value"]
    for step in range(start, steps):
        # Rank r holds the samples r, r + world, …: the mean over ranks is that of the joint batch.
        samples = torch.arange(4, dtype=torch.float64) + step
        mine = samples[context.rank :: context.world].mean()
        if context.world > 1:
            dist.all_reduce(mine)
            mine /= context.world
        value = 0.5 * value + mine
        context.reporter.log(step + 1, {"train/loss": float(value[0])})
        context.reporter.progress(step + 1, steps)
        context.checkpoints.save("last", {"step": step + 1, "value": value})
        if step + 1 == context.payload.get("die_at") and context.rank == context.world - 1 and start == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(context.payload.get("sleep", 0.0))
    context.reporter.message(f"counted from {start} to {steps}")
    found = {"threads": torch.get_num_threads(), "cwd": str(Path.cwd()), "world": context.world}
    return {"value": value.tolist(), "start": start, **found}


def refuse(context: WorkerContext[str]) -> None:
    """Fail on the last rank, as bad input does, while the others wait in a collective."""
    if context.rank == context.world - 1:
        raise DataError("image and label differ", where={"case": context.payload}, remedy="mriad doctor")
    dist.barrier()


def stumble(context: WorkerContext[None]) -> None:
    """Fail with an error that is not ours."""
    raise ZeroDivisionError(f"on rank {context.rank}")


def here(context: WorkerContext[None]) -> tuple[int, str, int]:
    """Say where this is run."""
    return os.getpid(), str(Path.cwd()), torch.get_num_threads()


class Log:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.values: list[tuple[int, dict[str, float]]] = []
        self.steps: list[tuple[int, int]] = []
        self.messages: list[str] = []

    def log(self, step: int, values: Any) -> None:
        self.values.append((step, dict(values)))

    def progress(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    def message(self, text: str) -> None:
        self.messages.append(text)
