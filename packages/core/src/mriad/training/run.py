"""What a learner sees of the run, and `update`: the one way to change weights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from mriad.training import distributed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    from mriad.batch import Batch
    from mriad.training.algorithm import Optimised
    from mriad.training.protocols import Shard


def resolve_precision(asked: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, or None for plain float32. `auto` is bf16 on a GPU that has it."""
    if asked == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[asked]


class Run:
    """State of a training run that learners may read, and the operations they share.

    Attributes:
        device: where batches and networks live.
        rank, world: this process among those that train together.
        step: calls of the learner's step before this one; steps: of the whole run.
        epoch: epochs completed; steps_per_epoch: their length.
        seed: of the run.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        shard: Shard,
        steps: int,
        steps_per_epoch: int,
        seed: int,
        precision: str = "fp32",
    ) -> None:
        self.device = device
        self.rank, self.world = shard.rank, shard.world
        self.step = 0
        self.steps = steps
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.dtype = resolve_precision(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self._batches: Mapping[str, Batch] = {}

    @property
    def epoch(self) -> int:
        """Epochs completed before this step."""
        return self.step // self.steps_per_epoch

    def begin(self, step: int, batches: Mapping[str, Batch]) -> None:
        """Called by the loop before each step."""
        self.step, self._batches = step, batches

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the forward pass and loss, where the run has it."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def gather(self, x: Tensor) -> Tensor:
        """(B, ...) → (world · B, ...) in rank order, differentiable; for contrastive losses."""
        return distributed.gather(x)

    def average(self, x: Tensor) -> Tensor:
        """Mean over ranks, differentiable; for statistics of the joint batch."""
        return distributed.average(x)

    def update(self, optimised: Optimised, loss: Tensor, *, retain_graph: bool = False) -> bool:
        """Add the gradient of `loss` for this optimiser's parameters only; step when enough is accumulated.

        In order: scaled backward into the optimiser's own parameters (so that two optimisers cannot leak into each
        other), non-finite vote over ranks, average of gradients over ranks, clipping, optimiser step, schedule,
        moving averages. Returns whether the weights changed.

        Raises:
            NonFiniteError: the loss is NaN or infinite on any rank, or a gradient is (except under fp16, where the
                scaler skips that step and lowers its scale). Weights are unchanged and the cases are named.
        """
        parameters = [p for p in optimised.parameters if p.requires_grad]
        cases = {name: batch.cases for name, batch in self._batches.items()}
        if not distributed.all_finite(torch.isfinite(loss.detach()).all()):
            raise distributed.refuse_non_finite("the loss", self.step, cases)
        scaled = self.scaler.scale(loss / optimised.accumulate)
        torch.autograd.backward(scaled, inputs=parameters, retain_graph=retain_graph)
        optimised.pending += 1
        if optimised.pending < optimised.accumulate:
            return False

        distributed.average_gradients(parameters)
        self.scaler.unscale_(optimised.optimiser)
        gradients = [p.grad for p in parameters if p.grad is not None]
        limit = optimised.clip_norm if optimised.clip_norm is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit) if gradients else loss.new_zeros(())
        finite = distributed.all_finite(torch.isfinite(norm))
        if not finite and not self.scaler.is_enabled():
            raise distributed.refuse_non_finite("the gradient", self.step, cases)
        optimised.set_rate()
        if self.scaler.is_enabled():
            self.scaler.step(optimised.optimiser)  # skips by itself where a gradient is not finite
            self.scaler.update()
        else:
            optimised.optimiser.step()
        optimised.optimiser.zero_grad(set_to_none=True)
        optimised.pending = 0
        if finite:
            optimised.done += 1
            optimised.average()
        return finite
