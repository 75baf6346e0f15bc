"""Paired effect sizes with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from mriad_eval.statistics.series import Interval, require_spread, series

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class EffectSize:
    """An effect size, its interval and n persons. name: "rank biserial" or "standardised mean difference"."""

    name: str
    value: float
    interval: Interval
    n: int


def rank_biserial(differences: ArrayLike, *, level: float = 0.95) -> EffectSize:
    """Matched-pairs rank biserial correlation (W⁺ − W⁻)/(W⁺ + W⁻), −1 to 1 (Kerby, Comprehensive Psychology 2014).

    The interval inverts the score test with Var(r) = (1 − r²)·2(2n + 1)/(3n(n + 1)), the variance of Wilcoxon's
    statistic at r = 0; it stays inside [−1, 1] and keeps a width where all signs agree, which a bootstrap does not.
    Zeros are dropped; all zero: r is 0 with the widest interval.

    Args:
        differences: (n,) one a person, finite.
        level: of the interval.

    Raises:
        DataError: NaN or infinite values, or none.
    """
    d = series("the rank biserial correlation", differences, least=1)
    kept = d[d != 0]
    n = len(kept)
    if n == 0:
        return EffectSize("rank biserial", 0.0, Interval(-1.0, 1.0, level, "score"), len(d))
    ranks = stats.rankdata(np.abs(kept))
    value = float((ranks * np.sign(kept)).sum() / ranks.sum())
    v = float(stats.norm.ppf((1 + level) / 2)) ** 2 * 2 * (2 * n + 1) / (3 * n * (n + 1))
    half = math.sqrt(v * (1 + v - value**2))
    low, high = (value - half) / (1 + v), (value + half) / (1 + v)
    return EffectSize(
        "rank biserial", value, Interval(max(low, -1.0), min(high, 1.0), level, "score"), len(d)
    )


def standardised_mean_difference(differences: ArrayLike, *, level: float = 0.95) -> EffectSize:
    """Mean of the differences over their SD (Cohen's d_z); interval from the noncentral t distribution.

    d_z·√n is noncentral t with n − 1 degrees of freedom where differences are normal (Cumming and Finch, 2001).

    Args:
        differences: (n,) one a person, finite.
        level: of the interval.

    Raises:
        DataError: NaN, fewer than two persons, or differences that are all equal.
    """
    d = series("the standardised mean difference", differences)
    require_spread("the standardised mean difference", d)
    n = len(d)
    t = float(d.mean() / d.std(ddof=1) * math.sqrt(n))
    tail = (1 - level) / 2
    interval = Interval(
        _noncentrality(t, n - 1, 1 - tail) / math.sqrt(n),
        _noncentrality(t, n - 1, tail) / math.sqrt(n),
        level,
        "noncentral t",
    )
    return EffectSize("standardised mean difference", t / math.sqrt(n), interval, n)


def _noncentrality(t: float, df: int, probability: float) -> float:
    """The noncentrality at which P(T ≤ t) is `probability`; it falls as the noncentrality grows."""

    def excess(shift: float) -> float:
        # Few degrees of freedom and a large t: scipy's series may end in NaN where the probability is 0.
        found = float(stats.nct.cdf(t, df, shift))
        return (0.0 if math.isnan(found) else found) - probability

    low, high = t - 5.0, t + 5.0
    while excess(low) < 0:
        low -= 2 * (t - low)
    while excess(high) > 0:
        high += 2 * (high - t)
    return float(optimize.brentq(excess, low, high, xtol=1e-10))
