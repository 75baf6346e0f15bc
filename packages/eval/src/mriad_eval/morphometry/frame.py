"""How the slices of a grid lie in the world: which voxel axis runs along the body, and what a pixel measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SliceFrame:
    """Slices along the voxel axis nearest to world z, numbered from inferior to superior.

    axis: the voxel axis (0, 1, 2) across slices. flipped: whether its index falls towards superior. normal, right,
    anterior: an orthonormal frame in world space; `normal` is perpendicular to the slice plane and points to
    superior, `right` is world x laid into the plane. pixel_mm2: area of a pixel, from the affine (not from the
    header's rounded voxel sizes, and right for sheared axes). spacing_mm: distance between slice planes.
    """

    grid: Grid
    axis: int
    flipped: bool
    normal: Floats
    right: Floats
    anterior: Floats
    pixel_mm2: float
    spacing_mm: float

    @classmethod
    def of(cls, grid: Grid) -> SliceFrame:
        """The frame of a grid, oblique or not."""
        columns = grid.matrix[:3, :3]
        axis = int(np.argmax(np.abs(columns[2] / np.linalg.norm(columns, axis=0))))
        first, second = (columns[:, i] for i in range(3) if i != axis)
        cross = np.cross(first, second)
        pixel = float(np.linalg.norm(cross))
        normal = cross / pixel * np.sign(cross[2] if abs(cross[2]) > 1e-9 else 1.0)
        step = float(columns[:, axis] @ normal)
        return cls(grid, axis, step < 0, normal, *_in_plane(normal), pixel, abs(step))

    @property
    def count(self) -> int:
        """Number of slices."""
        return self.grid.shape[self.axis]

    def stack(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view (N, A, B) of an array (X, Y, Z): slices from inferior to superior, then the other two axes."""
        moved = np.moveaxis(array, self.axis, 0)
        return moved[::-1] if self.flipped else moved

    def voxels(self, number: Any, in_plane: Any) -> Floats:
        """Voxel coordinates (..., 3) of places (..., 2) in the planes of slices with these numbers (...)."""
        places = np.asarray(in_plane, dtype=np.float64)
        along = np.asarray(number, dtype=np.float64)
        along = self.count - 1 - along if self.flipped else along
        return np.insert(places, self.axis, along, axis=-1)

    def height(self, world: Any) -> Floats:
        """Distance in mm from the plane of slice 0 along the normal, of world points (..., 3)."""
        origin = self.grid.world(self.voxels(0, [0.0, 0.0]))
        out: Floats = (np.asarray(world, dtype=np.float64) - origin) @ self.normal
        return out


def _in_plane(normal: Floats) -> tuple[Floats, Floats]:
    """World right and anterior, laid into the plane across `normal` and made perpendicular."""
    right = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    right /= np.linalg.norm(right)
    return right, np.cross(normal, right)
