"""The supervised learner's step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from mriad.errors import DataError, ExperimentError
from mriad.training.algorithm import Algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.batch import Batch
    from mriad.training.algorithm import LearnerSetup
    from mriad.training.run import Run
    from torch import Tensor, nn

    from mriad_standard.learners import Supervised


class SupervisedAlgorithm(Algorithm):
    """Minimises the loss on labelled batches."""

    def __init__(self, config: Supervised, setup: LearnerSetup) -> None:
        if setup.loss is None:
            raise ExperimentError(
                "learner 'standard.supervised' needs a loss",
                remedy="add a section such as  loss: {type: standard.dice_ce}",
            )
        self.loss = setup.loss.build(setup.task)
        self.network = setup.network("network")
        self.optimised = setup.optimised(self.network.parameters())
        if config.ema_decay is not None:
            decay = config.ema_decay
            self.average = copy.deepcopy(self.network).requires_grad_(False)
            # A constant decay would keep the initial weights for about 1/(1 − decay) updates.
            self.optimised.track(
                self.average, self.network, lambda done: min(decay, (1 + done) / (10 + done))
            )

    def step(self, batches: Mapping[str, Batch], run: Run) -> Mapping[str, Tensor | float]:
        """Forward, loss, update."""
        batch = batches["labelled"]
        if batch.target is None:
            raise DataError(
                "a labelled batch has no target",
                where={"cases": ", ".join(batch.cases)},
                remedy="set `labelled: true` in the stream, or check data.labels",
            )
        with run.autocast():
            output = self.network(batch.image)
        loss = self.loss(output, batch.target, weight=batch.validity)
        run.update(self.optimised, loss)
        return {"loss": loss.detach()}

    def predicts(self) -> nn.Module:
        """The average if there is one, else the network."""
        return getattr(self, "average", self.network)
