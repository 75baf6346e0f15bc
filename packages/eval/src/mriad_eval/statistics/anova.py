"""Repeated-measures analysis of variance with one within factor, and Greenhouse–Geisser's correction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from scipy import stats

from mriad_eval.statistics.corrections import correct
from mriad_eval.statistics.paired import paired_t
from mriad_eval.statistics.series import is_constant, require_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from mriad_eval.statistics.corrections import Correction
    from mriad_eval.statistics.series import Floats


@dataclass(frozen=True)
class PostHocPair:
    """One pair of conditions: mean of first − second, paired t (two-sided) raw and corrected, m tests."""

    first: str
    second: str
    difference: float
    t: float
    p: float
    p_corrected: float
    m: int


@dataclass(frozen=True)
class RepeatedMeasuresAnova:
    """F test of k conditions within n complete persons.

    epsilon: Greenhouse–Geisser's, 1/(k − 1) to 1; p_corrected: of F with both degrees of freedom × epsilon.
    dropped: persons left out because a condition had no finite value. ss_*: sums of squares in unit².
    """

    f: float
    df_conditions: int
    df_error: int
    p: float
    epsilon: float
    p_corrected: float
    n: int
    dropped: int
    conditions: tuple[str, ...]
    means: tuple[float, ...]
    ss_conditions: float
    ss_persons: float
    ss_error: float
    post_hoc: tuple[PostHocPair, ...]
    correction: Correction


def repeated_measures_anova(
    values: ArrayLike, conditions: Sequence[str] = (), *, correction: Correction = "holm"
) -> RepeatedMeasuresAnova:
    """Test whether k conditions of the same persons have the same mean.

    F = (SS_conditions/(k − 1)) / (SS_error/((n − 1)(k − 1))) with the person as block; epsilon from the
    double-centred covariance (Greenhouse and Geisser, Psychometrika 1959). Post-hoc pairs are paired t-tests.

    Args:
        values: (n, k), one row a person; a row with NaN is dropped and counted.
        conditions: k names; default: 1 to k.
        correction: over the post-hoc pairs.

    Raises:
        DataError: no (n, k) table with k ≥ 2, fewer than two complete persons, or no variation left to test against.
    """
    what = "repeated-measures ANOVA"
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] < 2:
        raise DataError(
            f"{what} needs a table of persons × conditions",
            where={"shape": given.shape, "expected": "(n, k) with k ≥ 2"},
        )
    names = tuple(conditions) or tuple(str(j + 1) for j in range(given.shape[1]))
    if len(names) != given.shape[1]:
        raise DataError(
            f"{what}: names and columns differ", where={"names": len(names), "columns": given.shape[1]}
        )
    x = given[np.isfinite(given).all(axis=1)]
    n, k = x.shape
    require_count(f"{what} (persons with all conditions)", n, 2)
    mean = x.mean()
    ss_conditions = n * float(((x.mean(axis=0) - mean) ** 2).sum())
    ss_persons = k * float(((x.mean(axis=1) - mean) ** 2).sum())
    residual = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + mean
    ss_error = float((residual**2).sum())
    if is_constant(residual.ravel() + mean):
        raise DataError(
            f"{what}: no variation within persons to test against",
            where={"persons": n, "conditions": ", ".join(names)},
            remedy="all persons change by the same amount: look for a copied or a constant result",
        )
    df1, df2 = k - 1, (n - 1) * (k - 1)
    f = (ss_conditions / df1) / (ss_error / df2)
    epsilon = greenhouse_geisser_epsilon(x)
    return RepeatedMeasuresAnova(
        f=f,
        df_conditions=df1,
        df_error=df2,
        p=float(stats.f.sf(f, df1, df2)),
        epsilon=epsilon,
        p_corrected=float(stats.f.sf(f, df1 * epsilon, df2 * epsilon)),
        n=n,
        dropped=len(given) - n,
        conditions=names,
        means=tuple(float(m) for m in x.mean(axis=0)),
        ss_conditions=ss_conditions,
        ss_persons=ss_persons,
        ss_error=ss_error,
        post_hoc=_post_hoc(x, names, correction),
        correction=correction,
    )


def greenhouse_geisser_epsilon(values: Floats) -> float:
    """(tr C)² / ((k − 1) Σ C²) of the double-centred covariance C of (n, k) complete values; 1 is sphericity."""
    k = values.shape[1]
    centring = np.eye(k) - 1 / k
    c = centring @ np.cov(values, rowvar=False) @ centring
    return float(np.clip(np.trace(c) ** 2 / ((k - 1) * (c**2).sum()), 1 / (k - 1), 1.0))


def _post_hoc(x: Floats, names: tuple[str, ...], correction: Correction) -> tuple[PostHocPair, ...]:
    found = []
    for i, j in combinations(range(x.shape[1]), 2):
        d = x[:, i] - x[:, j]
        if is_constant(d):  # the same change in every person: no spread to hold it against
            t = 0.0 if np.allclose(d, 0.0, atol=1e-12) else math.copysign(math.inf, d[0])
            found.append((i, j, float(d.mean()), t, 1.0 if t == 0 else 0.0))
        else:
            tested = paired_t(x[:, i], x[:, j])
            found.append((i, j, tested.mean, tested.t, tested.p))
    corrected = correct([row[4] for row in found], correction)
    return tuple(
        PostHocPair(names[i], names[j], difference, t, p, adjusted, corrected.m)
        for (i, j, difference, t, p), adjusted in zip(found, corrected.p, strict=True)
    )
