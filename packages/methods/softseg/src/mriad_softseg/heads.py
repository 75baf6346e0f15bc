"""Heads of regressed soft labels: raw outputs (S, *D) of the stitched volume → soft masks (S, *D) in [0, 1].

What each does to soft area when the field of view changes: docs/reference/softseg.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Head
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mriad.vocabulary import Link, Task
    from torch import Tensor


class _OfTheVolume(Head):
    """A head whose scale may follow from the whole volume; the raw maximum of every case is reported."""

    @property
    def link(self) -> Link:
        """raw."""
        return "raw"

    @property
    def voxelwise(self) -> bool:
        """False: the stitched volume is looked at as a whole."""
        return False

    def facts(self, raw: Tensor) -> Mapping[str, Sequence[float]]:
        """`raw_maximum`: the largest output of each structure; 1 is what a full voxel was trained to give."""
        return {"raw_maximum": raw.float().flatten(1).amax(1).tolist()}


class NormReLU(_OfTheVolume):
    """Rectified outputs divided by their maximum: max(x, 0) / max_v max(x_v, 0), per case and structure.

    1 in at least one voxel, or 0 everywhere if nothing is positive. Source: Gros et al., SoftSeg, MedIA 2021,
    section 2.2. Two differences from the public code: the maximum is that of one case, never of a batch or a
    window; and several structures are scaled each by its own maximum, not divided by their sum.

    One bright voxel sets the scale of a whole case. `softseg.clamp` and `softseg.robust_maximum` are there to
    find out what that costs.
    """

    type: Literal["softseg.norm_relu"] = "softseg.norm_relu"

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        from mriad_softseg.normalised import norm_relu

        return lambda raw: norm_relu(raw[None])[0]


class Clamp(_OfTheVolume):
    """Outputs clamped to [0, 1]: the scale that the network was trained to give.

    The same values as `standard.identity`, which also works slab by slab; this one reports the raw maximum.
    """

    type: Literal["softseg.clamp"] = "softseg.clamp"

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        return lambda raw: raw.float().clamp(0, 1)


class RobustMaximum(_OfTheVolume):
    """Outputs divided by a high quantile of those that lie inside a structure, then clamped to [0, 1].

    The divisor of a structure is the `quantile` of its outputs above `inside`. That set grows with the length
    of the structure that is in view, but its distribution hardly changes, and a few bright voxels are a small
    share of it. Where no voxel lies above `inside` the divisor is 1, as in `softseg.clamp`.
    """

    type: Literal["softseg.robust_maximum"] = "softseg.robust_maximum"
    quantile: float = Field(0.95, gt=0, le=1, description="Share of inside voxels below the divisor.")
    inside: float = Field(
        0.5,
        gt=0,
        description="Raw output above which a voxel counts as inside; half of a full voxel's target.",
    )

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        from mriad_softseg.normalised import robust_maximum

        return lambda raw: robust_maximum(raw, self.quantile, self.inside)
