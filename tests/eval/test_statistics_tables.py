"""Analysis of variance, ranks and agreement, against worked values, published examples and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from mriad.errors import DataError
from mriad_eval.statistics import (
    bland_altman,
    friedman_nemenyi,
    greenhouse_geisser_epsilon,
    intraclass_correlation,
    linear_fit,
    rank_stability,
    repeated_measures_anova,
)
from scipy import stats
from statsmodels.stats.anova import AnovaRM

WORKED = np.array([(70, 72, 75), (80, 81, 85), (60, 64, 66), (75, 74, 80)], dtype=float)
# Shrout and Fleiss, Psychological Bulletin 1979, table 2: six targets, four judges.
JUDGES = np.array(
    [(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)], dtype=float
)


def test_anova_worked_values() -> None:
    found = repeated_measures_anova(WORKED, ("a", "b", "c"))
    assert found.ss_conditions == pytest.approx(58.5)
    assert found.ss_error == pytest.approx(7.5)
    assert (found.df_conditions, found.df_error) == (2, 6)
    assert found.f == pytest.approx(23.4)
    assert round(found.p, 7) == 0.0014674
    assert round(found.epsilon, 6) == 0.521638
    assert round(found.p_corrected, 7) == 0.0151165


@pytest.mark.parametrize("seed", range(3))
def test_anova_equals_statsmodels(seed: int) -> None:
    x = np.random.default_rng(seed).normal(loc=(0, 0.2, 0.4, 0.1), size=(9, 4))
    frame = pd.DataFrame(
        [(i, j, x[i, j]) for i in range(9) for j in range(4)], columns=["person", "contrast", "value"]
    )
    theirs = AnovaRM(frame, "value", "person", ["contrast"]).fit().anova_table.iloc[0]
    mine = repeated_measures_anova(x)
    assert mine.f == pytest.approx(theirs["F Value"])
    assert mine.p == pytest.approx(theirs["Pr > F"])


def test_two_conditions_are_a_paired_t() -> None:
    x = np.random.default_rng(0).normal(size=(8, 2))
    found = repeated_measures_anova(x)
    t = stats.ttest_rel(x[:, 0], x[:, 1])
    assert found.f == pytest.approx(t.statistic**2)
    assert found.epsilon == 1.0
    assert found.p_corrected == pytest.approx(t.pvalue)
    assert found.post_hoc[0].p == pytest.approx(t.pvalue)


def test_epsilon_is_one_under_sphericity_and_least_for_one_direction() -> None:
    rng = np.random.default_rng(1)
    person, slope = rng.normal(size=(40, 1)), rng.normal(size=(40, 1))
    assert greenhouse_geisser_epsilon(person + rng.normal(size=(40, 3)) * 0.1) > 0.9
    assert greenhouse_geisser_epsilon(person + slope * [0, 1, 2]) == pytest.approx(0.5)


def test_incomplete_persons_are_dropped_and_counted() -> None:
    with_gap = np.vstack([WORKED, (1.0, np.nan, 2.0)])
    found = repeated_measures_anova(with_gap)
    assert (found.n, found.dropped) == (4, 1)
    assert found.f == pytest.approx(23.4)


def test_post_hoc_pairs_are_corrected_together() -> None:
    found = repeated_measures_anova(WORKED, ("a", "b", "c"), correction="bonferroni")
    assert [(p.first, p.second) for p in found.post_hoc] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [stats.ttest_rel(WORKED[:, i], WORKED[:, j]).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [p.p for p in found.post_hoc] == pytest.approx(raw)
    assert [p.p_corrected for p in found.post_hoc] == pytest.approx([min(1.0, 3 * p) for p in raw])
    assert {p.m for p in found.post_hoc} == {3}


def test_anova_bad_input() -> None:
    with pytest.raises(
        DataError, match=r"(?s)no variation within persons.*persons\s+3.*copied or a constant"
    ):
        repeated_measures_anova([[1, 2], [2, 3], [5, 6]])
    with pytest.raises(DataError, match=r"(?s)persons with all conditions.*n too small"):
        repeated_measures_anova([[1, 2], [2, np.nan]])
    with pytest.raises(DataError, match="table of persons × conditions"):
        repeated_measures_anova([1, 2, 3])
    with pytest.raises(DataError, match="names and columns differ"):
        repeated_measures_anova(WORKED, ("a", "b"))


def test_friedman_and_critical_difference() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(14, 4))
    found = friedman_nemenyi(x, "abcd", higher_is_better=True)
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*x.T).statistic)
    # Demšar, JMLR 2006, table 5 (q = 2.569 for four methods) and section 3.2.2 (14 data sets: CD = 1.25).
    assert found.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert round(found.critical_difference, 2) == 1.25
    for pair in found.pairs:
        assert (abs(pair.rank_difference) > found.critical_difference) == (pair.p < 0.05)


def test_ranks_follow_the_direction() -> None:
    x = np.arange(12, dtype=float).reshape(4, 3)  # c is largest in each person
    assert friedman_nemenyi(x, "abc", higher_is_better=True).mean_ranks == (3.0, 2.0, 1.0)
    assert friedman_nemenyi(x, "abc", higher_is_better=False).mean_ranks == (1.0, 2.0, 3.0)
    with pytest.raises(DataError, match="all methods are tied"):
        friedman_nemenyi(np.ones((4, 3)), "abc", higher_is_better=True)


def test_rank_stability() -> None:
    rng = np.random.default_rng(4)
    person = rng.normal(size=(20, 1))
    x = person + rng.normal(size=(20, 3)) * 0.05 + [0.0, 1.0, 1.0]
    found = rank_stability(x, "abc", higher_is_better=True)
    assert found.first[0] == 0.0
    assert found.places[0] == (3, 3)
    assert sum(found.first) == pytest.approx(1.0)
    assert 0 < found.first[1] < 1  # b and c are twins
    assert found == rank_stability(x, "abc", higher_is_better=True)
    same = rank_stability(np.ones((5, 2)), "ab", higher_is_better=True)
    assert same.place == (1, 1)
    assert same.first == (0.5, 0.5)


def test_icc_of_shrout_and_fleiss() -> None:
    """The published .17, .29 and .71; intervals as McGraw and Wong's formulas give them in other programs."""
    expected = {
        "ICC(1,1)": (0.17, -0.133, 0.723),
        "ICC(A,1)": (0.29, 0.019, 0.761),
        "ICC(C,1)": (0.71, 0.342, 0.946),
    }
    for form, (value, low, high) in expected.items():
        found = intraclass_correlation(JUDGES, form)
        assert round(found.value, 2) == value
        assert found.interval.low == pytest.approx(low, abs=6e-4)
        assert found.interval.high == pytest.approx(high, abs=6e-4)
        assert (found.form, found.n, found.raters) == (form, 6, 4)


