"""Overlap and volume of one structure of one case. Definitions: see the classes in `metrics`.

Every function is a `CaseMetric`: it takes a pair and returns value and note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriad_eval.masks import THRESHOLD, Masks, situation, valid_values

if TYPE_CHECKING:
    import numpy as np
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

NO_BACKGROUND = "incomplete: no annotated background"


def dice(pair: StructurePair) -> tuple[float, str]:
    """Return 2·#(P∩G) / (#P + #G) of the masks > .5."""
    masks = Masks.of(pair)
    if masks.note:
        return (math.nan if masks.note == "empty" else 0.0), masks.note
    return 2.0 * masks.in_both / (masks.in_prediction + masks.in_reference), ""


def sensitivity(pair: StructurePair) -> tuple[float, str]:
    """Return TP / (TP + FN)."""
    masks = Masks.of(pair)
    value = masks.in_both / masks.in_reference if masks.in_reference else math.nan
    return value, masks.note


def precision(pair: StructurePair) -> tuple[float, str]:
    """Return TP / (TP + FP)."""
    masks = Masks.of(pair)
    value = masks.in_both / masks.in_prediction if masks.in_prediction else math.nan
    return value, masks.note


def specificity(pair: StructurePair) -> tuple[float, str]:
    """Return TN / (TN + FP); an empty prediction has none, since finding nothing must not be best."""
    masks = Masks.of(pair)
    negatives = masks.annotated - masks.in_reference
    if masks.note in ("miss", "empty"):
        return math.nan, masks.note
    if not negatives:
        return math.nan, NO_BACKGROUND
    return 1.0 - (masks.in_prediction - masks.in_both) / negatives, masks.note


def rve_binary(pair: StructurePair) -> tuple[float, str]:
    """Return 100·(V_P − V_G)/V_G in % of the masks > .5."""
    masks = Masks.of(pair)
    return _relative(masks.in_prediction, masks.in_reference), masks.note


def ravd_binary(pair: StructurePair) -> tuple[float, str]:
    """Return 100·|V_P − V_G|/V_G in % of the masks > .5."""
    value, note = rve_binary(pair)
    return abs(value), note


def volume_of_prediction(pair: StructurePair) -> tuple[float, str]:
    """Return the volume of the predicted mask > .5 in mm³."""
    masks = Masks.of(pair)
    return masks.in_prediction * masks.voxel_volume, masks.note


def volume_of_reference(pair: StructurePair) -> tuple[float, str]:
    """Return the volume of the reference mask > .5 in mm³."""
    masks = Masks.of(pair)
    return masks.in_reference * masks.voxel_volume, masks.note


@dataclass(frozen=True)
class SoftSums:
    """Sums over valid voxels of uncut soft values p and g, in float64; note as in every other metric."""

    p: float
    g: float
    pp: float
    gg: float
    pg: float
    note: str

    @classmethod
    def of(cls, pair: StructurePair) -> SoftSums:
        """The sums of a pair, computed at the first call."""
        return pair.shared("eval.soft_sums", _soft_sums)


def _soft_sums(pair: StructurePair) -> SoftSums:
    p, g = valid_values(pair.prediction, pair.validity), valid_values(pair.reference, pair.validity)
    note = situation(_found(p, g), bool((g > 0).any()))
    return SoftSums(float(p.sum()), float(g.sum()), float(p @ p), float(g @ g), float(p @ g), note)


def _found(p: NDArray[np.float64], g: NDArray[np.float64]) -> bool:
    """Whether soft values p find anything: a voxel > .5, as in every other metric.

    A reference is present with any value above 0, since a thin structure may nowhere fill half a voxel. Such a
    structure is also found by a value, at one of its voxels, above half of its own largest. Not by any value
    above 0: a network's probabilities are never exactly 0.
    """
    if (p > THRESHOLD).any():
        return True
    largest = g.max(initial=0.0)
    return 0 < largest <= THRESHOLD and bool((p[g > 0] > largest / 2).any())


def soft_dice_linear(pair: StructurePair) -> tuple[float, str]:
    """Return 2Σpg / (Σp + Σg)."""
    sums = SoftSums.of(pair)
    return _soft_dice(sums, sums.p + sums.g)


def soft_dice_squared(pair: StructurePair) -> tuple[float, str]:
    """Return 2Σpg / (Σp² + Σg²)."""
    sums = SoftSums.of(pair)
    return _soft_dice(sums, sums.pp + sums.gg)


def _soft_dice(sums: SoftSums, below: float) -> tuple[float, str]:
    if sums.note == "":
        return 2.0 * sums.pg / below, ""
    return (math.nan if sums.note == "empty" else 0.0), sums.note


def rve_soft(pair: StructurePair) -> tuple[float, str]:
    """Return 100·(V_P − V_G)/V_G in % of volumes v·Σp and v·Σg; −100 for a miss, whatever Σp is."""
    sums = SoftSums.of(pair)
    if sums.note == "miss":  # small values everywhere can sum to the right volume
        return -100.0, sums.note
    return _relative(sums.p, sums.g), sums.note


def ravd_soft(pair: StructurePair) -> tuple[float, str]:
    """Return 100·|V_P − V_G|/V_G in % of soft volumes; 100 for a miss."""
    value, note = rve_soft(pair)
    return abs(value), note


def soft_volume_of_prediction(pair: StructurePair) -> tuple[float, str]:
    """Return v·Σp in mm³."""
    sums = SoftSums.of(pair)
    return sums.p * pair.grid.voxel_volume, sums.note


def soft_volume_of_reference(pair: StructurePair) -> tuple[float, str]:
    """Return v·Σg in mm³."""
    sums = SoftSums.of(pair)
    return sums.g * pair.grid.voxel_volume, sums.note


def _relative(volume_p: float, volume_g: float) -> float:
    """Volumes in any one unit: it cancels."""
    return 100.0 * (volume_p - volume_g) / volume_g if volume_g else math.nan
