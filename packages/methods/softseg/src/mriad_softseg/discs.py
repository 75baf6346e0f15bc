"""Disc labels of the reference in the grid of another contrast, each by its centre.

Carried as voxels by nearest neighbour, a label of one voxel can fall between slices of 5 mm and be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_softseg.sampling import between

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mriad_softseg.average import Shared
    from mriad_softseg.masks import Mask


def centres(labels: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
    """Value → mean voxel position (3,) of the voxels that have it; 0 is background."""
    return {int(v): np.argwhere(labels == v).mean(axis=0) for v in np.unique(labels) if v != 0}


def carried(
    points: Mapping[int, NDArray[np.float64]], shared: Shared, contrast: str
) -> tuple[NDArray[np.uint16], list[int]]:
    """Points of the reference as single voxels of a contrast, and the values that found no place.

    Args:
        points: value → voxel position in the axes of the reference's file.
        shared: of the person.
        contrast: whose grid is meant; the result (X, Y, Z) has the axes of its file.

    A point outside the image is lost, and so is one whose voxel another has taken (thick slices).
    """
    mask, motion = shared.masks[contrast], shared.warped[contrast].motion
    out = np.zeros(mask.grid.shape, np.uint16)
    lost = []
    for value, point in sorted(points.items()):
        place = _slices_last(point, shared.masks[shared.reference])[:, None]
        voxel = np.rint(between(shared.grid, mask.grid, motion.pull(place))[:, 0]).astype(int)
        if (voxel < 0).any() or (voxel >= out.shape).any() or out[tuple(voxel)]:
            lost.append(value)
        else:
            out[tuple(voxel)] = value
    return mask.back(out), lost


def _slices_last(point: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    order = [*(i for i in range(3) if i != mask.axis), mask.axis]
    return np.asarray(point, np.float64)[order]
