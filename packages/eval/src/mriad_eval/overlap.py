"""Overlap and volume of one structure of one case. Definitions: see the classes in `metrics`.

Every function is a `CaseMetric`: prediction and reference (X, Y, Z) in [0, 1], their grid, validity;
returns value, note.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mriad_eval.masks import mask_of, situation, valid_values

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray


def dice(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return 2·#(P∩G) / (#P + #G) of the masks > .5."""
    p, g = mask_of(prediction, validity), mask_of(reference, validity)
    n_p, n_g = int(np.count_nonzero(p)), int(np.count_nonzero(g))
    note = situation(n_p > 0, n_g > 0)
    if note:
        return (math.nan if note == "empty" else 0.0), note
    return 2.0 * int(np.count_nonzero(p & g)) / (n_p + n_g), ""


def soft_dice_linear(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return 2Σpg / (Σp + Σg)."""
    return _soft_dice(prediction, reference, validity, power=1)


def soft_dice_squared(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return 2Σpg / (Σp² + Σg²)."""
    return _soft_dice(prediction, reference, validity, power=2)


def _soft_dice(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    validity: NDArray[np.bool_] | None,
    power: int,
) -> tuple[float, str]:
    p, g = valid_values(prediction, validity), valid_values(reference, validity)
    # A network's probabilities are never exactly 0 everywhere: found means a voxel > .5, as in every other
    # metric. A reference is present with any value above 0, since a thin structure may nowhere fill half a
    # voxel.
    note = situation(bool((p > 0.5).any()), bool((g > 0).any()))
    if note in ("empty", "false positive"):
        return (math.nan if note == "empty" else 0.0), note
    return 2.0 * float(p @ g) / float((p**power).sum() + (g**power).sum()), note


def rve_binary(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return 100·(V_P − V_G)/V_G in % of the masks > .5."""
    p, g = mask_of(prediction, validity), mask_of(reference, validity)
    return _rve(float(np.count_nonzero(p)), float(np.count_nonzero(g)))


def rve_soft(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return 100·(V_P − V_G)/V_G in % of volumes v·Σp and v·Σg."""
    p, g = valid_values(prediction, validity), valid_values(reference, validity)
    v_p, v_g = float(p.sum()), float(g.sum())
    if v_g == 0:  # residual probabilities where there is nothing are not a finding
        return math.nan, situation(bool((p > 0.5).any()), False)
    value, _ = _rve(v_p, v_g)
    return value, situation(bool((p > 0.5).any()), True)


def _rve(volume_p: float, volume_g: float) -> tuple[float, str]:
    """Volumes in any one unit: it cancels."""
    note = situation(volume_p > 0, volume_g > 0)
    if volume_g == 0:
        return math.nan, note
    return 100.0 * (volume_p - volume_g) / volume_g, note
