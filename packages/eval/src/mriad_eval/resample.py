"""A prediction onto the grid of its reference, where the user asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray


_EDGE = 1e-4  # voxels by which rounding may put a border voxel outside


def onto_grid(channels: NDArray[np.float32], grid: Grid, goal: Grid) -> NDArray[np.float32]:
    """Return channels (S, X, Y, Z) on `goal`; 0 outside the outer faces of `grid`.

    Masks of 0 and 1 take the nearest voxel, soft maps are interpolated linearly; values keep their range. From
    the centre of a border voxel to its outer face its value is held.
    """
    if grid.same(goal):
        return channels
    hard = bool(((channels == 0) | (channels == 1)).all())
    matrix = np.linalg.inv(grid.matrix) @ goal.matrix  # voxel of the goal → voxel of the prediction
    inside = _inside(matrix, grid.shape, goal.shape)
    out = np.empty((len(channels), *goal.shape), dtype=np.float32)
    for channel, target in zip(channels, out, strict=True):
        ndimage.affine_transform(
            channel,
            matrix[:3, :3],
            offset=matrix[:3, 3],
            output_shape=goal.shape,
            output=target,
            order=0 if hard else 1,
            mode="nearest",
        )
        target *= inside
    return out


def _inside(
    matrix: NDArray[np.float64], old: tuple[int, int, int], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Where (X, Y, Z) `matrix @ voxel`, for the voxels of `shape`, lies within the outer faces of `old`."""
    inside = np.ones(shape, dtype=bool)
    i, j, k = (np.arange(n, dtype=np.float64) for n in shape)
    for size, row in zip(old, matrix[:3], strict=True):
        place = row[0] * i[:, None, None] + row[1] * j[None, :, None] + (row[2] * k[None, None] + row[3])
        inside &= (place >= -0.5 - _EDGE) & (place <= size - 0.5 + _EDGE)
    return inside
