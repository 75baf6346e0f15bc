"""How the metrics join the two sets of surface distances, A from the prediction and B from the reference (mm)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mriad_eval.distances import SurfaceDistances

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

_ROUNDING = 1e-9  # a distance of 3 × 0.1 mm is within a tolerance of 0.3 mm


def asd_from_prediction(pair: StructurePair) -> tuple[float, str]:
    """Return mean A."""
    a, _, note = _directed(pair)
    return (math.nan if note else float(a.mean())), note


def asd_from_reference(pair: StructurePair) -> tuple[float, str]:
    """Return mean B."""
    _, b, note = _directed(pair)
    return (math.nan if note else float(b.mean())), note


def assd_pooled(pair: StructurePair) -> tuple[float, str]:
    """Return (ΣA + ΣB) / (#A + #B)."""
    a, b, note = _directed(pair)
    return (math.nan if note else float((a.sum() + b.sum()) / (a.size + b.size))), note


def assd_mean_of_two(pair: StructurePair) -> tuple[float, str]:
    """Return (mean A + mean B) / 2."""
    a, b, note = _directed(pair)
    return (math.nan if note else float(a.mean() + b.mean()) / 2.0), note


def hausdorff(pair: StructurePair) -> tuple[float, str]:
    """Return max(max A, max B)."""
    a, b, note = _directed(pair)
    return (math.nan if note else float(max(a.max(), b.max()))), note


def percentile_max_of_two(pair: StructurePair, percentile: float) -> tuple[float, str]:
    """Return max(q(A), q(B)), with linear interpolation between ranks."""
    a, b, note = _directed(pair)
    return (
        math.nan if note else float(max(np.percentile(a, percentile), np.percentile(b, percentile)))
    ), note


def percentile_pooled(pair: StructurePair, percentile: float) -> tuple[float, str]:
    """Return q(A ∪ B), with linear interpolation between ranks."""
    a, b, note = _directed(pair)
    return (math.nan if note else float(np.percentile(np.concatenate([a, b]), percentile))), note


def surface_dice(pair: StructurePair, tolerance: float) -> tuple[float, str]:
    """Return (#{A ≤ τ} + #{B ≤ τ}) / (#A + #B); 0 where one of the two is empty."""
    a, b, note = _directed(pair)
    if note:
        return (math.nan if note == "empty" else 0.0), note
    limit = tolerance * (1 + _ROUNDING)
    near = np.count_nonzero(a <= limit) + np.count_nonzero(b <= limit)
    return near / (a.size + b.size), ""


def _directed(pair: StructurePair) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    found = SurfaceDistances.of(pair)
    return found.from_prediction, found.from_reference, found.note
