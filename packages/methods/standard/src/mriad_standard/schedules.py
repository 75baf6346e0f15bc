"""Learning rate schedules as a factor of the step, from 0; no state, so resuming needs a position only.

With `warmup` = w, the first w updates have the factors 1/w, 2/w, …, 1; the curve runs over the others.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

from mriad.interfaces import Schedule
from pydantic import Field


class _WarmUp(Schedule):
    """A curve after a linear warm-up."""

    warmup: int = Field(0, ge=0, description="Updates of linear warm-up at the start.")

    @abstractmethod
    def curve(self, t: float) -> float:
        """The factor at t in [0, 1), the share of the updates after the warm-up that are done."""

    def factor(self, step: int, steps: int) -> float:
        """The factor at `step` (from 0) of `steps` updates; beyond the last it stays at the curve's end."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.curve(min((step - self.warmup) / max(steps - self.warmup, 1), 1.0))


class Cosine(_WarmUp):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, ICLR 2017, equation 5, without restarts)."""

    type: Literal["standard.cosine"] = "standard.cosine"
    final: float = Field(0.0, ge=0, le=1, description="Factor that the curve ends at.")

    def curve(self, t: float) -> float:
        """final + (1 − final)·(1 + cos πt)/2."""
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * t))


class Polynomial(_WarmUp):
    """(1 − t)^power; nnU-Net's schedule with the default power."""

    type: Literal["standard.polynomial"] = "standard.polynomial"
    power: float = Field(0.9, gt=0, description="Exponent; 1 is linear.")

    def curve(self, t: float) -> float:
        """(1 − t)^power."""
        return float((1 - t) ** self.power)


class Constant(_WarmUp):
    """No change after the warm-up."""

    type: Literal["standard.constant"] = "standard.constant"

    def curve(self, t: float) -> float:
        """1."""
        return 1.0
