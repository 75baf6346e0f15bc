"""What a learner builds, and what it is built from."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mriad.batch import sample_key
from mriad.errors import CheckpointError
from mriad.training.compiling import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from mriad.batch import Batch
    from mriad.interfaces import Loss, Model, Optimiser, Schedule
    from mriad.training.run import Run
    from mriad.vocabulary import Task


@contextlib.contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Seed torch's global CPU generator inside a block and give it back as it was; for initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sample_key(seed, name, 0, "weights"))
        yield


class Optimised:
    """An optimiser with its schedule, the parameters it may touch, and its own counter of updates."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule | None,
        updates: int,
        accumulate: int = 1,
        clip_norm: float | None = None,
    ) -> None:
        self.optimiser = optimiser
        self.schedule = schedule
        self.updates = updates
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.done = 0
        """Optimiser steps taken."""
        self.pending = 0
        """Losses accumulated since the last step."""
        self._base_rates = [float(group["lr"]) for group in optimiser.param_groups]
        self._copies: list[tuple[nn.Module, nn.Module, Any]] = []

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every parameter of the optimiser, in order."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def track(self, copy: nn.Module, source: nn.Module, decay: Any) -> None:
        """Keep `copy` an exponential moving average of `source`: copy ← decay·copy + (1 − decay)·source.

        `decay` is a number or a function of the number of updates done (from 1). Buffers are copied.
        """
        self._copies.append((copy, source, decay))

    def set_rate(self) -> None:
        """Set the learning rates for the next update."""
        factor = self.schedule.factor(self.done, self.updates) if self.schedule else 1.0
        for group, base in zip(self.optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor

    @torch.no_grad()
    def average(self) -> None:
        """Update the tracked copies after an optimiser step."""
        for copy, source, decay in self._copies:
            a = float(decay(self.done)) if callable(decay) else float(decay)
            for mean, new in zip(copy.parameters(), source.parameters(), strict=True):
                mean.lerp_(new, 1.0 - a)
            for mean_buffer, buffer in zip(copy.buffers(), source.buffers(), strict=True):
                mean_buffer.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, accumulated gradients included."""
        gradients = [p.grad for p in self.parameters] if self.pending else []
        return {
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "pending": self.pending,
            "gradients": gradients,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.pending = int(state["done"]), int(state["pending"])
        for parameter, gradient in zip(self.parameters, state["gradients"], strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)


@dataclass
class LearnerSetup:
    """What the loop gives a learner to build itself from."""

    task: Task
    model: Model | None
    loss: Loss | None
    optimiser: Optimiser
    schedule: Schedule | None
    device: torch.device
    seed: int
    updates: int
    """Optimiser steps of the whole run (micro steps / accumulate)."""
    accumulate: int = 1
    clip_norm: float | None = None
    compile: bool = False

    def network(self, name: str, model: Model | None = None) -> nn.Module:
        """Build a network with initial weights that depend on (seed, name) only, on the device.

        Raises:
            ValueError: the experiment has no model and none is given.
            ExperimentError: it is to be compiled, and there is no C++ compiler.
        """
        chosen = model or self.model
        if chosen is None:
            raise ValueError(f"network '{name}' needs a model: add a `model:` section to the experiment")
        with seeded(self.seed, name):
            network = chosen.build(self.task).to(self.device)
        return compiled(network, self.task.dimensions) if self.compile else network

    def optimised(self, parameters: Iterable[nn.Parameter], optimiser: Optimiser | None = None) -> Optimised:
        """Build an optimiser with the experiment's schedule, accumulation and clipping."""
        built = (optimiser or self.optimiser).build(list(parameters))
        return Optimised(built, self.schedule, self.updates, self.accumulate, self.clip_norm)


class Algorithm(ABC):
    """A running learner: networks, optimisers, one step.

    Networks and optimisers are found by attribute: assign `nn.Module`s and `Optimised`s to `self`, as in PyTorch.
    """

    def networks(self) -> dict[str, nn.Module]:
        """Networks by attribute name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.nn.Module)}

    def optimisers(self) -> dict[str, Optimised]:
        """Optimisers by attribute name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, Optimised)}

    @abstractmethod
    def step(self, batches: Mapping[str, Batch], run: Run) -> Mapping[str, Tensor | float]:
        """Do one step: forward, losses, `run.update(...)`. Return what to log; tensors are not synchronised here.

        `batches` has one entry a stream, or "stream.view" where a stream has views.
        """

    @abstractmethod
    def predicts(self) -> nn.Module:
        """The network that predicts after training (the teacher, one of two, …)."""

    def predicting(self) -> dict[str, nn.Module]:
        """Networks whose probabilities the predictor averages, by name; one unless overridden (CPS: both)."""
        return {"network": self.predicts()}

    def extra_state(self) -> dict[str, Any]:
        """State besides networks and optimisers: image pools, ramps. Tensors, numbers, strings, containers."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore `extra_state`. Override both or neither."""
        if state:
            raise CheckpointError(f"{type(self).__name__} keeps extra state but does not restore it")

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and extra state, loadable without executing code."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers().items()},
            "extra": self.extra_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: networks or tensors do not match this learner's.
        """
        from mriad.training.checkpoint import load_networks

        load_networks(self.networks(), state["networks"])
        for name, optimiser in self.optimisers().items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.load_extra_state(state["extra"])

    def train(self) -> None:
        """Put every network into training mode."""
        for network in self.networks().values():
            network.train()
