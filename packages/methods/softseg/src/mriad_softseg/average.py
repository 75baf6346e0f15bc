"""The mean of a person's masks in the space of the reference, and that mean in each contrast's own grid.

Everything here is plain numbers: masks in, arrays out. softgt.md's symbols: S the mask, M its coverage, S̃ and M̃ both
in the reference's space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError

from mriad_softseg.coverage import HALF, coverage_at, padded, trimmed
from mriad_softseg.sampling import between, box_around, points_of, sampled
from mriad_softseg.slicewise import SliceMotion, align

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_softseg.masks import Mask
    from mriad_softseg.sampling import Box
    from mriad_softseg.soft_ground_truth import SoftGroundTruth

LEAST = 1e-3
"""A sum of coverages below this is none: the ratio would be noise."""


@dataclass(frozen=True, eq=False)
class Warped:
    """One contrast in the reference's space, on the box of voxels that can hold the structure.

    segmentation, coverage: (X, Y, Z) in [0, 1], trimmed. ends: the same before the trim, to judge the fit.
    """

    motion: SliceMotion
    segmentation: NDArray[np.float64]
    coverage: NDArray[np.float64]
    ends: tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Shared:
    """The shared soft target in the reference's space.

    grid: of the reference, slices last. box: the voxels of the arrays within it; beyond its sides the target is 0.
    soft: (X, Y, Z) in [0, 1], 0 where nothing is covered. covered: bool, where at least one contrast is. warped: by
    contrast, the reference among them. masks: what came in.
    """

    reference: str
    grid: Grid
    box: Box
    soft: NDArray[np.float64]
    covered: NDArray[np.bool_]
    warped: Mapping[str, Warped]
    masks: Mapping[str, Mask]

    @property
    def common(self) -> NDArray[np.bool_]:
        """Slices of the box (Z,) that every contrast covers wholly."""
        whole = [(w.coverage >= 1 - 1e-9).all(axis=(0, 1)) for w in self.warped.values()]
        common: NDArray[np.bool_] = np.logical_and.reduce(whole)
        return common

    def full(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values of the box on the whole reference grid (slices last), 0 elsewhere."""
        out = np.zeros(self.grid.shape, np.float32)
        out[self.box] = values
        return out


@dataclass(frozen=True, eq=False)
class Target:
    """The soft target of one contrast in its own grid, axes as in its file.

    soft: float32 (X, Y, Z) in [0, 1]. valid: uint8, 1 on slices that have a mask and that the target covers.
    slices: bool (Z,), those slices along the axis of the mask.
    """

    soft: NDArray[np.float32]
    valid: NDArray[np.uint8]
    slices: NDArray[np.bool_]


def build(masks: Mapping[str, Mask], reference: str, how: SoftGroundTruth) -> Shared:
    """Align the masks of one person with the reference's, and average them.

    Args:
        masks: by contrast; world coordinates are of one session.
        reference: which of them is the reference.
        how: trim, gaps, rotation and weights.

    Raises:
        DataError: a mask has no slice in common with the reference, or SCT failed where it is asked for.
    """
    fixed = masks[reference]
    grid = fixed.grid
    motions = {name: _motion(mask, fixed, name == reference, how) for name, mask in masks.items()}
    apart = [name for name, motion in motions.items() if motion is None]
    if apart:
        raise DataError(
            f"the masks of {', '.join(apart)} and of the reference {reference} cover no slice in common",
            where={name: _extent(masks[name]) for name in [reference, *apart]},
            remedy="are these scans of one person and session? If they are, leave the contrast out with `contrasts`",
        )
    sound = {name: motion for name, motion in motions.items() if motion is not None}
    box = _union([_reach(masks[name], motion, grid) for name, motion in sound.items()])
    points = points_of(box)
    warped = {
        name: _warped(masks[name], motion, grid, points, 0.0 if name == reference else how.trim_of(name))
        for name, motion in sound.items()
    }
    soft, covered = combine(
        [w.segmentation for w in warped.values()],
        [w.coverage for w in warped.values()],
        [_weight(masks[name], how) for name in warped],
    )
    return Shared(reference, grid, box, soft, covered, warped, dict(masks))


