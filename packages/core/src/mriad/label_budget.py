"""`data.sparse`: few labelled persons or few annotated slices, as in the SSL2 paper's section 3.

The choice belongs to persons and cases, not to their order or number: 3 persons are a subset of 5 and of 10, and
10 % of a scan's slices a subset of its 20 %, so that budgets can be compared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mriad.errors import SplitError
from mriad.identity import fingerprint
from mriad.vocabulary import CaseIndex, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mriad.experiment.model import SparseSection
    from mriad.geometry import Grid
    from mriad.vocabulary import Case, Label, Source

Plane = Literal["axial", "coronal", "sagittal"]
_ACROSS = {"axial": "SI", "coronal": "AP", "sagittal": "RL"}


@dataclass(frozen=True)
class SliceMask:
    """A validity mask (X, Y, Z): 1 in a fraction of the slices of `label`, drawn by `seed` and `case`.

    `validity`: what was annotated before; the rest of it stays invalid. At least one slice is kept.
    """

    label: Source
    fraction: float
    axis: Plane
    seed: int
    case: str
    validity: Source | None = None

    @property
    def fingerprint(self) -> str:
        """Of everything that the mask depends on."""
        before = None if self.validity is None else self.validity.fingerprint
        return fingerprint(
            [self.label.fingerprint, self.fraction, self.axis, self.seed, self.case, before, "slices"]
        )

    @property
    def location(self) -> str:
        """In words."""
        return f"{self.fraction:.0%} of the {self.axis} slices of {self.label.location}"

    def read(self) -> Volume:
        """Return the mask on the label's grid, uint8."""
        grid = self.label.read().grid
        mask = np.zeros(grid.shape, np.uint8)
        place: list[Any] = [slice(None)] * 3
        across = axis_across(grid, self.axis)
        place[across] = chosen_slices(grid.shape[across], self.fraction, self.seed, self.case)
        mask[tuple(place)] = 1
        if self.validity is not None:
            mask &= (self.validity.read().data != 0).astype(np.uint8)
        return Volume(mask, grid)


def axis_across(grid: Grid, plane: Plane) -> int:
    """The voxel axis that runs across slices of an anatomical plane."""
    return next(i for i, code in enumerate(grid.orientation) if code in _ACROSS[plane])


def chosen_slices(count: int, fraction: float, seed: int, case: str) -> NDArray[np.int64]:
    """Sorted numbers of the slices that keep their annotation; a smaller fraction's are among them."""
    order = _generator(seed, "slices", case).permutation(count)
    chosen: NDArray[np.int64] = np.sort(order[: max(1, round(fraction * count))])
    return chosen


def chosen_persons(persons: Iterable[str], count: int | None, seed: int) -> list[str]:
    """Persons who keep their labels; a smaller count's are among them.

    Raises:
        SplitError: there are fewer.
    """
    known = sorted(set(persons))
    if count is None:
        return known
    if count > len(known):
        raise SplitError(
            f"{count} labelled training persons are asked for, but the fold has {len(known)}",
            where={
                "data.sparse.persons": count,
                "labelled persons who train": ", ".join(known[:8]) or "none",
            },
            remedy=f"ask for at most {len(known)}, or let more persons train",
        )
    # A person's place depends on his name alone: adding others does not change the order of these.
    return sorted(known, key=lambda person: _digest(seed, "persons", person))[:count]


def sparsely_labelled(
    index: CaseIndex, training: Iterable[str], label: str, budget: SparseSection, seed: int
) -> CaseIndex:
    """The index with fewer labels in training; other sides keep theirs, since nothing learns from them.

    Args:
        index: of all cases.
        training: ids of the fold's training cases.
        label: name of the target. Cases of persons who are not chosen lose it and count as unlabelled.
        budget: how much stays.
        seed: the experiment's, where the budget has none of its own.

    Raises:
        SplitError: fewer labelled persons than asked for train.
    """
    used = seed if budget.seed is None else budget.seed
    trains = set(training)
    having = [case for case in index if case.id in trains and label in case.labels]
    if not having:  # a stage has yet to make the labels
        return index
    kept = set(chosen_persons((case.person for case in having), budget.persons, used))
    changed = {case.id: _sparse(case, label, budget, used, case.person in kept) for case in having}
    made = CaseIndex([changed.get(case.id, case) for case in index], index.label_set)
    made.aliases = index.aliases
    return made


def _sparse(case: Case, label: str, budget: SparseSection, seed: int, kept: bool) -> Case:
    if not kept:
        return replace(case, labels={n: found for n, found in case.labels.items() if n != label})
    if budget.slices == 1:
        return case
    old = case.labels[label]
    mask = SliceMask(old.source, budget.slices, budget.axis, seed, case.id, old.validity)
    kind = "sparse" if old.kind == "hard" else old.kind
    return case.with_labels(**{label: replace(old, kind=kind, validity=mask)})


def is_partial(label: Label) -> bool:
    """Whether some slices of a scan are annotated and others are not."""
    return label.kind == "sparse" or isinstance(label.validity, SliceMask)


def _digest(seed: int, what: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{what}\x1f{name}".encode()).digest()


def _generator(seed: int, what: str, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(int.from_bytes(_digest(seed, what, name)[:8], "little")))
