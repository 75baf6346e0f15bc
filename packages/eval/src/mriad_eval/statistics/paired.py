"""Paired tests on one value a person: Wilcoxon's signed ranks and Student's t, two-sided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mriad_eval.statistics.series import Interval, pairs, require_spread, series

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_EXACT_WITH_TIES = 13
"""Up to this n all 2ⁿ signs are counted where |d| has ties or zeros; beyond, the normal approximation."""


@dataclass(frozen=True)
class WilcoxonResult:
    """Wilcoxon signed-rank test, two-sided; zeros are dropped, tied ranks averaged.

    statistic: W = min(W⁺, W⁻). method: "exact", "exact with ties" (all 2ⁿ signs), "normal approximation", or
    "all differences are zero" (then p is 1). n: persons; zeros: of them without a difference. attainable:
    the smallest p that n persons can give.
    """

    statistic: float
    p: float
    method: str
    n: int
    zeros: int
    attainable: float


@dataclass(frozen=True)
class PairedTResult:
    """Student's t on paired differences, two-sided. mean, sd (n − 1) and interval: of the differences."""

    t: float
    df: int
    p: float
    mean: float
    sd: float
    n: int
    interval: Interval


def smallest_wilcoxon_p(n: int) -> float:
    """The smallest two-sided p that n differences without ties can give, 2/2ⁿ: .25 at 3, .0625 at 5."""
    return min(1.0, 2.0 ** (1 - n))


def wilcoxon_signed_rank(differences: ArrayLike) -> WilcoxonResult:
    """Test whether paired differences lie symmetrically around zero (Wilcoxon, Biometrics Bulletin 1945).

    Exact for n ≤ 50 without ties or zeros, and for n ≤ 13 with them; otherwise the normal approximation with
    tie correction, without continuity correction (the default of scipy).

    Args:
        differences: (n,) one a person, finite.

    Raises:
        DataError: NaN or infinite values, or none.
    """
    d = series("Wilcoxon's signed-rank test", differences, least=1)
    zeros = int((d == 0).sum())
    attainable = smallest_wilcoxon_p(len(d))
    if zeros == len(d):
        return WilcoxonResult(0.0, 1.0, "all differences are zero", len(d), zeros, attainable)
    kept = d[d != 0]
    tied = len(np.unique(np.abs(kept))) < len(kept)
    if not tied and len(kept) <= 50:
        method, how = "exact", "exact"
    elif len(kept) <= _EXACT_WITH_TIES:
        # 2ⁿ ≤ 8192 sign patterns are fewer than n_resamples, so that all are counted and nothing is random.
        method, how = stats.PermutationMethod(n_resamples=10_000), "exact with ties"
    else:
        method, how = "asymptotic", "normal approximation"
    found = stats.wilcoxon(kept, zero_method="wilcox", correction=False, method=method)
    return WilcoxonResult(float(found.statistic), float(found.pvalue), how, len(d), zeros, attainable)


def paired_t(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> PairedTResult:
    """Test whether the mean of first − second is zero.

    Args:
        first: (n,) one value a person, finite.
        second: (n,) of the same persons in the same order.
        level: of the interval of the mean difference.

    Raises:
        DataError: different lengths, NaN, fewer than two persons, or differences that are all equal.
    """
    a, b = pairs("the paired t-test", first, second)
    d = a - b
    require_spread("the paired t-test", d)
    found = stats.ttest_rel(a, b)
    low, high = found.confidence_interval(level)
    interval = Interval(float(low), float(high), level, "t")
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    return PairedTResult(float(found.statistic), len(d) - 1, float(found.pvalue), mean, sd, len(d), interval)
