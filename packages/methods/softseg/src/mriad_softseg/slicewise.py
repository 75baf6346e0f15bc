"""Slice-wise alignment of two masks by their centres of mass, and the motion that it finds.

Source: the public script's `sct_register_multimodal` with `algo=centermass`: translation within each axial slice of
the reference, no smoothing along the cord. Rotation by principal axes is an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROUND = 1.1
"""A section whose principal axes differ by less than this factor has no direction."""


@dataclass(frozen=True, eq=False)
class SliceMotion:
    """A rigid motion within each slice of the reference; it does not move anything along the cord.

    `pull` maps a point of the reference to where the same tissue lies in the contrast, both in reference voxels
    (slices last); `push` is its exact inverse. centre, shift: (Z, 2) in mm of the first two axes. angle: (Z,) in
    radians, from the first axis to the second. spacing: of the first two axes, mm. measured: bool (Z,), slices
    that have both masks. Between slices all of it is interpolated linearly; beyond the ends it is held.
    """

    centre: NDArray[np.float64]
    shift: NDArray[np.float64]
    angle: NDArray[np.float64]
    spacing: tuple[float, float]
    measured: NDArray[np.bool_]

    @classmethod
    def still(cls, slices: int, spacing: Sequence[float]) -> SliceMotion:
        """No motion."""
        none = np.zeros((slices, 2))
        return cls(none, none, np.zeros(slices), (spacing[0], spacing[1]), np.ones(slices, bool))

    def pull(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (3, ...) of the reference → points of the contrast."""
        centre, shift, cosine, sine = self._at(points[2])
        x, y = points[0] * self.spacing[0] - centre[0], points[1] * self.spacing[1] - centre[1]
        return np.stack(
            [
                (centre[0] + shift[0] + cosine * x - sine * y) / self.spacing[0],
                (centre[1] + shift[1] + sine * x + cosine * y) / self.spacing[1],
                points[2],
            ]
        )

    def push(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (3, ...) of the contrast → points of the reference."""
        centre, shift, cosine, sine = self._at(points[2])
        x = points[0] * self.spacing[0] - centre[0] - shift[0]
        y = points[1] * self.spacing[1] - centre[1] - shift[1]
        return np.stack(
            [
                (centre[0] + cosine * x + sine * y) / self.spacing[0],
                (centre[1] - sine * x + cosine * y) / self.spacing[1],
                points[2],
            ]
        )

    @property
    def largest_shift(self) -> float:
        """Longest shift of a measured slice, mm."""
        moved = np.linalg.norm(self.shift, axis=1)[self.measured]
        return float(moved.max(initial=0.0))

    def _at(self, z: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
        slices = np.arange(len(self.angle))

        def at(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.interp(z, slices, values)

        centre, shift = (tuple(at(v[:, i]) for i in range(2)) for v in (self.centre, self.shift))
        if not self.angle.any():
            return centre, shift, 1.0, 0.0
        angle = at(self.angle)
        return centre, shift, np.cos(angle), np.sin(angle)


def align(
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    spacing: Sequence[float],
    origin: Sequence[int] = (0, 0),
    rotation: Literal["none", "pca"] = "none",
    gaps: Literal["linear", "zero"] = "linear",
) -> SliceMotion | None:
    """Find the motion that brings each slice of the moving mask onto the fixed one; None where none has both.

    A slice counts as segmented where a voxel exceeds ½; its centre is that of the weights, not of the mask cut at ½
    as in SCT: between thick slices, whose interpolation is a ramp, that centre would jump.

    Args:
        fixed: weights (X, Y, Z) in [0, 1] of the reference.
        moving: the contrast's mask, interpolated on the same voxels.
        spacing: of the first two axes, mm.
        origin: place of voxel (0, 0) in the reference's grid.
        rotation: "pca": also the angle between principal axes, less than 90° either way.
        gaps: motion of slices that lack a mask; see `SoftGroundTruth`.
    """
    a, b = _sections(fixed, spacing, origin), _sections(moving, spacing, origin)
    measured = a.there & b.there
    if not measured.any():
        return None
    shift = np.where(measured[:, None], b.centre - a.centre, np.nan)
    angle = np.zeros(len(measured))
    if rotation == "pca":
        turn = b.angle - a.angle
        # Axes have no sign: the smaller of the two turns that make them parallel.
        turn = (turn + np.pi / 2) % np.pi - np.pi / 2
        turn[~measured] = np.nan
        angle = _filled(turn, gaps)
    centre = np.stack([_filled(np.where(a.there, a.centre[:, i], np.nan), "linear") for i in range(2)], 1)
    shift = np.stack([_filled(shift[:, i], gaps) for i in range(2)], 1)
    return SliceMotion(centre, shift, angle, (float(spacing[0]), float(spacing[1])), measured)


@dataclass(frozen=True, eq=False)
class _Sections:
    """there: bool (Z,). centre: (Z, 2) mm. angle: (Z,) of the long axis, NaN where the section is round."""

    there: NDArray[np.bool_]
    centre: NDArray[np.float64]
    angle: NDArray[np.float64]


def _sections(weights: NDArray[np.float64], spacing: Sequence[float], origin: Sequence[int]) -> _Sections:
    x = (np.arange(weights.shape[0]) + origin[0]) * spacing[0]
    y = (np.arange(weights.shape[1]) + origin[1]) * spacing[1]
    there = weights.max(axis=(0, 1), initial=0.0) > 0.5
    total = np.where(there, weights.sum(axis=(0, 1)), 1.0)
    rows, columns = weights.sum(axis=1), weights.sum(axis=0)  # (X, Z), (Y, Z)
    cx, cy = x @ rows / total, y @ columns / total
    xx = x**2 @ rows / total - cx**2
    yy = y**2 @ columns / total - cy**2
    xy = np.einsum("i,j,ijk->k", x, y, weights) / total - cx * cy
    spread = np.hypot((xx - yy) / 2, xy)
    middle = (xx + yy) / 2
    long = np.sqrt(np.maximum(middle + spread, 0)) >= ROUND * np.sqrt(np.maximum(middle - spread, 0))
    angle = np.where(there & long, np.arctan2(2 * xy, xx - yy) / 2, np.nan)
    return _Sections(there, np.stack([cx, cy], 1), angle)


def _filled(values: NDArray[np.float64], gaps: Literal["linear", "zero"]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    if gaps == "zero" or not known.any():
        return np.where(known, values, 0.0)
    place = np.arange(len(values))
    return np.interp(place, place[known], values[known])
