"""A supervised learner that notes when its steps begin, and steps in blocks when it has the turn.

Between two processes an arbiter (bench_step.py) passes one turn: the file `go-N` in the learner's folder lets block
N begin, a line in `blocks.jsonl` says that it has ended. A block ends where the next step begins, so that all the
loop does between two steps is inside: the step, reports, progress, the next batch. The wait for the turn is not.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mriad_standard.learners import Supervised
from mriad_standard.supervised import SupervisedAlgorithm

from mriad_bench.marks import mark

if TYPE_CHECKING:
    from mriad_bench.configs import Paced

_LOOK_S = 0.01


class PacedAlgorithm(SupervisedAlgorithm):
    """See the module."""

    def __init__(self, config: Paced, setup) -> None:
        mark("learner built")
        super().__init__(Supervised(), setup)
        self._paced = config
        self._starts: list[float] = []
        self._cpu = 0.0

    def step(self, batches, run):
        if run.step < 2:
            mark(f"step {run.step} began")
        if self._paced.turns and run.step % self._paced.block == 0:
            self._turn(run.step // self._paced.block)
        self._starts.append(time.perf_counter())
        return super().step(batches, run)

    def _turn(self, block: int) -> None:
        folder = Path(self._paced.turns)
        if self._starts:
            row = {
                "block": block - 1,
                "starts": [*self._starts, time.perf_counter()],
                "cpu": time.process_time() - self._cpu,
            }
            with (folder / "blocks.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        while block < self._paced.blocks and not (folder / f"go-{block}").exists():
            time.sleep(_LOOK_S)
        self._starts, self._cpu = [], time.process_time()
