"""Intervals of a statistic over persons: t for a mean of few, BCa otherwise; the method is always named."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError
from scipy import stats

from mriad_eval.statistics.series import Interval, is_constant, series

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

FEW = 50
"""Below so many persons a mean gets its t interval; with 30 normal persons BCa covers .93, t .95."""


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student's interval of the mean; zero width where all values are equal.

    Args:
        values: (n,) one a person, finite.
        level: nominal coverage.

    Raises:
        DataError: NaN or fewer than two persons.
    """
    x = series("a t interval", values)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    if is_constant(x):
        half = 0.0
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level, "t")


def bca_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap over persons (Efron, JASA 1987).

    Persons alone are drawn again. With a percentile bootstrap a nominal 95 % covers about 84 % at n = 6.

    Args:
        values: (n,) one a person, finite.
        statistic: called with values and an `axis`, such as `numpy.median`.
        level: nominal coverage.
        resamples: how many.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        DataError: NaN, fewer than three persons, or an interval that cannot be made from these values.
    """
    x = series("a BCa interval", values, least=3)
    if is_constant(x):
        value = float(statistic(x, axis=0))
        return Interval(value, value, level, "BCa")
    with warnings.catch_warnings():  # a degenerate distribution is said below, in our words
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (x,),
            statistic,
            confidence_level=level,
            n_resamples=resamples,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    if not (np.isfinite(found.low) and np.isfinite(found.high)):
        raise DataError(
            "a BCa interval cannot be made: the statistic hardly changes when persons are drawn again",
            where={"n": len(x), "distinct values": len(np.unique(x))},
            remedy="a t interval of the mean, or more persons",
        )
    return Interval(float(found.low), float(found.high), level, "BCa")


def mean_interval(values: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Interval:
    """The interval of a mean over persons: t under 50, BCa from 50 on; `Interval.method` says which.

    Raises:
        DataError: NaN or fewer than two persons.
    """
    x = series("an interval of a mean", values)
    return t_interval(x, level=level) if len(x) < FEW else bca_interval(x, level=level, seed=seed)
