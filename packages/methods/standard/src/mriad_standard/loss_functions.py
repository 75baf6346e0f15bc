"""The numbers of `mriad_standard.losses`.

Shape letters: B samples, O raw outputs, S structures, D one to three spatial axes.
Hard targets stay an index volume: sums over a structure use a boolean mask of one channel, never a float
one-hot copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mriad.errors import ExperimentError, ShapeError

if TYPE_CHECKING:
    from mriad.vocabulary import Link, Task

    from mriad_standard.losses import DiceForm


def _check_link(task: Task, name: str, link: Link) -> None:
    if task.link != link:
        raise ExperimentError(
            f"loss '{name}' does not fit the head",
            where={"loss": f"reads outputs as {link}", "head": f"reads outputs as {task.link}"},
            remedy=f"set `link: {task.link}` in the loss if it has that, or choose a head with link {link}",
        )


class VoxelLoss:
    """What losses of a prediction share; a method's own loss subclasses it and writes `values`.

    Checks shapes, hides what the weight hides, leaves autocast, takes the mean over samples.

    Raises:
        ExperimentError: the loss reads outputs differently than the head.
    """

    def __init__(self, task: Task, name: str, link: Link) -> None:
        _check_link(task, name, link)
        self.name = name
        self.link = link

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean over samples of `values`, ()."""
        self._check(prediction, target, weight)
        with torch.autocast(prediction.device.type, enabled=False):
            real = torch.float64 if prediction.dtype == torch.float64 else torch.float32
            prediction = prediction.to(real)
            if target.is_floating_point():
                target = target.to(real)
            if weight is not None:
                # Multiplying by 0 would let a NaN or an out-of-range label through, so hidden voxels are
                # overwritten.
                hidden = weight == 0
                prediction = prediction.masked_fill(hidden, 0)
                target = target.masked_fill(hidden, 0)
                weight = weight.to(real)
            return self.values(prediction, target, weight).mean()

    def values(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The loss of each sample, (B,)."""
        raise NotImplementedError

    def _check(self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None) -> None:
        if not isinstance(prediction, torch.Tensor):
            raise ShapeError(
                f"loss '{self.name}' was given {len(prediction)} outputs where it takes one",
                where={"outputs": [tuple(p.shape) for p in prediction]},
                remedy="wrap it: loss: {type: standard.deep_supervision, loss: {type: " + self.name + "}}",
            )
        structures = prediction.shape[1] - (self.link == "softmax")
        channels = structures if target.is_floating_point() else 1
        batch, *space = prediction.shape[0], *prediction.shape[2:]
        if tuple(target.shape) != (batch, channels, *space):
            raise ShapeError(
                f"loss '{self.name}': prediction and target do not fit",
                where={
                    "prediction": tuple(prediction.shape),
                    "target": f"{tuple(target.shape)} {str(target.dtype).removeprefix('torch.')}",
                    "expected": f"target {(batch, channels, *space)} for link {self.link}",
                },
                remedy="soft targets have one channel a structure, hard ones a single integer channel",
            )
        if weight is not None and tuple(weight.shape) != (batch, 1, *space):
            raise ShapeError(
                f"loss '{self.name}': the weight does not fit",
                where={"weight": tuple(weight.shape), "expected": (batch, 1, *space)},
            )


def _total(x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Weighted sum of (B, K, *D) over space: (B, K)."""
    return (x if weight is None else x * weight).flatten(2).sum(-1)


def voxel_mean(x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Weighted mean of (B, 1, *D) over space: (B,); 0 for a sample without a visible voxel."""
    if weight is None:
        return x.flatten(1).mean(-1)
    visible = weight.flatten(1).sum(-1)
    return _total(x, weight)[:, 0] / torch.where(visible > 0, visible, 1)


class OverlapAndEntropy(VoxelLoss):
    """`dice_weight·(1 − Dice) + ce_weight·CE`; both share the softmax, and a factor of 0 skips its part."""

    def __init__(
        self,
        task: Task,
        name: str,
        link: Link,
        dice_weight: float,
        ce_weight: float,
        form: DiceForm,
        smooth: float,
    ) -> None:
        super().__init__(task, name, link)
        self.dice_weight, self.ce_weight = dice_weight, ce_weight
        self.form, self.smooth = form, smooth

    def values(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The loss of each sample, (B,)."""
        soft = target.is_floating_point()
        index = target if soft else target.long()
        if self.link == "softmax":
            log_p = F.log_softmax(prediction, dim=1)
            probability = log_p.exp()[:, 1:] if self.dice_weight else log_p
        elif self.link == "raw":
            probability = prediction
        else:
            probability = prediction.sigmoid() if self.dice_weight else prediction
        value = prediction.new_zeros(len(prediction))
        if self.ce_weight:
            if self.link == "softmax":
                entropy = _soft_entropy(log_p, target) if soft else -log_p.gather(1, index)
            else:
                entropy = _binary_entropy(prediction, target if soft else index)
            value = value + self.ce_weight * voxel_mean(entropy, weight)
        if self.dice_weight:
            value = value + self.dice_weight * (
                1 - self._dice(probability, target if soft else index, weight)
            )
        return value

    def _dice(
        self, probability: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Mean over structures of the soft Dice of each sample, (B,)."""
        if target.is_floating_point():
            common = _total(probability * target, weight)
            truth = _total(target if self.form == "linear" else target.square(), weight)
        else:
            columns = []
            for s in range(probability.shape[1]):
                here = target == s + 1
                shared = torch.where(here, probability[:, s : s + 1], 0)
                columns.append((_total(shared, weight), _total(here, weight)))
            common = torch.cat([a for a, _ in columns], dim=1)
            truth = torch.cat([b for _, b in columns], dim=1).to(common.dtype)
        predicted = _total(probability if self.form == "linear" else probability.square(), weight)
        dice = (2 * common + self.smooth) / (predicted + truth + self.smooth)
        return dice.mean(1)  # where nothing is visible it is ε / ε = 1, so such a sample adds 0 to the loss


def _soft_entropy(log_p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """−Σ_c g_c log p_c, (B, 1, *D), with background g_0 = 1 − Σ_s g_s made on the fly."""
    background = 1 - target.sum(1, keepdim=True)
    return -(log_p[:, 1:] * target).sum(1, keepdim=True) - log_p[:, :1] * background


def _binary_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, mean over structures, (B, 1, *D)."""
    if target.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1, keepdim=True)
    # CE = softplus(x) − x·[target is s]; the second term is one gather, not S masks.
    structures = logits.shape[1]
    chosen = logits.gather(1, (target - 1).clamp_min(0))
    linear = torch.where(target > 0, chosen, 0)
    return (F.softplus(logits).sum(1, keepdim=True) - linear) / structures


class MeanSquaredError(VoxelLoss):
    """Mean of (p − g)² over structures and visible voxels of each sample."""

    def values(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The loss of each sample, (B,)."""
        p = prediction.sigmoid() if self.link == "sigmoid" else prediction
        if target.is_floating_point():
            return voxel_mean((p - target).square().mean(1, keepdim=True), weight)
        # Σ_s (p_s − [target is s])² = Σ_s p_s² − 2 p_target + 1 where there is a target.
        index = target.long()
        chosen = p.gather(1, (index - 1).clamp_min(0))
        extra = torch.where(index > 0, 1 - 2 * chosen, 0)
        return voxel_mean((p.square().sum(1, keepdim=True) + extra) / p.shape[1], weight)
