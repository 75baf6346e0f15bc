"""The head that cleans posteriors as SynthSeg's inference does; a light config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from mriad.errors import ExperimentError
from mriad.interfaces import Head
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from mriad.vocabulary import Link, Task
    from torch import Tensor


class Posteriors(Head):
    """Softmax, smoothed; only the largest piece of the foreground and of each group stays; renormalised.

    In the order of SynthSeg's own inference (head of 2024): Gaussian of every posterior, background too; outside the
    largest component of Σ foreground > `threshold` all structures become 0; then, group by group, those of the group
    outside the largest component of their sum > `threshold`; posteriors are divided by their sum. Where nothing is
    left at all, background is 1 (the original divides 0 by 0 there). It acts on the working grid, where the network
    sees 1 mm voxels, before posteriors return to the scan's own grid. Components share faces (6 neighbours).

    Raises:
        ExperimentError: a group names what the label set does not have, or a structure twice (`build`).
    """

    type: Literal["synthseg.posteriors"] = "synthseg.posteriors"
    smooth_voxels: float = Field(
        0.5, ge=0, description="Standard deviation of the Gaussian in working voxels; 0: none."
    )
    keep_largest: bool = Field(True, description="Filter components of the foreground and of the groups.")
    threshold: float = Field(
        0.25, gt=0, lt=1, description="Summed posterior above which a voxel is in a piece."
    )
    groups: list[Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=list,
        description="Structures that are one piece together; the original's topology classes.",
    )

    @property
    def link(self) -> Link:
        """softmax."""
        return "softmax"

    @property
    def voxelwise(self) -> bool:
        """Not where neighbours matter."""
        return not (self.smooth_voxels or self.keep_largest)

    def build(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return a function (1 + S, *D) → (S, *D)."""
        names = task.label_set().names
        listed = [name for group in self.groups for name in group]
        wrong = [name for name in listed if name not in names]
        wrong = wrong or [name for name in dict.fromkeys(listed) if listed.count(name) > 1]
        if wrong:
            raise ExperimentError(
                f"head '{self.type}': `groups` names a structure that is not there, or twice",
                where={"structure": ", ".join(wrong), "structures": ", ".join(names)},
            )
        from mriad_synthseg.posterior_cleaning import clean

        groups = [[names.index(name) + 1 for name in group] for group in self.groups]
        return lambda raw: clean(
            raw, self.smooth_voxels, self.threshold if self.keep_largest else None, groups
        )
