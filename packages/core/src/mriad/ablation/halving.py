"""Asynchronous successive halving by files, so that it is the same with every launcher and goes on after a kill.

Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, in the form that stops
trainings instead of promoting them (Ray Tune's `AsyncHyperBandScheduler` with one bracket has the same rule).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mriad.errors import StoppedEarlyError
from mriad.launch.files import atomic_write_json, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FACTOR = 3
"""Of those that reach a rung, about one in so many goes on."""
RUNGS = 2


def rungs(steps: int) -> tuple[int, ...]:
    """Steps at which trainings are compared: 1/9 and 1/3 of all; at the first validation from there on."""
    return tuple(sorted({max(1, steps // FACTOR**n) for n in range(1, RUNGS + 1)} - {steps}))


def goes_on(value: float, others: Sequence[float], higher: bool) -> bool:
    """Whether a training is good enough among those that reached a rung before it; the first always is.

    Args:
        value: its own; a value that is not a number is never good enough where others have one.
        others: values of those before it.
        higher: whether more is better.
    """
    known = [other if higher else -other for other in others if not math.isnan(other)]
    if not known:
        return True
    own = value if higher else -value
    return own >= float(np.percentile(known, (1 - 1 / FACTOR) * 100))


class Halving:
    """A reporter that raises where a search gives its training up.

    What each training had at each rung lies in `folder`, one file each, and what was decided stays decided.

    Args:
        folder: of the search.
        number: of this training in the search.
        key: of the metric, such as "val/dice". higher: whether more is better.
        steps: see `rungs`. last: the training's last step, where there is nothing left to save.
        best: the best value so far, of a training that goes on after an interruption.

    Raises:
        StoppedEarlyError: from `log`.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        key: str,
        higher: bool,
        steps: Sequence[int],
        last: int,
        best: float = math.nan,
    ) -> None:
        self._folder, self._number, self._key, self._higher = folder, number, key, higher
        self._steps, self._last = sorted(steps, reverse=True), last
        self._best = best

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Compare at the highest rung that was reached, once."""
        if self._key not in values or step >= self._last:
            return
        self._best = better(self._best, values[self._key], self._higher)
        rung = next((s for s in self._steps if step >= s), None)
        if rung is None:
            return
        place = self._folder / f"rung-{rung}"
        own = place / f"{self._number}.json"
        known = read_json(own)
        if known is None:
            others = [read_json(path) for path in sorted(place.glob("[0-9]*.json"))]
            kept = goes_on(self._best, [_value(found) for found in others if found], self._higher)
            value = None if math.isnan(self._best) else self._best
            known = {"step": step, "value": value, "goes_on": kept}
            atomic_write_json(own, known)
        if not known["goes_on"]:
            raise StoppedEarlyError(
                f"given up at step {step}: {self._key} {self._best:.4g} is not in the best third so far",
                where={"rung": rung},
            )

    def progress(self, step: int, steps: int) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""


def better(old: float, new: float, higher: bool) -> float:
    """The better of two values; one that is not a number loses."""
    if math.isnan(old) or math.isnan(new):
        return new if math.isnan(old) else old
    return max(old, new) if higher else min(old, new)


def _value(found: Mapping[str, object]) -> float:
    value = found.get("value")
    return float(value) if isinstance(value, (int, float)) else math.nan
