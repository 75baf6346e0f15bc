"""Learners as configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Learner
from pydantic import Field

if TYPE_CHECKING:
    from mriad.training.algorithm import Algorithm, LearnerSetup


class Supervised(Learner):
    """One network, one loss, the stream `labelled`.

    With `ema_decay` an exponential moving average of the weights predicts instead of the weights themselves.

    Raises:
        ExperimentError: the experiment has no loss (`build`).
        DataError: a batch without targets (the step).
    """

    type: Literal["standard.supervised"] = "standard.supervised"
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of the weights' average; after n updates at most (1 + n)/(10 + n).",
    )

    def build(self, setup: LearnerSetup) -> Algorithm:
        """Return the running learner with its network on `setup.device`."""
        from mriad_standard.supervised import SupervisedAlgorithm

        return SupervisedAlgorithm(self, setup)
