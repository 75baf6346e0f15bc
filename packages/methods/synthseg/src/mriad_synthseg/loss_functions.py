"""The numbers of `mriad_synthseg.losses`.

Shape letters: B samples, K labels with background first, V voxels, D spatial axes. Voxels are taken in parts of
`PART`, so that nothing of size K·V is made but the gradient itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mriad.errors import DataError, ExperimentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mriad.vocabulary import Task
    from torch import Tensor

PART = 1 << 16
"""Voxels that are worked on at once: 10 MB of 38 labels."""


class _LabelLoss:
    """Checks what it is given, leaves autocast, hides what the weight hides."""

    name = ""

    def __init__(self, task: Task) -> None:
        if task.link != "softmax":
            raise ExperimentError(
                f"loss '{self.name}' does not fit the head",
                where={"loss": "reads outputs as softmax", "head": f"reads outputs as {task.link}"},
                remedy="predict: {head: {type: standard.softmax}}",
            )

    def __call__(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        self._check(prediction, target, weight)
        with torch.autocast(prediction.device.type, enabled=False):
            real = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            logits = prediction.to(real).flatten(2)
            truth = target.flatten(2)
            truth = truth.to(real) if truth.is_floating_point() else truth[:, 0]
            w = None if weight is None else weight.to(real).flatten(1)
            return self.values(logits, truth, w).mean()

    def values(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The loss of each sample, (B,): logits (B, K, V), target (B, V) or (B, K − 1, V), weight (B, V) or None."""
        raise NotImplementedError

    def _check(self, prediction: Tensor, target: Tensor, weight: Tensor | None) -> None:
        batch, labels, *space = prediction.shape
        soft = target.is_floating_point()
        wanted = (batch, labels - 1 if soft else 1, *space)
        if tuple(target.shape) != wanted:
            raise ShapeError(
                f"loss '{self.name}': prediction and target do not fit",
                where={
                    "prediction": tuple(prediction.shape),
                    "target": f"{tuple(target.shape)} {str(target.dtype).removeprefix('torch.')}",
                    "expected": f"target {wanted}",
                },
                remedy="soft targets have one channel a structure, hard ones a single integer channel",
            )
        if weight is not None and tuple(weight.shape) != (batch, 1, *space):
            raise ShapeError(
                f"loss '{self.name}': the weight does not fit",
                where={"weight": tuple(weight.shape), "expected": (batch, 1, *space)},
            )
        if not soft:
            seen = target if weight is None else torch.where(weight > 0, target, 0)
            low, high = (int(v) for v in seen.aminmax())
            if low < 0 or high >= labels:
                raise DataError(
                    f"loss '{self.name}': the target holds labels that the network does not have",
                    where={"target": f"{low} to {high}", "network": f"0 to {labels - 1}"},
                    remedy="the generator's `structures` and the model must come from one experiment",
                )


def _parts(
    logits: Tensor, target: Tensor, weight: Tensor | None
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor | None]]:
    """Voxels (slice), logits (K, v), target (v,) int64 or (K, v) with background, weight (v,) or None.

    Hidden voxels are overwritten: multiplying by 0 would let a NaN through.
    """
    for start in range(0, logits.shape[1], PART):
        part = slice(start, start + PART)
        x, w = logits[:, part], None if weight is None else weight[part]
        g = target[..., part]
        if w is not None:
            x, g = x.masked_fill(w == 0, 0), g.masked_fill(w == 0, 0)
        if g.is_floating_point():
            g = torch.cat([1 - g.sum(0, keepdim=True), g])
        else:
            g = g.long()
        yield part, x, g, w


