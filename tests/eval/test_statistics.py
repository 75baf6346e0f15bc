"""Paired tests, corrections, effect sizes and the two-sample test, against worked values and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad_eval.statistics import (
    correct,
    kolmogorov_smirnov,
    paired_t,
    rank_biserial,
    smallest_attainable,
    smallest_wilcoxon_p,
    standardised_mean_difference,
    wilcoxon_signed_rank,
)
from scipy import stats

values = st.lists(st.integers(-40, 40).map(lambda k: k / 4), min_size=1, max_size=9)


def enumerated_p(d: list[float]) -> float:
    """Two-sided p by all sign patterns of the non-zero |d|, ties at their mean rank."""
    kept = [x for x in d if x]
    if not kept:
        return 1.0
    size = [abs(x) for x in kept]
    ranks = [1 + sum(b < a for b in size) + (size.count(a) - 1) / 2 for a in size]
    seen = sum(r for r, x in zip(ranks, kept, strict=True) if x > 0)
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=len(kept))
    ]
    low = sum(s <= seen + 1e-9 for s in sums) / len(sums)
    high = sum(s >= seen - 1e-9 for s in sums) / len(sums)
    return min(1.0, 2 * min(low, high))


def test_wilcoxon_worked_values() -> None:
    found = wilcoxon_signed_rank([1, 2, 3, 4, 5, 6])
    assert (found.statistic, found.p, found.method) == (0.0, 0.03125, "exact")
    found = wilcoxon_signed_rank([-1, 2, 3, 4, 5, 6, 7, 8])
    assert (found.statistic, found.p, found.method) == (1.0, 0.015625, "exact")
    assert found.attainable == 0.0078125


@given(values)
@settings(deadline=None, max_examples=60)
def test_wilcoxon_equals_enumeration(d: list[float]) -> None:
    found = wilcoxon_signed_rank(d)
    assert found.p == pytest.approx(enumerated_p(d), abs=1e-12)
    assert found.p == pytest.approx(wilcoxon_signed_rank([-x for x in d]).p, abs=1e-12)
    assert found.p >= smallest_wilcoxon_p(len(d)) - 1e-12
    assert found.zeros == d.count(0)


def test_wilcoxon_of_many_with_ties_is_approximate() -> None:
    d = np.tile([1.0, 2.0, 2.0, -1.0, 3.0], 4)
    found = wilcoxon_signed_rank(d)
    assert found.method == "normal approximation"
    # By hand: ranks of |d| are 4.5 (8 of size 1), 12.5 (8 of size 2), 18.5 (4 of size 3); W⁻ = 4 · 4.5.
    assert found.statistic == 18.0
    variance = 20 * 21 * 41 / 24 - 2 * (8**3 - 8) / 48 - (4**3 - 4) / 48
    assert found.p == pytest.approx(2 * stats.norm.sf((105 - 18) / math.sqrt(variance)), rel=1e-12)


def test_nothing_differs() -> None:
    found = wilcoxon_signed_rank([0.0, 0.0, 0.0])
    assert (found.p, found.method, found.zeros) == (1.0, "all differences are zero", 3)
    assert rank_biserial([0.0, 0.0]).interval.text() == "[-1.000, 1.000]"


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_smallest_attainable_p(n: int, p: float) -> None:
    assert smallest_wilcoxon_p(n) == p
    assert wilcoxon_signed_rank(range(1, n + 1)).p == p
    assert smallest_attainable(p, 4) == min(1.0, 4 * p)


@pytest.mark.parametrize("test", [wilcoxon_signed_rank, rank_biserial, standardised_mean_difference])
def test_nan_is_refused(test) -> None:
    with pytest.raises(DataError, match=r"(?s)finite values only.*2 of 4.*worst value"):
        test([1.0, math.nan, math.inf, 2.0])


def test_shape_and_count_are_checked() -> None:
    with pytest.raises(DataError, match=r"(?s)one value a person.*\(2, 2\).*average cases"):
        wilcoxon_signed_rank([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(DataError, match=r"(?s)n too small.*persons\s+1.*at least 2"):
        paired_t([1.0], [2.0])
    with pytest.raises(DataError, match=r"(?s)same persons on both sides.*3 values.*2 values"):
        paired_t([1.0, 2.0, 3.0], [1.0, 2.0])


def test_constant_series_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"(?s)paired t-test: the series is constant.*0\.5.*copied or a failed"
    ):
        paired_t([1.5, 2.5, 3.5], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="series is constant"):
        standardised_mean_difference([0.1, 0.1, 0.1])


def test_paired_t_by_hand() -> None:
    found = paired_t([3.0, 5.0, 4.0, 8.0], [1.0, 4.0, 4.0, 5.0])  # differences 2, 1, 0, 3
    assert found.mean == 1.5
    assert found.sd == pytest.approx(math.sqrt(5 / 3))
    assert found.t == pytest.approx(1.5 / math.sqrt(5 / 12))
    assert found.p == pytest.approx(2 * stats.t.sf(found.t, 3))
    assert found.interval.low == pytest.approx(1.5 - 3.182446305 * math.sqrt(5 / 12))


def test_corrections() -> None:
    assert correct([0.01], "bonferroni", 10).p == (0.1,)  # worked value
    holm = correct([0.01, 0.04, 0.03])
    assert holm.p == pytest.approx((0.03, 0.06, 0.06))
    assert (holm.m, holm.method) == (3, "holm")
    assert correct([0.01, 0.04, 0.03], "bonferroni").p == pytest.approx((0.03, 0.12, 0.09))
    assert correct([0.4, 0.6]).p == pytest.approx((0.8, 0.8))
    assert correct([0.01, 0.04], "holm", 3).p == pytest.approx((0.03, 0.08))  # a third test stands at 1
    assert correct([0.03]).p == (0.03,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=10)  # statsmodels collects garbage in every call
def test_holm_by_its_definition(p: list[float]) -> None:
    order = sorted(range(len(p)), key=lambda i: p[i])
    expected, running = [0.0] * len(p), 0.0
    for step, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - step) * p[i]))
        expected[i] = running
    assert correct(p).p == pytest.approx(expected)


@pytest.mark.parametrize(("p", "m"), [([1.2], None), ([math.nan], None), ([], None), ([0.1, 0.2], 1)])
def test_bad_p_values(p: list[float], m: int | None) -> None:
    with pytest.raises(DataError, match=r"p-values in \[0, 1\]|fewer tests than p-values"):
        correct(p, "holm", m)


def test_rank_biserial_by_hand() -> None:
    found = rank_biserial([-1.0, 2.0, 3.0])
    assert found.value == pytest.approx((5 - 1) / 6)
    all_up = rank_biserial([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert all_up.value == 1.0
    assert 0 < all_up.interval.low < 0.5  # all signs agree, yet six persons do not prove r = 1
    assert all_up.interval.high == 1.0
    # The score interval ends where (r − r̂)² = z²·(1 − r²)·Var₀.
    low, variance = found.interval.low, 2 * 7 / (3 * 3 * 4)
    assert (low - found.value) ** 2 == pytest.approx(1.959963985**2 * (1 - low**2) * variance)


@given(values.filter(lambda d: len(set(d)) > 1), st.floats(0.1, 9))
@settings(deadline=None, max_examples=40)
def test_effect_sizes_flip_and_do_not_scale(d: list[float], scale: float) -> None:
    for effect in (rank_biserial, standardised_mean_difference):
        found, turned, scaled = effect(d), effect([-x for x in d]), effect([x * scale for x in d])
        assert turned.value == pytest.approx(-found.value)
        assert turned.interval.low == pytest.approx(-found.interval.high, abs=1e-6)
        assert scaled.value == pytest.approx(found.value)
        assert found.interval.low <= found.value + 1e-9
        assert found.value <= found.interval.high + 1e-9


@pytest.mark.parametrize("shift", [0.0, 0.7, 30.0])
def test_standardised_difference_inverts_the_noncentral_t(shift: float) -> None:
    d = np.random.default_rng(3).normal(size=10) + shift
    found = standardised_mean_difference(d)
    assert found.value == pytest.approx(d.mean() / d.std(ddof=1))
    t = found.value * math.sqrt(10)
    assert stats.nct.sf(t, 9, found.interval.low * math.sqrt(10)) == pytest.approx(0.025, abs=1e-6)
    assert stats.nct.cdf(t, 9, found.interval.high * math.sqrt(10)) == pytest.approx(0.025, abs=1e-6)


def test_kolmogorov_smirnov_worked_value() -> None:
    found = kolmogorov_smirnov([0.1, 0.2, 0.3, 0.4, 0.5], [0.35, 0.45, 0.55, 0.65, 0.75])
    assert found.statistic == pytest.approx(0.6)
    assert round(found.p, 6) == 0.357143
    assert found.n == (5, 5)
