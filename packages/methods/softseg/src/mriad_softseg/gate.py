"""How well a person's masks agree, and what about them is not acceptable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriad_softseg.coverage import HALF, coverage_at
from mriad_softseg.sampling import between

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad_softseg.average import Shared
    from mriad_softseg.masks import Mask
    from mriad_softseg.soft_ground_truth import Gate


@dataclass(frozen=True)
class Agreement:
    """One contrast of a person against the shared target.

    shared: share of mask slices in common with the reference, of those of the shorter mask. overlap: Dice with the
    reference's mask before anything is moved, on slices that both cover. dice: of the warped mask with the target,
    both cut at > .5, where the contrast is covered after the trim. shift_mm: longest in-plane shift.
    """

    shared: float
    overlap: float
    dice: float
    shift_mm: float


def agreement(shared: Shared, contrast: str) -> Agreement:
    """Measure one contrast."""
    warped, reference = shared.warped[contrast], shared.masks[shared.reference]
    mask = shared.masks[contrast]
    there = warped.coverage >= HALF
    own, target = (warped.segmentation > HALF) & there, (shared.soft > HALF) & there
    common = max(_within(mask, reference), _within(reference, mask))
    overlap = _overlap_unmoved(mask, reference)
    return Agreement(common, overlap, _dice(own, target), warped.motion.largest_shift)


def faults(shared: Shared, found: dict[str, Agreement], gate: Gate) -> dict[str, str]:
    """What the gate refuses, by contrast (the reference for what concerns all)."""
    out: dict[str, str] = {}
    for name, one in found.items():
        wrong = []
        if not shared.warped[name].coverage.any():
            wrong.append("nothing of the mask is left after the trim (see trim_mm, trim_mm_of)")
        elif one.dice < gate.dice:
            wrong.append(f"Dice with the shared target {one.dice:.2f} (at least {gate.dice:g})")
        if one.shared < gate.shared:
            wrong.append(f"{one.shared:.0%} of the shorter mask's slices shared (at least {gate.shared:.0%})")
        if gate.shift_mm and one.shift_mm > gate.shift_mm:
            wrong.append(f"shifted by {one.shift_mm:.1f} mm (at most {gate.shift_mm:g})")
        if wrong:
            before = f"; Dice with {shared.reference} before alignment {one.overlap:.2f}"
            out[name] = "; ".join(wrong) + (before if name != shared.reference else "")
    common = int(shared.common.sum())
    if not out and common < gate.common_slices:
        out[shared.reference] = (
            f"{common} slices are covered by every contrast (at least {gate.common_slices})"
        )
    return out


def _within(mask: Mask, other: Mask) -> float:
    """Share of a mask's slices whose centres lie on slices that the other covers."""
    place = between(mask.grid, other.grid, _line(mask))
    return float((coverage_at(other.annotated, place[2]) >= HALF).mean())


def _line(mask: Mask) -> NDArray[np.float64]:
    """Centre (3, n) of the mask on each of its slices."""
    inside = mask.inside[:, :, mask.annotated]
    total = inside.sum(axis=(0, 1))
    x = np.arange(inside.shape[0]) @ inside.sum(axis=1) / total
    y = np.arange(inside.shape[1]) @ inside.sum(axis=0) / total
    return np.stack([x, y, np.flatnonzero(mask.annotated).astype(np.float64)])


def _overlap_unmoved(mask: Mask, reference: Mask) -> float:
    """Dice of the two masks as they lie in the world, counted on the voxels of the coarser one."""
    coarse, fine = sorted((mask, reference), key=lambda m: -m.grid.voxel_volume)
    slices = np.flatnonzero(coarse.annotated)
    points = np.argwhere(coarse.inside).T.astype(np.float64)
    hit = fine_at(fine, between(coarse.grid, fine.grid, points))
    other = np.argwhere(fine.inside).T.astype(np.float64)
    place = np.rint(between(fine.grid, coarse.grid, other)[2])
    own = int(np.isin(place, slices).sum()) * fine.grid.voxel_volume / coarse.grid.voxel_volume
    line = between(coarse.grid, fine.grid, points)
    known = coverage_at(fine.annotated, line[2]) >= HALF
    size = int(known.sum()) + own
    return float(min(1.0, 2 * int((hit & known).sum()) / size)) if size else 0.0


def fine_at(mask: Mask, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the voxel nearest to each point (3, n) is inside the mask."""
    voxels = np.rint(points).astype(int)
    shape = np.array(mask.inside.shape).reshape(3, 1)
    within = ((voxels >= 0) & (voxels < shape)).all(axis=0)
    out = np.zeros(voxels.shape[1], bool)
    out[within] = mask.inside[tuple(voxels[:, within])]
    return out


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else 0.0
