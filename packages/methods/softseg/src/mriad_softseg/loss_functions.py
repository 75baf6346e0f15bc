"""The numbers of `mriad_softseg.losses`. Shape letters: B samples, S structures, D two or three spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from mriad_standard.deep_supervision import downscale_weight
from mriad_standard.loss_functions import VoxelLoss, voxel_mean

from mriad_softseg.normalised import norm_relu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.interfaces import LossFunction
    from mriad.vocabulary import Task

    from mriad_softseg.losses import AdaptiveWing

EDGE = 0.2  # target above which a voxel belongs to what the edge weight surrounds


def adaptive_wing(
    prediction: torch.Tensor,
    target: torch.Tensor,
    omega: float = 8.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
    alpha: float = 2.1,
) -> torch.Tensor:
    """The loss of every voxel; see `mriad_softseg.losses.AdaptiveWing`. All tensors of one shape."""
    target = target.detach()
    exponent = alpha - target
    d = (target - prediction).abs()
    at_theta = (theta / epsilon) ** exponent
    slope = (omega / epsilon) * exponent * (theta / epsilon) ** (exponent - 1) / (1 + at_theta)
    offset = theta * slope - omega * torch.log1p(at_theta)
    # Clamped, so that the branch that is not taken stays finite, and with it its share of the gradient.
    curved = omega * torch.log1p((d.clamp(max=theta) / epsilon) ** exponent)
    return torch.where(d < theta, curved, slope * d - offset)


def edge_map(target: torch.Tensor, weight: float) -> torch.Tensor:
    """1 + weight where the 3-voxel neighbourhood of (B, S, *D) reaches a target above 0.2, else 1."""
    pool = F.max_pool3d if target.ndim == 5 else F.max_pool2d
    return 1 + weight * (pool(target, 3, stride=1, padding=1) > EDGE)


def maps_of(target: torch.Tensor, structures: int) -> torch.Tensor:
    """A target as float maps (B, S, *D); integer ones become 0 and 1."""
    if target.is_floating_point():
        return target
    return torch.cat([target == s + 1 for s in range(structures)], dim=1).float()


class AdaptiveWingLoss(VoxelLoss):
    """See `mriad_softseg.losses.AdaptiveWing`."""

    def __init__(self, task: Task, config: AdaptiveWing) -> None:
        super().__init__(task, config.type, "raw")
        self.config = config

    def values(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The loss of each sample, (B,)."""
        c = self.config
        goal = maps_of(target, prediction.shape[1]).to(prediction.dtype)
        loss = adaptive_wing(prediction, goal, c.omega, c.epsilon, c.theta, c.alpha)
        if c.edge_weight:
            loss = loss * edge_map(goal, c.edge_weight)
        loss = loss.mean(1, keepdim=True)
        if c.reduction == "mean":
            return voxel_mean(loss, weight)
        return (loss if weight is None else loss * weight).flatten(1).sum(1) * prediction.shape[1]


class Normalised:
    """See `mriad_softseg.losses.NormReLUInLoss`."""

    def __init__(self, loss: LossFunction, maximum: Literal["sample", "batch"]) -> None:
        self.loss = loss
        self.maximum = maximum

    def __call__(
        self, prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the inner loss of the normalised outputs."""
        with torch.autocast(prediction.device.type, enabled=False):
            shown = prediction if weight is None else prediction.masked_fill(weight == 0, 0)
            over = tuple(range(shown.ndim)) if self.maximum == "batch" else None
            return self.loss(norm_relu(shown, over), target, weight=weight)


class LiterallySupervised:
    """See `mriad_softseg.losses.LiteralDeepSupervision`."""

    def __init__(self, loss: LossFunction) -> None:
        self.loss = loss

    def __call__(
        self,
        prediction: torch.Tensor | Sequence[torch.Tensor],
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return Σ_i ½^i·loss_i / n."""
        if isinstance(prediction, torch.Tensor):
            return self.loss(prediction, target, weight=weight)
        mode = "trilinear" if target.ndim == 5 else "bilinear"
        total = prediction[0].new_zeros((), dtype=torch.float32)
        with torch.no_grad():
            goal = maps_of(target, prediction[0].shape[1])
        for level, output in enumerate(prediction):
            size = tuple(output.shape[2:])
            with torch.no_grad():
                small = goal if size == goal.shape[2:] else F.interpolate(goal, size=size, mode=mode)
                seen = weight if weight is None or size == goal.shape[2:] else downscale_weight(weight, size)
            total = total + 0.5**level * self.loss(output, small, weight=seen) / len(prediction)
        return total
