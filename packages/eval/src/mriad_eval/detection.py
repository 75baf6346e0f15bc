"""Lesion-wise detection by an explicit matching rule.

Lesions are the connected components of a mask (face connectivity); those not strictly larger than a volume are
dropped from both sides. A lesion L of one side is detected by the other side's lesions K₁, K₂, … if

1. more than α of its volume is covered by them, and
2. taken by decreasing overlap with L until γ of that overlap is explained, each has at most β of its volume outside
   all lesions of L's side.

Sensitivity is the share of reference lesions that are detected, the positive predictive value the share of predicted
lesions that are, with the roles exchanged, and F1 their harmonic mean (Commowick et al., Scientific Reports 2018, "MS
segmentation challenge", section on lesion detection). Ties in the overlap take the one that is more outside first, so
that the order of voxels means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from mriad_eval.masks import Masks

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

_FACES = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class Rule:
    """When a lesion counts as detected: see the module. Shares in [0, 1], the volume in mm³."""

    alpha: float = 0.10
    beta: float = 0.70
    gamma: float = 0.65
    larger_than_mm3: float = 3.0


@dataclass(frozen=True)
class Detection:
    """Numbers of lesions: in reference and prediction, and of each those that are detected; volumes in mm³."""

    reference: int
    prediction: int
    reference_detected: int
    prediction_detected: int
    reference_mm3: float
    prediction_mm3: float

    @classmethod
    def of(cls, pair: StructurePair, rule: Rule) -> Detection:
        """Match the lesions of a pair, once a rule."""
        return pair.shared(f"eval.detection {rule}", lambda p: _detection(p, rule))

    @property
    def note(self) -> str:
        """The situation in lesions, not voxels: specks below the volume are none."""
        if self.prediction:
            return "" if self.reference else "false positive"
        return "miss" if self.reference else "empty"

    @property
    def sensitivity(self) -> float:
        """Share of reference lesions that are detected; NaN without any."""
        return self.reference_detected / self.reference if self.reference else math.nan

    @property
    def predictive_value(self) -> float:
        """Share of predicted lesions that are lesions of the reference; NaN without any."""
        return self.prediction_detected / self.prediction if self.prediction else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where nothing is detected, NaN without lesions on either side."""
        if not self.reference and not self.prediction:
            return math.nan
        if not self.reference_detected or not self.prediction_detected:
            return 0.0
        return 2 * self.sensitivity * self.predictive_value / (self.sensitivity + self.predictive_value)


def _detection(pair: StructurePair, rule: Rule) -> Detection:
    masks = Masks.of(pair)
    p, n_p = lesions(masks.prediction, masks.voxel_volume, rule.larger_than_mm3)
    g, n_g = lesions(masks.reference, masks.voxel_volume, rule.larger_than_mm3)
    # Entry (i, j): voxels of reference lesion i and predicted lesion j; 0 is what is no lesion.
    table = np.bincount((g * (n_p + 1) + p).ravel(), minlength=(n_g + 1) * (n_p + 1)).reshape(
        n_g + 1, n_p + 1
    )
    return Detection(
        reference=n_g,
        prediction=n_p,
        reference_detected=detected(table, rule),
        prediction_detected=detected(table.T, rule),
        reference_mm3=float(table[1:].sum()) * masks.voxel_volume,
        prediction_mm3=float(table[:, 1:].sum()) * masks.voxel_volume,
    )


def lesions(
    mask: NDArray[np.bool_], voxel_volume: float, larger_than: float
) -> tuple[NDArray[np.int64], int]:
    """Components (face connectivity) with more than a volume in mm³, numbered from 1, and how many there are."""
    labels, count = ndimage.label(mask, _FACES)
    volumes = np.bincount(labels.ravel(), minlength=count + 1) * voxel_volume
    kept = volumes > larger_than * (1 + 1e-9)  # strictly, whatever the rounding of the voxel volume
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    return numbers[labels], int(kept.sum())


def detected(table: NDArray[np.int64], rule: Rule) -> int:
    """How many lesions of the rows are detected by those of the columns; row and column 0 are the outside."""
    sizes, covered = table.sum(axis=1), table[:, 1:].sum(axis=1)
    outside = table[0] / np.maximum(table.sum(axis=0), 1)
    count = 0
    for row in range(1, len(table)):
        if not covered[row] > rule.alpha * sizes[row]:
            continue
        columns = np.flatnonzero(table[row, 1:]) + 1
        order = columns[np.lexsort((-outside[columns], -table[row, columns]))]
        before = np.cumsum(table[row, order]) - table[row, order]  # explained when each is looked at
        looked_at = order[before < rule.gamma * covered[row]]
        count += bool((outside[looked_at] <= rule.beta).all())
    return count


def lesion_f1(pair: StructurePair, rule: Rule) -> tuple[float, str]:
    """Return F1 over lesions."""
    found = Detection.of(pair, rule)
    return found.f1, found.note


def lesion_sensitivity(pair: StructurePair, rule: Rule) -> tuple[float, str]:
    """Return the share of reference lesions that are detected."""
    found = Detection.of(pair, rule)
    return found.sensitivity, found.note


def lesion_predictive_value(pair: StructurePair, rule: Rule) -> tuple[float, str]:
    """Return the share of predicted lesions that are true."""
    found = Detection.of(pair, rule)
    return found.predictive_value, found.note


def false_positives(pair: StructurePair, rule: Rule) -> tuple[float, str]:
    """Return the number of predicted lesions that are not detected in the reference."""
    found = Detection.of(pair, rule)
    return float(found.prediction - found.prediction_detected), found.note


def lesion_count(pair: StructurePair, rule: Rule, side: str) -> tuple[float, str]:
    """Return the number of lesions on one side."""
    found = Detection.of(pair, rule)
    return float(found.prediction if side == "prediction" else found.reference), found.note


def lesion_load(pair: StructurePair, rule: Rule, side: str) -> tuple[float, str]:
    """Return the volume of the lesions of one side in mm³."""
    found = Detection.of(pair, rule)
    return (found.prediction_mm3 if side == "prediction" else found.reference_mm3), found.note
