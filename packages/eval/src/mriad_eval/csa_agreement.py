"""Agreement of areas, the columns that stand beside `csa_std`: slope, r², ICC, Bland–Altman, detected atrophy.

A constant area has no spread over contrasts. Against the truth it has slope 0, r² 0 and an ICC near 0, and it sees no
atrophy; so comparisons put slope, r² and ICC beside `csa_std` (`comparison.spread`) and never claim it.
`constant_area` makes the control row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from scipy import stats

from mriad_eval.statistics.agreement import (
    BlandAltman,
    IntraclassCorrelation,
    LinearFit,
    bland_altman,
    intraclass_correlation,
    linear_fit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.case_table import Row


@dataclass(frozen=True)
class AreaAgreement:
    """Two areas of the same persons: `second` on `first`, in mm². left_out: persons without both."""

    fit: LinearFit
    icc: IntraclassCorrelation
    limits: BlandAltman
    persons: tuple[str, ...]
    left_out: tuple[str, ...]


def agreement_of(first: Mapping[str, float], second: Mapping[str, float]) -> AreaAgreement:
    """Compare areas by person, such as truth and measurement, or T1w and T2w.

    Args:
        first: person → area, the truth or reference where there is one; NaN and absent persons are left out.
        second: person → area.

    Raises:
        DataError: fewer than three persons have both, or `first` is the same for all.
    """
    everyone = dict.fromkeys([*first, *second])
    use = [p for p in everyone if math.isfinite(first.get(p, math.nan) + second.get(p, math.nan))]
    a, b = ([side[p] for p in use] for side in (first, second))
    return AreaAgreement(
        linear_fit(a, b),
        intraclass_correlation(np.column_stack([a, b])) if len(use) > 1 else _refuse(use),
        bland_altman(b, a),
        tuple(use),
        tuple(p for p in everyone if p not in use),
    )


def _refuse(persons: Sequence[str]) -> IntraclassCorrelation:
    raise DataError("agreement needs several persons", where={"persons with both areas": len(persons)})


def area_by_person(rows: Sequence[Row], metric: str = "csa", contrast: str = "") -> dict[str, float]:
    """Person → mean area over cases: of one contrast, or of all (then NaN where any is not finite).

    Args:
        rows: of the tidy table, one structure and reference.
        metric: key of the metric of area.
        contrast: which one; "" averages a person's contrasts, since the unit is the person.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.metric == metric and row.case and contrast in ("", row.contrast):
            found.setdefault(row.person, []).append(row.value)
    return {person: float(np.mean(values)) for person, values in found.items()}


def constant_area(rows: Sequence[Row], metric: str = "csa") -> list[Row]:
    """The control: rows of a predictor that gives everyone the mean area of these rows."""
    mine = [row for row in rows if row.metric == metric]
    values = [row.value for row in mine if math.isfinite(row.value)]
    mean = float(np.mean(values)) if values else math.nan
    return [replace(row, value=mean, note="") for row in mine]


@dataclass(frozen=True)
class DetectedAtrophy:
    """share: of persons whose loss exceeds `detectable_mm2`. error_mm2: SD of one measurement, from rescans."""

    share: float
    detected: int
    persons: int
    error_mm2: float
    detectable_mm2: float
    mean_loss_percent: float


def detected_atrophy(
    baseline: Mapping[str, float], rescan: Mapping[str, float], atrophied: Mapping[str, float]
) -> DetectedAtrophy:
    """Share of persons in whom a simulated loss of area is seen.

    The measurement's error is s = √(Σ d² / 2n) of n pairs of baseline and rescan. s is itself an estimate, so a loss
    counts from t·√2·s on, t the 95 % point of Student's t with n degrees of freedom (d has mean 0 in unchanged
    persons): 2.35 for n = 3, 1.81 for 10. Normal errors then exceed it by chance in 5 % of unchanged persons of whom
    s tells nothing, and in fewer (4 % for n = 3) where the same baselines are in s and in the losses.

    Args:
        baseline: person → area in mm².
        rescan: person → area in a second session of the same anatomy.
        atrophied: person → area after the loss.

    Raises:
        DataError: fewer than three persons have a finite rescan, or none a finite atrophied area.
    """
    again = [
        rescan[p] - baseline[p] for p in baseline if math.isfinite(rescan.get(p, math.nan) + baseline[p])
    ]
    losses = {
        p: baseline[p] - atrophied[p]
        for p in baseline
        if math.isfinite(atrophied.get(p, math.nan) + baseline[p])
    }
    if len(again) < 3 or not losses:
        raise DataError(
            "detected atrophy needs rescans of at least three persons, and an atrophied area",
            where={"persons with rescan": len(again), "with atrophy": len(losses)},
        )
    error = math.sqrt(sum(d * d for d in again) / (2 * len(again)))
    limit = float(stats.t.ppf(0.95, len(again))) * math.sqrt(2) * error
    seen = sum(loss > limit for loss in losses.values())
    percent = float(np.mean([100 * loss / baseline[p] for p, loss in losses.items()]))
    return DetectedAtrophy(seen / len(losses), seen, len(losses), error, limit, percent)
