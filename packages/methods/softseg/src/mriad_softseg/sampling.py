"""Linear samples of a volume at points, and points of one grid in another: what composed warps need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    Box = tuple[slice, slice, slice]

ON_VOXEL = 1e-6
"""A point this near to a voxel's centre, in voxels, is on it: rounding must not blur an exact copy."""


def points_of(box: Box) -> NDArray[np.float64]:
    """Voxel coordinates (3, X, Y, Z) of a box."""
    ranges = [np.arange(s.start, s.stop, dtype=np.float64) for s in box]
    return np.stack(np.meshgrid(*ranges, indexing="ij"))


def between(origin: Grid, target: Grid, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (3, ...) in voxels of one grid as voxels of another, through world space."""
    matrix = np.linalg.inv(target.matrix) @ origin.matrix
    moved: NDArray[np.float64] = np.tensordot(matrix[:3, :3], points, axes=1)
    return moved + matrix[:3, 3].reshape(3, *[1] * (points.ndim - 1))


def sampled(volume: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation of (X, Y, Z) at points (3, ...); 0 outside, never the value of the edge."""
    near = np.rint(points)
    points = np.where(np.abs(points - near) < ON_VOXEL, near, points)
    source = volume.view(np.uint8) if volume.dtype == np.bool_ else volume
    out: NDArray[np.float64] = ndimage.map_coordinates(
        source, points, np.float64, order=1, mode="grid-constant", cval=0.0, prefilter=False
    )
    return out


def box_around(
    points: NDArray[np.float64], margin: Sequence[float] | NDArray[np.float64], shape: Sequence[int]
) -> Box:
    """The voxels of a grid that lie within `margin` (voxels, by axis) of points (3, N); may be empty."""
    if not points.size:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    low = np.floor(points.min(axis=1) - margin).astype(int)
    high = np.ceil(points.max(axis=1) + margin).astype(int) + 1
    low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    x, y, z = (slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    return (x, y, z)
