"""Ranks of several methods over persons: Friedman's test, Nemenyi's pairs, and how stable a ranking is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from scipy import stats

from mriad_eval.statistics.series import is_constant, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NemenyiPair:
    """Two methods: difference of mean ranks (first − second) and Nemenyi's p, corrected for all pairs."""

    first: str
    second: str
    rank_difference: float
    p: float


@dataclass(frozen=True)
class FriedmanNemenyi:
    """Friedman's χ² with k − 1 degrees of freedom and Nemenyi's pairs.

    mean_ranks: 1 is best. critical_difference: mean ranks further apart than this differ at α (Demšar 2006, eq. 2).
    """

    statistic: float
    df: int
    p: float
    n: int
    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    critical_difference: float
    alpha: float
    pairs: tuple[NemenyiPair, ...]


@dataclass(frozen=True)
class RankStability:
    """How often each method takes each place when persons are resampled.

    mean_value: over persons; place: 1 is best, ties share the better place. first: share of resamples in which the
    method is best (ties shared). places: (low, high) between which 95 % of its places lie. kendall_tau: mean
    agreement of the resampled rankings with the observed one, 1 where none differs.
    """

    methods: tuple[str, ...]
    mean_value: tuple[float, ...]
    place: tuple[int, ...]
    first: tuple[float, ...]
    places: tuple[tuple[int, int], ...]
    kendall_tau: float
    n: int
    resamples: int


def friedman_nemenyi(
    values: ArrayLike, methods: Sequence[str], *, higher_is_better: bool, alpha: float = 0.05
) -> FriedmanNemenyi:
    """Rank methods within each person and test whether their mean ranks differ.

    Pairs: q = |R_i − R_j| / √(k(k + 1)/(6n)) · √2 against the studentized range with infinite degrees of freedom
    (Nemenyi 1963; Demšar, JMLR 2006). χ² is an approximation: it is poor below about 10 persons with 3 methods.

    Args:
        values: (n, k) one row a person, one column a method, finite.
        methods: k names.
        higher_is_better: whether the largest value has rank 1.
        alpha: of the critical difference.

    Raises:
        DataError: NaN, fewer than 3 methods or 2 persons, or all methods tied in every person.
    """
    x = table("Friedman's test", values, columns=3)
    n, k = x.shape
    _require_names(methods, k)
    if all(is_constant(row) for row in x):
        raise DataError(
            "Friedman's test: all methods are tied in every person", where={"persons": n, "methods": k}
        )
    ranks = stats.rankdata(-x if higher_is_better else x, axis=1)
    found = stats.friedmanchisquare(*x.T)
    means = ranks.mean(axis=0)
    error = math.sqrt(k * (k + 1) / (6 * n))
    pairs = tuple(
        NemenyiPair(
            methods[i],
            methods[j],
            float(means[i] - means[j]),
            float(stats.studentized_range.sf(abs(means[i] - means[j]) / error * math.sqrt(2), k, np.inf)),
        )
        for i, j in combinations(range(k), 2)
    )
    critical = float(stats.studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2) * error
    return FriedmanNemenyi(
        float(found.statistic),
        k - 1,
        float(found.pvalue),
        n,
        tuple(methods),
        tuple(float(m) for m in means),
        critical,
        alpha,
        pairs,
    )


def rank_stability(
    values: ArrayLike, methods: Sequence[str], *, higher_is_better: bool, resamples: int = 2000, seed: int = 0
) -> RankStability:
    """Rank methods by their mean and see how the ranking moves when persons are drawn again.

    Persons alone are resampled, never folds, seeds or images.

    Args:
        values: (n, k) one row a person, one column a method, finite.
        methods: k names.
        higher_is_better: whether the largest mean is best.
        resamples: how many.
        seed: of the draws; the same seed gives the same result.

    Raises:
        DataError: NaN, fewer than 2 methods or 2 persons.
    """
    x = table("the stability of ranks", values)
    n, k = x.shape
    _require_names(methods, k)
    sign = -1.0 if higher_is_better else 1.0
    observed = x.mean(axis=0)
    place = stats.rankdata(sign * observed, method="min").astype(int)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = counts @ x / n
    drawn = stats.rankdata(sign * means, method="min", axis=1).astype(int)
    best = drawn == 1
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="inverted_cdf").astype(int)
    agreement = [
        np.sign(means[:, i] - means[:, j]) * np.sign(observed[i] - observed[j])
        for i, j in combinations(range(k), 2)
        if observed[i] != observed[j]
    ]
    return RankStability(
        tuple(methods),
        tuple(float(m) for m in observed),
        tuple(int(p) for p in place),
        tuple(float(f) for f in first),
        tuple((int(a), int(b)) for a, b in zip(low, high, strict=True)),
        float(np.mean(agreement)) if agreement else 1.0,
        n,
        resamples,
    )


def _require_names(methods: Sequence[str], columns: int) -> None:
    if len(methods) != columns:
        raise DataError("names and columns differ", where={"names": len(methods), "columns": columns})
