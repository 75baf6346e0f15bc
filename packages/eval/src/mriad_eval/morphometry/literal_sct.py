"""Cord area as the Spinal Cord Toolbox 6.0 computes it, for reproduction only: never for a verdict.

Steps (specs/metrics.md section 6; behaviour observed, code our own): axes to right-left, posterior-anterior,
inferior-superior (numbers grow towards left, anterior, superior); pixels made square by linear resampling to
the smaller edge; centre line through the unweighted centres of all voxels that are not 0, by a cubic
smoothing spline; tilts a_AP = atan2(dx·px, pz) and a_RL = atan2(dy·py, pz); each slice squeezed linearly by
the cosines of both tilts; stretched to [0, 1] by its own range; enlarged five times with a Gaussian; area =
sum × pixel area.

Quirks that this repeats: cos·cos is not the true tilt (two tilts of 30°: 3.2 % too small); a soft slice whose
largest value is below 1 is stretched to 1; ends are not dropped; the level of a slice is the rounded mean of
its labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import interpolate, ndimage

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMOOTHING = 30.0
UPSCALE = 5
PAD = 3
NEAR_ZERO = 1e-6


@dataclass(frozen=True, eq=False)
class LiteralSlices:
    """One entry a slice of the grid from inferior to superior (N,), NaN where it has no value.

    area_mm2; angle_ap, angle_rl in degrees.
    """

    area_mm2: Floats
    angle_ap: Floats
    angle_rl: Floats


def literal_area(values: NDArray[np.float32], grid: Grid, *, angle_correction: bool = True) -> LiteralSlices:
    """Measure values (X, Y, Z) in [0, 1]."""
    data, (px, py, pz) = square_pixels(*rpi(values, grid))
    count = data.shape[2]
    out = LiteralSlices(*(np.full(count, np.nan) for _ in range(3)))
    present = np.flatnonzero((data > NEAR_ZERO).any(axis=(0, 1)))
    if not len(present):
        return out
    covered = np.arange(present[0], present[-1] + 1)
    slopes = _slopes(data, covered, pz) if angle_correction else np.zeros((2, len(covered)))
    for (k, dx), dy in zip(zip(covered, slopes[0], strict=True), slopes[1], strict=True):
        ap, rl = np.arctan2(dx * px, pz), np.arctan2(dy * py, pz)
        area = _area(_squeezed(data[:, :, k], np.cos(ap), np.cos(rl)))
        if area is not None:
            out.area_mm2[k] = area * px * py
            out.angle_ap[k], out.angle_rl[k] = np.degrees(ap), np.degrees(rl)
    return out


def literal_levels(labels: NDArray[Any], grid: Grid) -> NDArray[np.int64]:
    """The level of each slice (N,): the rounded mean of its labels that are not 0; 0 where there is none."""
    turned, _ = rpi(labels, grid)
    out = np.zeros(turned.shape[2], dtype=np.int64)
    for k in range(len(out)):
        found = turned[:, :, k][turned[:, :, k] != 0]
        if len(found):
            out[k] = round(float(found.mean()))
    return out


def rpi(values: NDArray[Any], grid: Grid) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Axes to left, anterior, superior, and the voxel size along them (header's float32 precision)."""
    codes = grid.orientation
    order = [next(i for i, c in enumerate(codes) if c in pair) for pair in ("LR", "AP", "SI")]
    turned = np.transpose(values, order)
    for axis, (i, towards) in enumerate(zip(order, "LAS", strict=True)):
        if codes[i] != towards:
            turned = np.flip(turned, axis)
    size = [float(np.float32(grid.spacing[i])) for i in order]
    return turned, (size[0], size[1], size[2])


def square_pixels(
    data: NDArray[Any], size: tuple[float, float, float]
) -> tuple[Floats, tuple[float, float, float]]:
    """Resample in the plane to the smaller edge, linearly, from the first voxel's centre on.

    The number of pixels is rounded, so the new edges are those that fill the field of view, not quite equal.
    """
    out, edges = data.astype(np.float64), list(size)
    for axis in (0, 1):
        count = data.shape[axis]
        finer = max(1, round(count * size[axis] / min(size[:2])))
        if finer == count:
            continue
        places = np.clip(np.arange(finer) * count / finer, 0, count - 1)
        out = interpolate.interp1d(np.arange(count), out, axis=axis)(places)
        edges[axis] = size[axis] * count / finer
    return out, (edges[0], edges[1], edges[2])


def _slopes(data: Floats, covered: NDArray[np.intp], pz: float) -> Floats:
    """Derivatives of the centre line in pixels per slice (2, n) on the covered slices."""
    seen = [k for k in covered if (data[:, :, k] > 0).any()]
    centres = np.array([np.argwhere(data[:, :, k] > 0).mean(0) for k in seen])
    if len(seen) < 2:
        return np.zeros((2, len(covered)))
    degree = 3 if len(seen) > 3 else 1
    s = (len(seen) / len(covered)) ** 2 * SMOOTHING * pz / 3
    splines = [interpolate.splrep(seen, centres[:, i], k=degree, s=s) for i in (0, 1)]
    return np.array([interpolate.splev(covered, spline, der=1) for spline in splines])


def _squeezed(image: Floats, x: float, y: float) -> Floats:
    """Scale the slice by the cosine of its tilt along each axis, about the first pixel, linearly; 0 beyond."""
    return ndimage.affine_transform(image, np.diag([1 / x, 1 / y]), order=1, mode="constant")  # type: ignore[no-any-return]


def _area(image: Floats) -> float | None:
    """Area in pixels after stretching and enlarging; None for an empty slice."""
    low, high = float(image.min()), float(image.max())
    if high < NEAR_ZERO or high == low:
        return None
    stretched = (image - low) / (high - low)
    rows, columns = (np.flatnonzero((stretched > 0.5).any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, r[0] - PAD), r[-1] + 1 + PAD) for r in (rows, columns))
    finer = ndimage.zoom(stretched[box], UPSCALE, order=1, mode="mirror", grid_mode=True)
    finer = ndimage.gaussian_filter(finer, 2 * UPSCALE / 6, mode="mirror")
    return float(finer.sum()) / UPSCALE**2
