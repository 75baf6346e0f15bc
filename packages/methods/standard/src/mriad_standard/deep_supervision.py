"""A loss over outputs at several resolutions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mriad.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.interfaces import LossFunction


def downscale_target(target: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bring a target to a coarser grid that covers the same field.

    Float (B, S, *D) by the mean over the area of each coarse voxel; integer (B, 1, *D) by the voxel nearest
    to its centre (of two equally near ones the later).
    """
    if target.is_floating_point():
        return F.interpolate(target, size=tuple(size), mode="area")
    for axis, (fine, coarse) in enumerate(zip(target.shape[2:], size, strict=True), start=2):
        if fine != coarse:
            # (2i + 1)·fine // (2·coarse) is floor((i + ½)·fine/coarse) in whole numbers.
            picks = (2 * torch.arange(coarse, device=target.device) + 1) * fine // (2 * coarse)
            target = target.index_select(axis, picks)
    return target


def downscale_weight(weight: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bring a weight (B, 1, *D) to a coarser grid by the minimum over what each coarse voxel covers."""
    pool = F.adaptive_max_pool3d if weight.ndim == 5 else F.adaptive_max_pool2d
    return -pool(-weight.float(), tuple(size))


class DeeplySupervised:
    """See `mriad_standard.losses.DeepSupervision`."""

    def __init__(self, loss: LossFunction) -> None:
        self.loss = loss

    def __call__(
        self,
        prediction: torch.Tensor | Sequence[torch.Tensor],
        target: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the weighted sum of the loss over the outputs."""
        if isinstance(prediction, torch.Tensor):
            return self.loss(prediction, target, weight=weight)
        sizes = [tuple(p.shape[2:]) for p in prediction]
        if any(
            c > f for fine, coarse in itertools.pairwise(sizes) for f, c in zip(fine, coarse, strict=True)
        ):
            raise ShapeError(
                "deep supervision expects outputs from fine to coarse",
                where={"sizes": sizes},
                remedy="return the finest output first",
            )
        factors = [2.0**-level for level in range(len(prediction))]
        total = prediction[0].new_zeros((), dtype=torch.float32)
        for factor, output, size in zip(factors, prediction, sizes, strict=True):
            same = size == tuple(target.shape[2:])
            with torch.no_grad():
                goal = target if same else downscale_target(target, size)
                visible = weight if weight is None or same else downscale_weight(weight, size)
            total = total + factor / sum(factors) * self.loss(output, goal, weight=visible)
        return total
