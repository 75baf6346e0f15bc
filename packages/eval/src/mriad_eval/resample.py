"""A prediction onto the grid of its reference, where the user asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray


def onto_grid(channels: NDArray[np.float32], grid: Grid, goal: Grid) -> NDArray[np.float32]:
    """Return channels (S, X, Y, Z) on `goal`; 0 outside `grid`.

    Masks of 0 and 1 take the nearest voxel, soft maps are interpolated linearly; values keep their range.
    """
    if grid.same(goal):
        return channels
    hard = bool(((channels == 0) | (channels == 1)).all())
    matrix = np.linalg.inv(grid.matrix) @ goal.matrix  # voxel of the goal → voxel of the prediction
    out = np.empty((len(channels), *goal.shape), dtype=np.float32)
    for channel, target in zip(channels, out, strict=True):
        ndimage.affine_transform(
            channel,
            matrix[:3, :3],
            offset=matrix[:3, 3],
            output_shape=goal.shape,
            output=target,
            order=0 if hard else 1,
            mode="constant",
            cval=0.0,
        )
    return out
