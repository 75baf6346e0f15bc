"""Intervals over persons, and over persons and seeds, against hand computation, REML and a plain bootstrap."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad_eval.statistics import bca_interval, crossed_effects, mean_interval, paired_t, t_interval
from scipy import stats


def test_components_by_hand() -> None:
    found = crossed_effects([[1.0, 2.0], [3.0, 6.0]])
    assert found.estimate == 3.0
    assert found.person_variance == 4.5  # of the means 1.5 and 4.5
    assert found.error_variance == pytest.approx(1.0)  # residuals ±.5
    assert found.seed_variance == pytest.approx(2.0 - 1.0 / 2)  # of the means 2 and 4, less the error's part
    persons, seeds = 4.5 / 2, 1.5 / 2
    assert found.df == pytest.approx((persons + seeds) ** 2 / (persons**2 + seeds**2))
    assert found.models.high == pytest.approx(3 + 12.7062047 * math.sqrt(persons))
    assert found.method is not None
    assert found.method.high == pytest.approx(3 + 12.7062047 * math.sqrt(persons + seeds))  # both have 1 df
    assert (found.n_persons, found.n_seeds) == (2, 2)


def test_one_seed_has_one_interval() -> None:
    d = np.random.default_rng(0).normal(0.4, 1, size=9)
    found = crossed_effects(d[:, None])
    t = paired_t(d, np.zeros(9))
    assert found.method is None
    assert found.p_method is None
    assert (found.models.low, found.models.high) == pytest.approx((t.interval.low, t.interval.high))
    assert found.p == found.p_models == pytest.approx(t.p)
    assert found.wider == found.models


def test_components_are_those_of_reml() -> None:
    """In a balanced table with positive components, REML and mean squares agree."""
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(7)
    d = 0.3 + rng.normal(size=(10, 1)) + 0.8 * rng.normal(size=(1, 4)) + 0.6 * rng.normal(size=(10, 4))
    frame = pd.DataFrame(
        [(d[i, s], i, s) for i in range(10) for s in range(4)], columns=["d", "person", "seed"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smf.mixedlm(
            "d ~ 1", frame, groups=np.ones(40), vc_formula={"person": "0 + C(person)", "seed": "0 + C(seed)"}
        )
        theirs = model.fit(reml=True)
    person, seed = theirs.vcomp
    found = crossed_effects(d)
    assert found.error_variance == pytest.approx(theirs.scale, rel=1e-3)
    assert found.seed_variance == pytest.approx(seed, rel=2e-3)
    assert found.person_variance == pytest.approx(person + theirs.scale / 4, rel=2e-3)


@given(st.integers(0, 10_000), st.sampled_from([3, 6, 12]), st.sampled_from([1, 2, 3, 5]))
@settings(deadline=None, max_examples=40)
def test_intervals_and_p_belong_together(seed: int, n: int, s: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.normal(0.5, 1, size=(n, 1)) + rng.normal(0, 0.5, size=(1, s)) + rng.normal(0, 0.5, size=(n, s))
    found = crossed_effects(d)
    assert found.wider.low <= found.models.low + 1e-9  # never narrower than these trained models
    assert found.wider.high >= found.models.high - 1e-9
    assert found.wider.holds(0.0) == (found.p > 0.05)
    assert found.p_claim >= found.p - 1e-9 >= found.p_models - 2e-9
    if 1e-10 < found.p < 1 - 1e-6:
        at_p = crossed_effects(d, level=1 - found.p).wider
        assert min(abs(at_p.low), abs(at_p.high)) == pytest.approx(0, abs=1e-5 * at_p.width)
    moved = crossed_effects(-3 * d + 0.0)
    assert moved.estimate == pytest.approx(-3 * found.estimate)
    assert moved.p == pytest.approx(found.p, rel=1e-5)
    assert moved.wider.low == pytest.approx(-3 * found.wider.high)


def test_many_models_of_folds_are_seen_in_the_seed_means() -> None:
    """Each fold has models of its own: the estimated variance of the mean is still right, without a fold term."""
    rng = np.random.default_rng(3)
    n, folds, s, repeats = 12, 3, 3, 4000
    model = rng.normal(size=(repeats, folds, s))
    d = (
        rng.normal(size=(repeats, n, 1))
        + np.repeat(model, n // folds, axis=1)
        + rng.normal(size=(repeats, n, s))
    )
    persons, seeds, grand = d.mean(2), d.mean(1), d.mean((1, 2))
    residual = d - persons[:, :, None] - seeds[:, None, :] + grand[:, None, None]
    error = (residual**2).sum((1, 2)) / ((n - 1) * (s - 1))
    estimated = persons.var(1, ddof=1) / n + (seeds.var(1, ddof=1) - error / n) / s
    assert estimated.mean() == pytest.approx(grand.var(), rel=0.05)
    assert grand.var() == pytest.approx(1 / n + 1 / (folds * s) + 1 / (n * s), rel=0.06)


def test_no_spread_at_all() -> None:
    same = crossed_effects(np.full((5, 3), 0.25))
    assert (same.models.low, same.models.high, same.p) == (0.25, 0.25, 0.0)
    none = crossed_effects(np.zeros((5, 3)))
    assert (none.estimate, none.p) == (0.0, 1.0)


def test_too_few_or_not_finite() -> None:
    with pytest.raises(DataError, match=r"(?s)persons × seeds: n too small.*at least 2"):
        crossed_effects([[1.0, 2.0]])
    with pytest.raises(DataError, match=r"(?s)finite values only.*1 of 4"):
        crossed_effects([[1.0, 2.0], [np.nan, 1.0]])
    with pytest.raises(DataError, match="n too small"):
        t_interval([1.0])
    with pytest.raises(DataError, match=r"(?s)BCa interval.*at least 3"):
        bca_interval([1.0, 2.0])


def test_the_interval_of_a_mean_says_how_it_was_made() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=49), rng.normal(size=50)
    assert mean_interval(few).method == "t"
    assert mean_interval(many).method == "BCa"
    low, high = stats.t.interval(0.95, 48, few.mean(), stats.sem(few))
    assert (mean_interval(few).low, mean_interval(few).high) == pytest.approx((low, high))
    assert t_interval([2.0, 2.0, 2.0]).width == 0.0


def test_bca_by_its_definition() -> None:
    """Efron 1987, equations 2.3 and 6.6, written out plainly on the median of a skewed sample."""
    x = np.random.default_rng(8).lognormal(size=25)
    found = bca_interval(x, np.mean, resamples=40_000)
    rng = np.random.default_rng(1)
    drawn = np.array([x[rng.integers(0, 25, 25)].mean() for _ in range(40_000)])
    bias = stats.norm.ppf((drawn < x.mean()).mean())
    jack = np.array([np.delete(x, i).mean() for i in range(25)])
    centred = jack.mean() - jack
    a = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    ends = [
        np.quantile(drawn, stats.norm.cdf(bias + (bias + z) / (1 - a * (bias + z))))
        for z in stats.norm.ppf([0.025, 0.975])
    ]
    assert (found.low, found.high) == pytest.approx(ends, rel=0.02)
    assert found == bca_interval(x, np.mean, resamples=40_000)


def test_bca_that_cannot_be_made() -> None:
    assert bca_interval([1.0, 1.0, 1.0]).width == 0.0
    with pytest.raises(DataError, match=r"(?s)BCa interval cannot be made.*distinct values.*t interval"):
        bca_interval([0.0] * 9 + [1.0], np.median)
