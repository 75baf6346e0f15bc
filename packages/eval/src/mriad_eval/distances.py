"""Surface distances between two masks in mm, exact, computed once a pair and shared by all metrics that read them.

The boundary of a mask is the mask minus its erosion by the 6-neighbour cross; a voxel at the border of the image is
boundary. Along an axis of one voxel (a single slice) there are no neighbours. Let A be the distances from boundary
voxels of the prediction to the nearest one of the reference, and B the other way.

Two masks worth comparing lie close, so the search goes outward: boundary voxels that both have are at 0, then one
offset after the other in order of length is looked up for those that are left (a gather a voxel), then for the last
few all offsets of a wider ball at once. What is further asks a k-d tree of the other boundary, or a distance
transform of the box where that costs less. Every way gives the same number to rounding; which one is taken depends on
sizes alone, never on time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from mriad_eval.masks import Masks

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

_NEAR = 360  # neighbours looked up one by one: a ball of radius 4.4 voxels where these are cubes
_WIDE = 7200  # neighbours of the wide ball, radius 12, looked up this many at once:
_AT_ONCE = 240
_LAST = 64  # so few are left that going on one by one is not worth it
# Costs of a voxel in seconds, of which only the ratios matter.
_WIDE_LOOK = 1e-4
_TREE_QUERY = 8e-6
_TREE_BUILD = 4e-7
_TRANSFORM = 7e-8


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Directed distances in mm, one a boundary voxel in C order; both empty unless the note is ""."""

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]
    note: str

    @classmethod
    def of(cls, pair: StructurePair) -> SurfaceDistances:
        """The distances of a pair, computed at the first call.

        Axes of the grid are taken as perpendicular, which every scanner's are; a sheared affine measures along
        its axes.
        """
        return pair.shared("eval.surface_distances", _distances)


def _distances(pair: StructurePair) -> SurfaceDistances:
    masks = Masks.of(pair)
    if masks.note:
        return SurfaceDistances(np.empty(0), np.empty(0), masks.note)
    surface_p, surface_g = boundaries(masks)
    both = surface_p & surface_g
    return SurfaceDistances(
        directed(surface_p, surface_g, both, masks.spacing),
        directed(surface_g, surface_p, both, masks.spacing),
        "",
    )


def boundaries(masks: Masks) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Boundary voxels of prediction and reference in the joint box.

    An invalid neighbour is unknown, not background: the edge of an annotation is no surface of the structure. Where
    a mask fills all that is valid, the cut itself is all there is.
    """
    flat = tuple(masks.flat)
    p, g = (boundary(mask, masks.valid, flat) for mask in (masks.prediction, masks.reference))
    if not (p.any() and g.any()):
        p, g = (boundary(mask, None, flat) for mask in (masks.prediction, masks.reference))
    return p, g


def boundary(
    mask: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None, flat: tuple[bool, ...] = (False,) * 3
) -> NDArray[np.bool_]:
    """Mask voxels with a 6-neighbour that is known to be outside; beyond the array is outside.

    flat: axes along which there are no neighbours.
    """
    solid = mask if valid is None else mask | ~valid
    inner = mask.copy()
    for axis in range(mask.ndim):
        if flat[axis]:
            continue
        after, before = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        after[axis], before[axis] = slice(1, None), slice(None, -1)
        inner[tuple(before)] &= solid[tuple(after)]
        inner[tuple(after)] &= solid[tuple(before)]
        first, last = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        first[axis], last[axis] = slice(0, 1), slice(-1, None)
        inner[tuple(first)] = False
        inner[tuple(last)] = False
    found: NDArray[np.bool_] = mask ^ inner
    return found


def directed(
    start: NDArray[np.bool_],
    goal: NDArray[np.bool_],
    both: NDArray[np.bool_],
    spacing: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Distances in mm from every voxel of `start` (C order) to the nearest of `goal`; `both`: their common ones."""
    places = np.flatnonzero(start)
    out = np.zeros(places.size)
    left = np.flatnonzero(~both.ravel()[places])
    offsets, lengths = nearest_offsets(spacing, _NEAR)
    reach = np.abs(offsets).max(axis=0, initial=0)
    padded = np.zeros([n + 2 * int(r) for n, r in zip(goal.shape, reach, strict=True)], dtype=bool)
    padded[tuple(slice(int(r), int(r) + n) for n, r in zip(goal.shape, reach, strict=True))] = goal
    steps = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    flat = padded.ravel()
    voxels = np.stack(np.unravel_index(places[left], start.shape), axis=1)
    at = (voxels + reach) @ steps
    for offset, length in zip(offsets @ steps, lengths, strict=True):
        if left.size <= _LAST:
            break
        hit = flat[at + offset]
        out[left[hit]] = length
        miss = ~hit
        left, at = left[miss], at[miss]
    if left.size:
        voxels = np.stack(np.unravel_index(places[left], goal.shape), axis=1)
        worth = left.size * _WIDE_LOOK < np.count_nonzero(goal) * _TREE_BUILD
        found = _wide(voxels, goal, spacing) if worth else np.full(left.size, np.nan)
        further = np.isnan(found)
        if further.any():
            found[further] = _far(voxels[further], goal, spacing)
        out[left] = found
    return out


def _wide(
    voxels: NDArray[np.int64], goal: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Distances of a few voxels (N, 3) within a wide ball, NaN where nothing is in it."""
    offsets, lengths = nearest_offsets(spacing, _WIDE)
    found = np.full(len(voxels), np.nan)
    left = np.arange(len(voxels))
    for first in range(0, len(offsets), _AT_ONCE):
        around = voxels[left, None] + offsets[first : first + _AT_ONCE]
        inside = ((around >= 0) & (around < goal.shape)).all(axis=2)
        hit = np.zeros(inside.shape, dtype=bool)
        hit[inside] = goal[tuple(around[inside].T)]
        done = hit.any(axis=1)
        found[left[done]] = lengths[first + hit[done].argmax(axis=1)]
        left = left[~done]
        if not left.size:
            break
    return found


def _far(
    voxels: NDArray[np.int64], goal: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Distances of far voxels (N, 3), by whichever of tree and transform costs less for these sizes."""
    size = int(np.count_nonzero(goal))
    if len(voxels) * _TREE_QUERY + size * _TREE_BUILD > goal.size * _TRANSFORM:
        whole: NDArray[np.float64] = ndimage.distance_transform_edt(~goal, sampling=spacing)
        near: NDArray[np.float64] = whole[tuple(voxels.T)]
        return near
    targets = np.stack(np.unravel_index(np.flatnonzero(goal), goal.shape), axis=1)
    tree = KDTree(targets * np.array(spacing), compact_nodes=False, balanced_tree=False)
    found: NDArray[np.float64] = tree.query(voxels * np.array(spacing))[0]
    return found


@lru_cache(maxsize=64)
def nearest_offsets(
    spacing: tuple[float, float, float], wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """About `wanted` nearest neighbours of a voxel (N, 3) without itself, in order of length; and lengths in mm.

    They are complete up to the last length: whatever lies nearer than that is among them.
    """
    radius = (3 * wanted / (4 * math.pi) * math.prod(spacing)) ** (1 / 3)
    reach = [max(int(radius / s), 0) for s in spacing]
    axes = np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij")
    offsets = np.stack([axis.ravel() for axis in axes], axis=1)
    lengths = np.sqrt(((offsets * np.array(spacing)) ** 2).sum(axis=1))
    inside = (lengths > 0) & (lengths <= radius)
    order = np.argsort(lengths[inside], kind="stable")
    return offsets[inside][order], lengths[inside][order]
