"""Volume of a structure in mm³: soft (the sum of uncut values) and of the mask above one half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Volumes:
    """soft_mm3: voxel volume × Σ p. binary_mm3: voxel volume × number of voxels > .5 (a tie is background)."""

    soft_mm3: float
    binary_mm3: float
    voxels: int


def volumes_of(values: NDArray[np.float32], grid: Grid) -> Volumes:
    """Measure values (X, Y, Z) in [0, 1]; the voxel volume comes from the affine."""
    voxel = grid.voxel_volume
    count = int(np.count_nonzero(values > 0.5))
    return Volumes(voxel * float(values.sum(dtype=np.float64)), voxel * count, count)
