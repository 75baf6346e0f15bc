"""Voxel grids in world space.

World is nibabel's: RAS+, millimetres. `affine @ (i, j, k, 1)` is the world position of the *centre* of a voxel.
Axis codes name where an axis *points to* ("RAS": i grows to the right), as nibabel's `aff2axcodes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SAME_GRID_MM = 1e-3  # corners closer than this are the same place (rounding of sform and qform stays below)


@dataclass(frozen=True)
class Grid:
    """A lattice of voxels: `shape` (X, Y, Z) and a 4 × 4 `affine` (row-major tuple) voxel → world RAS mm."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]

    @classmethod
    def of(cls, shape: Sequence[int], affine: Any) -> Grid:
        """Make a grid from anything array-like.

        Raises:
            ValueError: `shape` is not 3 long, `affine` not an invertible finite 4 × 4 matrix.
        """
        matrix = np.asarray(affine, dtype=np.float64)
        if len(shape) != 3 or matrix.shape != (4, 4):
            raise ValueError(f"a grid needs 3 axes and a 4 × 4 affine, not {tuple(shape)} and {matrix.shape}")
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise ValueError(f"the affine is singular or not finite: {matrix.tolist()}")
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), tuple(float(v) for v in matrix.ravel()))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a new (4, 4) float64 array."""
        return np.array(self.affine, dtype=np.float64).reshape(4, 4)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in mm."""
        x, y, z = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.matrix[:3, :3])))

    @property
    def orientation(self) -> str:
        """The nearest anatomical axis codes, such as "RPI"; each letter names where its axis points to."""
        direction = self.matrix[:3, :3] / np.array(self.spacing)
        codes = [""] * 3
        free = {0, 1, 2}
        # Greedy by largest cosine: each world axis is used once, as nibabel does.
        for flat in np.argsort(-np.abs(direction), axis=None, kind="stable"):
            world, axis = divmod(int(flat), 3)
            if world in free and not codes[axis]:
                codes[axis] = ("LPI", "RAS")[int(direction[world, axis] > 0)][world]
                free.discard(world)
        return "".join(codes)

    def world(self, voxels: Any) -> NDArray[np.float64]:
        """Map voxel coordinates (..., 3) to world mm (..., 3)."""
        matrix = self.matrix
        out: NDArray[np.float64] = np.asarray(voxels, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        return out

    def voxels(self, world: Any) -> NDArray[np.float64]:
        """Map world mm (..., 3) to voxel coordinates (..., 3), not rounded."""
        inverse = np.linalg.inv(self.matrix)
        out: NDArray[np.float64] = np.asarray(world, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return out

    def corners(self) -> NDArray[np.float64]:
        """World positions (8, 3) of the centres of the eight corner voxels."""
        last = np.array(self.shape) - 1
        picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
        return self.world(picks * last)

    def distance(self, other: Grid) -> float:
        """Largest distance in mm between the same voxel of two grids of one shape; infinite if shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())

    def same(self, other: Grid, tolerance_mm: float = SAME_GRID_MM) -> bool:
        """Whether every voxel of both grids lies at the same place."""
        return self.distance(other) <= tolerance_mm

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """The grid of the box that begins at voxel `start` (may be negative: padding) and has `shape`."""
        matrix = self.matrix
        matrix[:3, 3] = self.world(np.asarray(start, dtype=np.float64))
        # Not `of`: the axes are as valid as this grid's, and a sampler comes here for every patch.
        x, y, z = shape
        return Grid((int(x), int(y), int(z)), tuple(matrix.ravel().tolist()))

    def describe(self) -> str:
        """One line for messages: shape, spacing, orientation."""
        shape = "×".join(map(str, self.shape))
        spacing = "×".join(f"{s:.4g}" for s in self.spacing)
        return f"{shape}, {spacing} mm, {self.orientation}"
