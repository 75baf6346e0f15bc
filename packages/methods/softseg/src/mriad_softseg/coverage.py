"""What a mask covers along the cord: which slices, their ends padded for registration and trimmed for the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

HALF = 0.5
"""Interpolated coverage below this is none: beyond the outer face of the last slice."""
_ROUNDING = 1e-6


def padded(inside: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], Grid]:
    """The mask (X, Y, Z) with its first and last slices repeated once outwards, on a grid longer by a slice an end.

    Only registration reads it, so that the warp is known one slice beyond the mask.
    """
    out = np.pad(inside, ((0, 0), (0, 0), (1, 1)))
    there = np.flatnonzero(inside.any(axis=(0, 1)))
    x, y, z = grid.shape
    if len(there):
        first, last = int(there[0]) + 1, int(there[-1]) + 1
        out[:, :, first - 1], out[:, :, last + 1] = out[:, :, first], out[:, :, last]
    return out, grid.crop((0, 0, -1), (x, y, z + 2))


def coverage_at(annotated: NDArray[np.bool_], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coverage in [0, 1] at positions along the slice axis (voxels), linear, 0 beyond the image.

    The whole plane of an annotated slice is covered, also beyond the sides of the image: a rater saw all of it,
    and a scan with a wider field of view must not call the rest unknown.
    """
    knots = np.arange(-1, len(annotated) + 1)
    values = np.concatenate([[0.0], annotated.astype(np.float64), [0.0]])
    # A position that rounding moved off a slice is on it.
    near = np.rint(position)
    position = np.where(np.abs(position - near) < _ROUNDING, near, position)
    found: NDArray[np.float64] = np.interp(position, knots, values, left=0.0, right=0.0)
    return found


def trimmed(
    segmentation: NDArray[np.float64], coverage: NDArray[np.float64], slices: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both (X, Y, Z) with `slices` slices taken from each end of the coverage, and nothing where it is below ½.

    Segmentation and coverage lose the same slices: otherwise the ends would be diluted, not excluded.
    """
    keep = coverage >= HALF
    there = np.flatnonzero(keep.any(axis=(0, 1)))
    if len(there) and slices:
        keep[:, :, : there[0] + slices] = False
        keep[:, :, there[-1] + 1 - slices :] = False
    return np.where(keep, segmentation, 0.0), np.where(keep, coverage, 0.0)
