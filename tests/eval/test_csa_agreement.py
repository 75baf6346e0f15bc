"""Agreement of areas: what a constant cannot reach."""

import math

import numpy as np
import pytest
from mriad.case_table import Row
from mriad.errors import DataError
from mriad_eval.csa_agreement import agreement_of, area_by_person, constant_area, detected_atrophy

TRUTH = {f"sub-{i}": 70.0 + 3 * i for i in range(6)}


def row(person, contrast, area):
    return Row(f"{person}_{contrast}", person, contrast, "", "cord", "csa", area, "mm2", "none", math.nan)


def test_a_biased_measurement_of_all_persons():
    found = agreement_of(TRUTH, {p: 0.9 * a + 2 for p, a in TRUTH.items()})
    assert (found.fit.slope, found.fit.intercept, found.fit.r2) == (
        pytest.approx(0.9),
        pytest.approx(2),
        pytest.approx(1),
    )
    errors = [0.9 * a + 2 - a for a in TRUTH.values()]
    assert found.limits.bias == pytest.approx(np.mean(errors))
    assert found.limits.high - found.limits.low == pytest.approx(2 * 1.96 * np.std(errors, ddof=1))
    assert 0 < found.icc.value < 1


def test_persons_without_both_are_left_out_and_named():
    second = dict(TRUTH) | {"sub-1": math.nan, "sub-9": 80.0}
    del second["sub-2"]
    found = agreement_of(TRUTH, second)
    assert found.persons == ("sub-0", "sub-3", "sub-4", "sub-5")
    assert found.left_out == ("sub-1", "sub-2", "sub-9")
    with pytest.raises(DataError):
        agreement_of(TRUTH, {"sub-0": 70.0})


def test_the_constant_area_has_no_spread_and_no_agreement():
    rows = [row(p, c, a + d) for p, a in TRUTH.items() for c, d in (("T1w", -1), ("T2w", 1))]
    control = constant_area(rows)
    areas = area_by_person(control)
    assert np.ptp(list(areas.values())) == 0
    found = agreement_of(area_by_person(rows), areas)
    assert (found.fit.slope, found.fit.r2) == (pytest.approx(0), 0.0)
    assert abs(found.icc.value) < 1e-9


def test_areas_of_one_contrast_or_of_all():
    rows = [row("sub-1", "T1w", 70.0), row("sub-1", "T2w", 74.0), row("sub-2", "T1w", math.nan)]
    assert area_by_person(rows)["sub-1"] == 72
    assert math.isnan(area_by_person(rows)["sub-2"])
    assert area_by_person(rows, contrast="T2w") == {"sub-1": 74.0}


def test_detected_atrophy():
    rescan = {p: a + (0.3 if i % 2 else -0.3) for i, (p, a) in enumerate(TRUTH.items())}
    after = {p: 0.98 * a for p, a in TRUTH.items()}
    found = detected_atrophy(TRUTH, rescan, after)
    assert found.error_mm2 == pytest.approx(0.3 / math.sqrt(2))
    assert found.detectable_mm2 == pytest.approx(1.943 * 0.3, rel=1e-3)  # t of 6 degrees of freedom
    assert (found.share, found.mean_loss_percent) == (1.0, pytest.approx(2))
    assert detected_atrophy(TRUTH, {p: a + 3 for p, a in TRUTH.items()}, after).share == 0
    constant = dict.fromkeys(TRUTH, 77.5)
    assert detected_atrophy(constant, constant, constant).share == 0  # sees nothing, whatever its precision
    with pytest.raises(DataError, match=r"(?s)at least three persons.*rescan\s+0"):
        detected_atrophy(TRUTH, {}, after)


@pytest.mark.parametrize("n", [3, 6])
def test_unchanged_persons_are_detected_in_five_percent(n):
    """Simulated with normal errors: 1.645 in place of t would detect 9.9 % with three rescans, 7.6 % with six."""
    rng = np.random.default_rng(0)
    studies, others = 3000, 20
    shares, own = [], []
    for errors in rng.standard_normal((studies, 2, n + others)):
        names = [f"p{i}" for i in range(n + others)]
        first, second = (dict(zip(names, 70 + e, strict=True)) for e in errors)
        rescans, rest = names[:n], names[n:]
        again = {p: second[p] for p in rescans}
        shares.append(detected_atrophy(first, again, {p: second[p] for p in rest}).share)
        third = dict(zip(rescans, 70 + rng.standard_normal(n), strict=True))
        own.append(detected_atrophy(first, again, third).share)
    assert np.mean(shares) == pytest.approx(0.05, abs=0.008)
    assert 0.035 < np.mean(own) < 0.05  # the losses share their baselines with the rescans
