"""Intervals of a mean difference with persons and seeds as crossed random effects.

Model of the difference between two variants: d_is = δ + person_i + seed_s + error_is, n persons × S seeds.
Variance of the grand mean: s²_person/n + s²_seed/S, where s²_person is the variance of the persons' means over seeds
(the error of S seeds included) and s²_seed = max(0, (MS_seed − MS_error)/n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

from mriad_eval.statistics.series import Interval, is_constant, table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SHARE_POWER = 1.5
"""Between separate t quantiles (1) and Satterthwaite's weights (2); by coverage, see docs/reference/statistics.md."""


@dataclass(frozen=True)
class CrossedEffects:
    """A mean difference over persons × seeds and its two intervals.

    estimate: grand mean. models: interval for *these trained models*, persons drawn again. method: interval for *the
    method*, persons and seeds drawn again; None with one seed. p_models, p_method: two-sided p of no difference, of
    the same two. p_claim: what a claim needs, never below the others; see `crossed_effects`. person_variance (of
    person means), seed_variance, error_variance: in unit². df: Satterthwaite's effective degrees of freedom of the
    variance behind `method`; n − 1 with one seed.
    """

    estimate: float
    models: Interval
    method: Interval | None
    p_models: float
    p_method: float | None
    p_claim: float
    n_persons: int
    n_seeds: int
    person_variance: float
    seed_variance: float
    error_variance: float
    df: float

    @property
    def wider(self) -> Interval:
        """The interval that a verdict uses: the method's, or with one seed that of these trained models."""
        return self.models if self.method is None else self.method

    @property
    def p(self) -> float:
        """The p-value that belongs to `wider`."""
        return self.p_models if self.p_method is None else self.p_method


def crossed_effects(values: ArrayLike, *, level: float = 0.95) -> CrossedEffects:
    """Return the mean difference with its intervals for these trained models and for the method.

    These trained models: t with n − 1 degrees of freedom on the persons' means over seeds. The method: half-width
    √(t²·(s²_person/n + s²_seed/S)) with t² = (1 − w^1.5)·t²_{n−1} + w^1.5·t²_{S−1}, w the seeds' share of it.
    Satterthwaite's degrees of freedom alone, estimated from two or three seeds, cover too little; they are reported.
    It is never narrower than the first.

    A claim asks for more. Where the seeds' mean square falls below the error's by chance, s²_seed is 0 and two or
    three seeds look like one model; p_claim therefore takes only (S − 2)/(S + 1) of the error's part off. So judged,
    a difference of zero is refused in at most 6 % of studies, whatever carries the variance.

    Folds need no term: seed means average over folds, and
    (MS_person + MS_seed − MS_error)/(nS) estimates the same variance where each fold has models of its own.

    Args:
        values: (n, S) differences, one row a person (cases averaged), one column a seed, finite.
        level: nominal coverage of both.

    Raises:
        DataError: NaN, or fewer than two persons.
    """
    d = table("persons × seeds", np.asarray(values, dtype=np.float64), columns=1)
    n, s = d.shape
    persons, seeds = d.mean(axis=1), d.mean(axis=0)
    estimate = float(d.mean())
    person_variance = 0.0 if is_constant(persons) else float(persons.var(ddof=1))
    error_variance, seed_variance, cautious, df = 0.0, 0.0, 0.0, float(n - 1)
    if s > 1:
        residual = d - persons[:, None] - seeds[None, :] + estimate
        error_variance = float((residual**2).sum()) / ((n - 1) * (s - 1))
        observed = 0.0 if is_constant(seeds) else float(seeds.var(ddof=1))
        seed_variance = max(0.0, observed - error_variance / n)
        cautious = max(0.0, observed - (s - 2) / (s + 1) * error_variance / n)
        df = _satterthwaite(person_variance / n, n - 1, seed_variance / s, s - 1)
    rule = _Rule(person_variance / n, n - 1, seed_variance / s, s - 1)
    only = _Rule(person_variance / n, n - 1, 0.0, 0)
    claim = _Rule(person_variance / n, n - 1, cautious / s, s - 1)
    two = s > 1
    return CrossedEffects(
        estimate=estimate,
        models=_interval(estimate, only.half_width(level), level),
        method=_interval(estimate, rule.half_width(level), level) if two else None,
        p_models=only.p(estimate),
        p_method=rule.p(estimate) if two else None,
        p_claim=claim.p(estimate),
        n_persons=n,
        n_seeds=s,
        person_variance=person_variance,
        seed_variance=seed_variance,
        error_variance=error_variance,
        df=df,
    )


@dataclass(frozen=True)
class _Rule:
    """Variances of the mean by source, with their degrees of freedom."""

    persons: float
    persons_df: int
    seeds: float
    seeds_df: int

    def half_width(self, level: float) -> float:
        tail = (1 + level) / 2
        alone = stats.t.ppf(tail, self.persons_df) ** 2
        if self.seeds == 0.0:
            return math.sqrt(alone * self.persons)
        total = self.persons + self.seeds
        share = (self.seeds / total) ** SHARE_POWER
        squared = (1 - share) * alone + share * stats.t.ppf(tail, self.seeds_df) ** 2
        return math.sqrt(max(squared * total, alone * self.persons))

    def p(self, estimate: float) -> float:
        """1 − level at which the interval's end touches zero."""
        if self.persons + self.seeds == 0.0:
            return 1.0 if estimate == 0.0 else 0.0
        if self.seeds == 0.0:
            return float(2 * stats.t.sf(abs(estimate) / math.sqrt(self.persons), self.persons_df))

        def excess(log_p: float) -> float:
            return self.half_width(1 - math.exp(log_p)) - abs(estimate)

        if estimate == 0.0:
            return 1.0
        smallest = math.log(1e-15)
        if excess(smallest) < 0:
            return 1e-15
        return float(math.exp(optimize.brentq(excess, smallest, 0.0, xtol=1e-9)))


def _interval(estimate: float, half: float, level: float) -> Interval:
    return Interval(estimate - half, estimate + half, level, "t")


def _satterthwaite(persons: float, persons_df: int, seeds: float, seeds_df: int) -> float:
    if persons + seeds == 0.0:
        return float(persons_df)
    return (persons + seeds) ** 2 / (persons**2 / persons_df + seeds**2 / seeds_df)