def combine(
    segmentations: Sequence[NDArray[np.float64]],
    coverages: Sequence[NDArray[np.float64]],
    weights: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Σ w S̃ / Σ w M̃ voxel by voxel, and where the sum of coverages is not nothing; 0 elsewhere.

    A segmentation counts only where its own coverage does, so a voxel's value is the mean over the contrasts that
    cover it.
    """
    above = np.zeros(np.broadcast_shapes(*(s.shape for s in segmentations)))
    below = np.zeros_like(above)
    for segmentation, coverage, weight in zip(segmentations, coverages, weights, strict=True):
        above += weight * np.where(coverage > 0, segmentation, 0.0)
        below += weight * coverage
    covered = below > LEAST
    return np.divide(above, below, out=np.zeros_like(above), where=covered), covered


def carry_back(shared: Shared, contrast: str, slice_profile: bool = False) -> Target:
    """The shared target in the grid of a contrast, by the inverse of its motion, in one linear interpolation.

    Values are the mean over the covered surroundings, so that the end of the coverage does not fade; a slice of
    which less than half is covered is invalid and 0. `slice_profile`: the mean over each slice's thickness.
    """
    mask, motion = shared.masks[contrast], shared.warped[contrast].motion
    soft = np.zeros(mask.grid.shape, np.float32)
    box = _box_in(mask, shared, motion)
    steps = math.ceil(2 * mask.thickness / shared.grid.spacing[2]) if slice_profile else 1
    offsets = (np.arange(steps) + 0.5) / steps - 0.5
    points = points_of(box)
    above, below = np.zeros(points.shape[1:]), np.zeros(points.shape[1:])
    start = np.array([s.start for s in shared.box], np.float64).reshape(3, 1, 1, 1)
    sides = np.array(shared.covered.shape[:2], np.float64).reshape(2, 1, 1, 1) - 1
    for offset in offsets:
        points[2] += offset
        place = motion.push(between(mask.grid, shared.grid, points)) - start
        points[2] -= offset
        above += sampled(shared.soft, place)
        # A covered slice is covered to all sides: only along the cord does coverage end.
        place[:2] = np.clip(place[:2], 0, sides)
        below += sampled(shared.covered, place)
    below /= steps
    known = below >= HALF
    values = np.divide(above / steps, below, out=np.zeros_like(above), where=known)
    soft[box] = np.clip(values, 0, 1)
    slices = mask.annotated.copy()
    slices[box[2]] &= ~(mask.inside[box] & ~known).any(axis=(0, 1))
    soft[:, :, ~slices] = 0
    valid = np.broadcast_to(slices.astype(np.uint8), mask.grid.shape)
    return Target(mask.back(soft), mask.back(valid), slices)


def _motion(mask: Mask, fixed: Mask, same: bool, how: SoftGroundTruth) -> SliceMotion | None:
    """The motion from the reference to a contrast, estimated from both masks with padded ends."""
    slices, spacing = fixed.grid.shape[2], fixed.grid.spacing
    if same:
        return SliceMotion.still(slices, spacing)
    if how.program == "sct":
        from mriad_softseg.sct import motion_by_sct

        return motion_by_sct(mask, fixed)
    grid = fixed.grid
    a = padded(fixed.inside, grid)[0][:, :, 1:-1]  # within its own image
    b, lattice = padded(mask.inside, mask.grid)
    here = np.argwhere(b).T.astype(np.float64)
    margin = _margin(lattice, grid)
    box = _union(
        [
            box_around(between(lattice, grid, here), margin, grid.shape),
            box_around(np.argwhere(a).T.astype(np.float64), (0, 0, 0), grid.shape),
        ]
    )
    moving = sampled(b, between(grid, lattice, points_of(box)))
    motion = align(
        a[box].astype(np.float64), moving, spacing, (box[0].start, box[1].start), how.rotation, how.gaps
    )
    return None if motion is None else _on_all_slices(motion, box[2], slices, how.gaps)


def _on_all_slices(motion: SliceMotion, part: slice, slices: int, gaps: str) -> SliceMotion:
    """A motion of some slices on all of the reference: held beyond the ends, or none there."""
    before, after = part.start, slices - part.stop

    def longer(values: NDArray[Any], mode: Any) -> NDArray[Any]:
        return np.pad(values, [(before, after), *[(0, 0)] * (values.ndim - 1)], mode=mode)

    beyond = "constant" if gaps == "zero" else "edge"
    return SliceMotion(
        longer(motion.centre, "edge"),
        longer(motion.shift, beyond),
        longer(motion.angle, beyond),
        motion.spacing,
        longer(motion.measured, "constant"),
    )


def _warped(
    mask: Mask, motion: SliceMotion, grid: Grid, points: NDArray[np.float64], trim_mm: float
) -> Warped:
    place = between(grid, mask.grid, motion.pull(points))
    coverage = coverage_at(mask.annotated, place[2])
    ends = trimmed(sampled(mask.inside, place), coverage, 0)
    segmentation, coverage = trimmed(*ends, round(trim_mm / grid.spacing[2]))
    return Warped(motion, segmentation, coverage, ends)


def _reach(mask: Mask, motion: SliceMotion, grid: Grid) -> Box:
    """Voxels of the reference that the warped mask can touch."""
    points = np.argwhere(mask.inside).T.astype(np.float64)
    return box_around(motion.push(between(mask.grid, grid, points)), _margin(mask.grid, grid), grid.shape)


def _box_in(mask: Mask, shared: Shared, motion: SliceMotion) -> Box:
    """Voxels of a contrast that the target can touch, and its mask."""
    start = np.array([s.start for s in shared.box], np.float64).reshape(3, 1)
    points: NDArray[np.float64] = np.argwhere(shared.soft > 0).T + start
    moved = between(shared.grid, mask.grid, motion.pull(points))
    target = box_around(moved, _margin(shared.grid, mask.grid), mask.grid.shape)
    own = box_around(np.argwhere(mask.inside).T.astype(np.float64), (0, 0, 0), mask.grid.shape)
    return _union([target, own])


def _margin(origin: Grid, target: Grid) -> NDArray[np.float64]:
    """How far a voxel of one grid reaches in voxels of another, by axis, and one voxel more."""
    steps = np.linalg.inv(target.matrix)[:3, :3] @ origin.matrix[:3, :3]
    reach: NDArray[np.float64] = np.abs(steps).sum(axis=1) + 1
    return reach


def _union(boxes: Sequence[Box]) -> Box:
    full = [b for b in boxes if all(s.stop > s.start for s in b)]
    if not full:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    x, y, z = (slice(min(b[i].start for b in full), max(b[i].stop for b in full)) for i in range(3))
    return (x, y, z)


def _weight(mask: Mask, how: SoftGroundTruth) -> float:
    return 1.0 if how.weights == "equal" else 1.0 / mask.grid.voxel_volume


def _extent(mask: Mask) -> str:
    """Where a mask lies, for messages."""
    world = mask.grid.world(np.argwhere(mask.inside))
    low, high = world.min(axis=0), world.max(axis=0)
    parts = (f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("RAS", low, high, strict=True))
    return f"{', '.join(parts)} mm"
