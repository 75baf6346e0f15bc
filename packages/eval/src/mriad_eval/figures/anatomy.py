"""Volumes as radiologists look at them: the person faces the reader, so the person's left is on the right.

Arrays are turned by whole axes to "LPI" (i grows to the left, j to the back, k down). Any slice then is an
image with columns to the right and rows downwards: axial [:, :, k], coronal [:, j, :], sagittal [i, :, :],
each transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

Plane = Literal["axial", "coronal", "sagittal"]

_WORLD = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
_ACROSS: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
# What is at the left, right, top and bottom edge of each plane.
_EDGES = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}


@dataclass(frozen=True)
class View:
    """How a grid's axes lie in LPI space."""

    order: tuple[int, int, int]
    """The grid's axis that becomes LPI axis 0, 1, 2."""
    flipped: tuple[bool, bool, bool]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    """mm along the LPI axes."""

    @classmethod
    def of(cls, grid: Grid) -> View:
        """The view of a grid; an oblique one is turned by its nearest axes."""
        codes = grid.orientation
        order = sorted(range(3), key=lambda axis: _WORLD[codes[axis]])
        a, b, c = order
        return cls(
            order=(a, b, c),
            flipped=(codes[a] != "L", codes[b] != "P", codes[c] != "I"),
            shape=(grid.shape[a], grid.shape[b], grid.shape[c]),
            spacing=(grid.spacing[a], grid.spacing[b], grid.spacing[c]),
        )

    def turn(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return (X, Y, Z) or (S, X, Y, Z) in LPI order; a view, nothing is copied."""
        lead = volume.ndim - 3
        turned = volume.transpose(*range(lead), *(lead + axis for axis in self.order))
        for axis in (i for i in range(3) if self.flipped[i]):
            turned = np.flip(turned, lead + axis)
        return turned

    def file_index(self, plane: Plane, index: int) -> tuple[str, int]:
        """The voxel axis ("i", "j", "k") and index of a slice as the file counts it, from 0."""
        across = _ACROSS[plane]
        return "ijk"[self.order[across]], (self.shape[across] - 1 - index if self.flipped[across] else index)

    def pixel(self, plane: Plane) -> tuple[float, float]:
        """Width and height of a pixel in mm."""
        columns, rows = (axis for axis in range(3) if axis != _ACROSS[plane])
        return self.spacing[columns], self.spacing[rows]


def across(plane: Plane) -> int:
    """The LPI axis that a plane cuts across."""
    return _ACROSS[plane]


def edges(plane: Plane) -> str:
    """Letters at the left, right, top and bottom edge."""
    return _EDGES[plane]


def cut(volume: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """Return the slice (rows, columns) of an LPI volume (X, Y, Z)."""
    taken: NDArray[Any] = np.take(volume, index, axis=_ACROSS[plane])
    return taken.T


def slices_through(mask: NDArray[np.bool_], plane: Plane, count: int) -> list[int]:
    """Return up to `count` slice indices spread evenly through a mask (X, Y, Z), ends left out.

    An empty mask gives the middle of the volume.
    """
    axis = _ACROSS[plane]
    found = np.flatnonzero(mask.any(axis=tuple(i for i in range(3) if i != axis)))
    if not found.size:
        return [mask.shape[axis] // 2]
    picks = (np.arange(count) + 0.5) / count * (found.size - 1)
    return sorted({int(found[round(float(p))]) for p in picks})
