"""Calibration of soft output near the boundary: what share of the voxels called p is truth.

Voxels within some mm of the reference's boundary are put into bins of equal width by their prediction. In each bin
stand the mean prediction and the mean target (the truth fraction where the target is one). Far from the boundary all
is background or structure, so scores over the whole image say nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from mriad_eval.distances import boundary
from mriad_eval.masks import Masks, box_around, mask_of

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CalibrationBins:
    """voxels: number in each bin, (N,). predicted, target: their mean p and g, NaN in a bin without voxels.

    Bins of several cases add up with `+`. note: as in every metric.
    """

    voxels: NDArray[np.int64]
    predicted: NDArray[np.float64]
    target: NDArray[np.float64]
    note: str = ""

    @classmethod
    def of(cls, pair: StructurePair, bins: int = 10, within_mm: float = 3.0) -> CalibrationBins:
        """The bins of a pair: [0, 1/N), …, [1 − 1/N, 1]; voxels whose centre lies within `within_mm` of a voxel of
        the boundary of {g > .5}, inside and outside, where annotated."""
        return pair.shared(f"eval.calibration {bins} {within_mm}", lambda p: _bins(p, bins, within_mm))

    def __add__(self, other: CalibrationBins) -> CalibrationBins:
        """The bins of both sets of voxels."""
        voxels = self.voxels + other.voxels
        means = []
        for mine, theirs in ((self.predicted, other.predicted), (self.target, other.target)):
            total = np.nan_to_num(mine) * self.voxels + np.nan_to_num(theirs) * other.voxels
            means.append(np.where(voxels > 0, total / np.maximum(voxels, 1), np.nan))
        return CalibrationBins(voxels, means[0], means[1])

    @property
    def error(self) -> float:
        """Σ_b n_b·|mean p − mean g| / Σ n_b; NaN without voxels."""
        total = int(self.voxels.sum())
        if not total:
            return math.nan
        return float((self.voxels * np.abs(np.nan_to_num(self.predicted - self.target))).sum() / total)


def _bins(pair: StructurePair, bins: int, within_mm: float) -> CalibrationBins:
    note = Masks.of(pair).note
    nothing = np.zeros(bins, dtype=np.int64), np.full(bins, np.nan), np.full(bins, np.nan)
    if note in ("empty", "false positive"):
        return CalibrationBins(*nothing, note)
    near, box = _near_boundary(pair, within_mm)
    p = np.asarray(pair.prediction[box][near], dtype=np.float64)
    g = np.asarray(pair.reference[box][near], dtype=np.float64)
    place = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    voxels = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (p, g)]
    predicted, target = (np.where(voxels > 0, total / np.maximum(voxels, 1), np.nan) for total in sums)
    return CalibrationBins(voxels, predicted, target, note)


def _near_boundary(pair: StructurePair, within_mm: float) -> tuple[NDArray[np.bool_], tuple[slice, ...]]:
    """Annotated voxels near the boundary of the reference's mask, in a box of the image, and that box."""
    mask, spacing = mask_of(pair.reference, pair.validity), pair.grid.spacing
    box = tuple(
        slice(max(s.start - math.ceil(within_mm / mm), 0), s.stop + math.ceil(within_mm / mm))
        for s, mm in zip(box_around(mask), spacing, strict=True)
    )
    valid = None if pair.validity is None else pair.validity[box]
    flat = tuple(n == 1 for n in mask.shape)
    surface = boundary(mask[box], valid, flat)
    if not surface.any():  # it fills all that is annotated
        surface = boundary(mask[box], None, flat)
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~surface, sampling=spacing) <= within_mm * (
        1 + 1e-9
    )
    return (near if valid is None else near & valid), box


def calibration_error(pair: StructurePair, bins: int, within_mm: float) -> tuple[float, str]:
    """Return Σ_b n_b·|mean p − mean g| / Σ n_b; a miss has none, since an even 0 must not do well."""
    found = CalibrationBins.of(pair, bins, within_mm)
    return (math.nan if found.note else found.error), found.note


def calibration_curve(
    pair: StructurePair, bins: int, within_mm: float, quantity: str
) -> list[tuple[int, float, str]]:
    """Return one value a bin that holds voxels: its number, mean p, mean g or number of voxels."""
    found = CalibrationBins.of(pair, bins, within_mm)
    values = {"predicted": found.predicted, "target": found.target, "voxels": found.voxels}[quantity]
    return [(int(b), float(values[b]), found.note) for b in np.flatnonzero(found.voxels)]