class _DiceOfLogits(torch.autograd.Function):
    """1 − mean Dice of each sample, (B,). The backward pass computes the softmax again.

    It takes the batch whole: cut into samples outside, autograd would put their gradients together in a copy.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, mask: bool, epsilon: float
    ) -> Tensor:
        samples, labels = logits.shape[:2]
        common, predicted, truth = logits.new_zeros((3, samples, labels), dtype=torch.float64)
        for b in range(samples):
            for _, x, g, w in _parts(logits[b], target[b], None if weight is None else weight[b]):
                p = x.softmax(0)
                if g.is_floating_point():
                    common[b] += (p * g if w is None else p * g * w).sum(1)
                    truth[b] += (g.square() if w is None else g.square() * w).sum(1)
                else:
                    hit = p.gather(0, g[None])[0].double()
                    seen = torch.ones_like(hit) if w is None else w.double()
                    common[b].index_add_(0, g, hit * seen)
                    truth[b].index_add_(0, g, seen)
                predicted[b] += (p.square_() if w is None else p.square_() * w).sum(1)
        bottom = predicted + truth + epsilon
        dice = 2 * common / bottom
        # Where nothing is visible no label is counted, and the sample's loss is 0.
        visible = truth.sum(1, keepdim=True) > 0
        counted = ((truth > 0) if mask else torch.ones_like(truth, dtype=torch.bool)) & visible
        share = counted.double() / counted.sum(1, keepdim=True).clamp_min(1)
        ctx.save_for_backward(logits, target, weight, dice, bottom, share)
        return (visible[:, 0].double() - (share * dice).sum(1)).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *above: Any) -> tuple[Tensor | None, None, None, None, None]:
        logits, target, weight, dice, bottom, share = ctx.saved_tensors
        # d(−Σ share·Dice)/dp_k = share_k·2·(Dice_k·p_k − g_k)/bottom_k, times the voxel's weight
        factor = 2 * share / bottom * above[0].double()[:, None]
        per_label, scaled = factor.to(logits.dtype), (factor * dice).to(logits.dtype)
        gradient = torch.empty_like(logits)
        for b in range(len(logits)):
            for part, x, g, w in _parts(logits[b], target[b], None if weight is None else weight[b]):
                p = x.softmax(0)
                d = p * scaled[b, :, None]
                if g.is_floating_point():
                    d -= g * per_label[b, :, None]
                else:
                    d.scatter_add_(0, g[None], -per_label[b][g][None])
                if w is not None:
                    d *= w
                d -= (d * p).sum(0, keepdim=True)
                torch.mul(d, p, out=gradient[b, :, part])
        return gradient, None, None, None, None


class SoftDice(_LabelLoss):
    """See `mriad_synthseg.losses.Dice`."""

    name = "synthseg.dice"

    def __init__(self, task: Task, mask: bool, epsilon: float) -> None:
        super().__init__(task)
        self.mask, self.epsilon = mask, epsilon

    def values(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """1 − mean Dice of each sample."""
        found: Tensor = _DiceOfLogits.apply(logits, target, weight, self.mask, self.epsilon)  # type: ignore[no-untyped-call]
        return found


class RegressedLogits(_LabelLoss):
    """See `mriad_synthseg.losses.LogitRegression`."""

    name = "synthseg.logit_regression"

    def __init__(self, task: Task, target: float, background: float) -> None:
        super().__init__(task)
        self.target, self.background = target, background

    def values(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Weighted mean squared error of each sample."""
        t, labels = self.target, logits.shape[1]
        if weight is not None:
            hidden = weight == 0
            logits = logits.masked_fill(hidden[:, None], 0)
            target = target.masked_fill(hidden[:, None] if target.ndim == 3 else hidden, 0)
        if target.is_floating_point():
            g = torch.cat([1 - target.sum(1, keepdim=True), target], 1)
            error = (logits - (2 * t * g - t)).square().sum(1)
            seen = 1 - g[:, 0] + self.background
        else:
            # (x − t)² = (x + t)² − 4·t·x: one gather instead of a target for every label
            index = target.long()
            error = (logits + t).square().sum(1) - 4 * t * logits.gather(1, index[:, None])[:, 0]
            seen = (index > 0).to(logits.dtype) + self.background
        if weight is not None:
            seen = seen * weight
        total = seen.sum(1)
        return (seen * error).sum(1) / (labels * torch.where(total > 0, total, 1))
