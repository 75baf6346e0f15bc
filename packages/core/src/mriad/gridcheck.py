"""Do two volumes share a voxel grid, and if not, on which axis and by how much they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mriad.errors import LabelGeometryError

if TYPE_CHECKING:
    from mriad.geometry import Grid


def require_same_grid(what: str, found: Grid, expected: Grid, place: str = "") -> None:
    """Refuse two grids whose corners lie more than 0.001 mm apart.

    Args:
        what: what lies on `found`: "label", "validity", "channel FLAIR".
        expected: the grid of the image.
        place: the file of `found`, for the message.

    Raises:
        LabelGeometryError: shows both grids, the axis and the difference.
    """
    if found.same(expected):
        return
    short = what.split()[0]
    facts = {
        "image": expected.describe(),
        short: f"{found.describe()}   ← {grid_difference(found, expected)}",
    }
    raise LabelGeometryError(
        f"{what} and image do not share a voxel grid",
        where={**facts, **({"file": place} if place else {})},
        remedy=f"resample the {short} onto the image's grid (labels: nearest neighbour), or copy the image's "
        "header if the voxels are known to match",
    )


def grid_difference(found: Grid, expected: Grid) -> str:
    """Say on which axis and by how much two grids differ: shape first, then spacing, direction, position."""
    for axis in range(3):
        if found.shape[axis] != expected.shape[axis]:
            return f"shape differs on axis {axis}: {found.shape[axis]} instead of {expected.shape[axis]}"
    here, there = np.array(found.spacing), np.array(expected.spacing)
    if np.abs(here - there).max() * max(expected.shape) > 1e-3:
        axis = int(np.abs(here - there).argmax())
        return f"spacing differs on axis {axis} by {abs(here[axis] - there[axis]):.3g} mm"
    cosines = np.clip(((found.matrix[:3, :3] / here) * (expected.matrix[:3, :3] / there)).sum(axis=0), -1, 1)
    degrees = np.degrees(np.arccos(cosines))
    if degrees.max() > 1e-2:
        axis = int(degrees.argmax())
        return f"direction of axis {axis} differs by {degrees[axis]:.3g}°"
    shift = found.matrix[:3, 3] - expected.matrix[:3, 3]
    axis = int(np.abs(shift).argmax())
    return f"position differs by {shift[axis]:+.3g} mm along world {'xyz'[axis]}"