def test_icc_sees_an_offset_only_in_absolute_agreement() -> None:
    truth = np.array([70.0, 72, 75, 80, 66])
    shifted = np.column_stack([truth, truth + 20])
    assert intraclass_correlation(shifted, "ICC(C,1)").value == pytest.approx(1.0)
    assert intraclass_correlation(shifted, "ICC(A,1)").value < 0.2
    same = intraclass_correlation(np.column_stack([truth, truth]))
    assert same.value == pytest.approx(1.0)
    assert same.interval.low == 1.0
    with pytest.raises(DataError, match="series is constant"):
        intraclass_correlation(np.ones((4, 2)))


def test_bland_altman_by_hand() -> None:
    found = bland_altman([11.0, 12.0, 15.0], [10.0, 12.0, 13.0])  # differences 1, 0, 2
    assert (found.bias, found.sd, found.n) == (1.0, 1.0, 3)
    assert (found.low, found.high) == (pytest.approx(-0.96), pytest.approx(2.96))
    assert found.bias_interval.high == pytest.approx(1 + 4.30265273 / math.sqrt(3))
    assert found.high_interval.high == pytest.approx(2.96 + 4.30265273 * math.sqrt(1 / 3 + 1.96**2 / 4))


def test_bland_altman_sees_an_error_that_grows() -> None:
    truth = np.linspace(50, 90, 20)
    wobble = np.tile([0.2, -0.2], 10)
    assert bland_altman(truth * 1.05 + wobble, truth).slope == pytest.approx(2 * 0.05 / 2.05, abs=2e-3)
    assert bland_altman(truth * 1.05 + wobble, truth).slope_p < 1e-6
    assert bland_altman(truth + 3 + wobble, truth).slope_p > 0.5


def test_linear_fit() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=15)
    y = 3 + 0.9 * x + rng.normal(size=15) * 0.2
    found = linear_fit(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    assert (found.slope, found.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    assert found.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    residual = y - intercept - slope * x
    error = math.sqrt((residual**2).sum() / 13 / ((x - x.mean()) ** 2).sum())
    assert found.slope_interval.high == pytest.approx(slope + stats.t.ppf(0.975, 13) * error)


def test_a_constant_prediction_explains_nothing() -> None:
    found = linear_fit([70.0, 75.0, 80.0], [76.0, 76.0, 76.0])
    assert (found.slope, found.r2, found.intercept) == (0.0, 0.0, 76.0)
    with pytest.raises(DataError, match=r"linear fit \(first series\): the series is constant"):
        linear_fit([76.0, 76.0, 76.0], [70.0, 75.0, 80.0])
