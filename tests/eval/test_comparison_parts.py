"""What a comparison may not be fooled by: slices without rows, coinciding ratios, spreads that a constant wins."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from comparison_tables import as_assd, row, table
from mriad_eval.comparison import Question, Trial, TrialTable, compare
from mriad_eval.comparison.persons import measure_of, person_values
from mriad_eval.comparison.render import json_text, markdown

DICE = Question("dice", "base")


def slices(variant: str, *, false_positives: bool, metric: str = "dice_2d", lost: int = 0) -> Trial:
    """Eight persons with the structure in slices 0 to 9; a variant may find something in 10 to 19 too."""
    rows = []
    for p in range(8):
        for part in range(lost, 20 if false_positives else 10):
            wrong = part >= 10
            value = 0.0 if wrong else 0.995 + 0.0001 * p
            plain = row(f"p{p}", value, metric=metric, part=str(part), note="false positive" if wrong else "")
            if metric == "assd_2d":
                plain = replace(as_assd(plain), metric=metric, value=math.nan if wrong else 0.5)
            rows.append(plain)
        rows.append(row(f"p{p}", 0.9))  # the case was tested, whatever its slices hold
    return Trial(variant, "0", "0", tuple(rows), name=variant)


def test_a_slice_without_a_row_is_perfect_against_a_false_positive() -> None:
    """By hand: B is right in all 20 slices, in 10 of them by finding nothing; A is wrong in these 10."""
    both = TrialTable((slices("A", false_positives=True), slices("B", false_positives=False)))
    found = compare(both, Question("dice_2d", "A"))
    figures = {f.variant: f for f in found.figures if f.measure.metric == "dice_2d"}
    assert figures["A"].mean == pytest.approx(0.4977, abs=1e-4)
    assert figures["B"].mean == pytest.approx(0.9954, abs=1e-4)
    assert figures["A"].counted == pytest.approx(0.4977, abs=1e-4)
    assert figures["B"].counted == pytest.approx((10 * 0.99535 + 10 * 1) / 20)
    assert (figures["A"].undefined, figures["B"].undefined) == (0, 0)
    assert found.differences[0].better
    assert not any("counted at their worst" in note for note in found.notes)


def test_a_slice_without_a_row_has_no_distance_against_a_false_positive() -> None:
    both = TrialTable(
        tuple(slices(v, false_positives=v == "A", metric="assd_2d") for v in "AB"),
    )
    measure = measure_of(both, "assd_2d")
    values = person_values(both, measure, ["A", "B"], {})
    assert values["A"].counted == pytest.approx((10 * 0.5 + 10 * 70) / 20)
    assert values["B"].counted == pytest.approx(0.5 * 10 / 20)


def test_a_case_without_any_slice_is_perfect_against_a_false_positive() -> None:
    """A healthy person: B finds nothing anywhere, so that its case has no row of the metric at all."""
    trials = [slices(v, false_positives=False) for v in "AB"]
    healthy = [
        replace(
            t, rows=tuple(r for r in t.rows if r.person != "p7" or not r.part), name=f"{t.variant} healthy"
        )
        for t in trials
    ]
    wrong = row("p7", 0.0, metric="dice_2d", part="3", note="false positive")
    both = TrialTable((replace(healthy[0], rows=(*healthy[0].rows, wrong)), healthy[1]))
    values = person_values(both, measure_of(both, "dice_2d"), ["A", "B"], {})
    assert values["A"].counted[7, 0] == 0
    assert values["B"].counted[7, 0] == 1


def test_a_lost_slice_of_the_reference_still_counts_at_its_worst() -> None:
    """A row that is gone where the other shows that there is something to find: no way to a better mean."""
    both = TrialTable((slices("A", false_positives=False), slices("B", false_positives=False, lost=2)))
    values = person_values(both, measure_of(both, "dice_2d"), ["A", "B"], {})
    assert values["B"].counted.mean() == pytest.approx(0.8 * values["A"].counted.mean())
    assert values["B"].undefined == 16


def f1_table() -> TrialTable:
    """Twelve persons with few lesions: F1 takes the values 1/2 and 2/3, so that many agree in all trials."""
    ratios = (1 / 2, 2 / 3)

    def trial(variant: str, offset: int) -> Trial:
        rows = tuple(
            row(f"p{p:02d}", ratios[(p // 2 + offset) % 2], metric="lesion_f1", case=f"p{p:02d}_FLAIR")
            for p in range(12)
        )
        return Trial(variant, "0", "0", rows, name=variant)

    return TrialTable((trial("base", 0), trial("new", 1)))


def test_small_ratios_that_coincide_merge_nobody_and_are_said() -> None:
    found = compare(f1_table(), Question("lesion_f1", "base"))
    assert found.same_persons == {}
    assert found.differences[0].n == 12
    (note,) = [n for n in found.notes if "same values in every trial" in n]
    assert "p00 = p01 = p04 = p05 = p08 = p09" in note
    assert note.endswith("each is counted")


def test_distances_on_a_grid_merge_nobody() -> None:
    """√2, √3, √5, √6, 1.5: what voxels of 1 and .5 mm give; five values, all coarse."""
    values = [math.sqrt(2), math.sqrt(3), math.sqrt(5), math.sqrt(6), 1.5]

    def trial(variant: str) -> Trial:
        kind = {"metric": "hd95", "unit": "mm", "direction": "lower", "worst": 70.0}
        rows = [
            row(f"p{p}", v, **kind, case=f"p{p}_{c}", contrast=str(c))
            for p in range(8)
            for c, v in enumerate(values)
        ]
        return Trial(variant, "0", "0", tuple(rows), name=variant)

    found = compare(TrialTable((trial("base"), trial("new"))), Question("hd95", "base"))
    assert found.same_persons == {}
    assert found.differences[0].n == 8


def test_equal_voxels_merge_where_values_would_not() -> None:
    coarse = f1_table()
    voxels = {f"p{p:02d}_FLAIR": f"hash{p // 2}" for p in range(12)}
    found = compare(replace(coarse, voxels=voxels), Question("lesion_f1", "base"))
    assert found.differences[0].n == 6


def spread_table(*, errors: bool = True, areas: bool = True) -> TrialTable:
    """Areas of 12 persons in two contrasts: a method with noise, and a constant, which has no spread at all."""
    rng = np.random.default_rng(1)
    truth = 60 + 2.5 * np.arange(12)

    def trial(variant: str, seed: str) -> Trial:
        rows = []
        for p, true in enumerate(truth):
            name, found = f"p{p:02d}", []
            for contrast in ("T1w", "T2w"):
                area = 77.0 if variant == "constant" else 0.95 * true + 2 + rng.standard_normal()
                found.append(area)
                place = {"case": f"{name}_{contrast}", "contrast": contrast, "unit": "mm2"}
                if areas:
                    rows.append(row(name, area, **place, metric="csa", direction="none", worst=math.nan))
                if errors:
                    error = {"metric": "csa_abs_error", "direction": "lower", "worst": 100.0}
                    rows.append(row(name, abs(area - true), **place, **error))
                rows.append(row(name, 0.9 + 0.001 * p, case=place["case"], contrast=contrast))
            kind = {"metric": "csa_std", "unit": "mm2", "direction": "lower", "worst": 44.0}
            sd = 0.0 if variant == "constant" else float(np.std(found, ddof=1))
            rows.append(row(name, sd, case="", contrast="", **kind))
        return Trial(variant, "0", seed, tuple(rows), name=f"{variant}-{seed}")

    trials = tuple(trial(v, s) for v in ("method", "constant") for s in "012")
    return TrialTable(trials, "phantom", "E2")


def test_a_constant_wins_no_claim_by_its_spread() -> None:
    found = compare(spread_table(), Question("csa_std", "method"))
    (verdict,) = found.verdicts
    assert found.differences[0].p_adjusted < 0.05  # what it would have been claimed by
    assert found.differences[0].better
    assert not verdict.claim
    assert verdict.outcome == "spread alone"
    assert (
        "a spread alone rewards a constant: csa_std is never claimed without agreement with the reference"
        in verdict.text
    )
    by = {a.variant: a for a in found.agreements}
    assert (by["constant"].slope, by["constant"].r2) == (pytest.approx(0, abs=1e-9), pytest.approx(0))
    assert abs(by["constant"].icc) < 1e-9
    assert by["constant"].n == 12
    truth, seen = 60 + 2.5 * np.arange(12), areas_of(spread_table(), "method")
    assert by["method"].slope == pytest.approx(np.polyfit(truth, seen, 1)[0])
    assert by["method"].r2 == pytest.approx(np.corrcoef(truth, seen)[0, 1] ** 2)
    assert by["method"].icc > 0.95
    assert "constant slope 0.00, r² 0.00, ICC" in markdown(found)
    assert "share of detected 2 % atrophy" in markdown(found)
    assert json.loads(json_text(found))["agreements"][0]["quantity"] == "csa"
    assert found.ranks is not None


def areas_of(trials: TrialTable, variant: str) -> list[float]:
    """Mean area of each person, over contrasts and seeds, from the rows."""
    rows = [r for t in trials.finished(variant) for r in t.rows if r.metric == "csa"]
    return [np.mean([r.value for r in rows if r.person == f"p{p:02d}"]) for p in range(12)]


@pytest.mark.parametrize("lacks", ["errors", "areas"])
def test_a_spread_without_agreement_says_that_it_is_missing_and_has_no_rank(lacks: str) -> None:
    found = compare(spread_table(**{lacks: False}), Question("csa_std", "method"))
    assert not found.verdicts[0].claim
    assert found.agreements == ()
    assert found.ranks is None
    assert any(
        "agreement with the reference (slope, r², ICC) is missing for method, constant: csa and csa_abs_error"
        in note
        for note in found.notes
    )


def test_a_spread_beside_another_primary_has_its_agreement_too() -> None:
    found = compare(spread_table(), Question("csa_abs_error", "method"))
    assert found.verdicts[0].outcome != "spread alone"
    assert {a.metric for a in found.agreements} == {"csa_std"}


def test_a_miss_counts_as_no_area_in_the_agreement() -> None:
    """Leaving it out would make the agreement better."""

    def missed(trial: Trial) -> Trial:
        rows = []
        for r in trial.rows:
            if trial.variant == "method" and r.person == "p03" and r.metric == "csa":
                rows.append(replace(r, value=math.nan, note="miss"))
            elif trial.variant == "method" and r.person == "p03" and r.metric == "csa_abs_error":
                rows.append(replace(r, value=67.5, note="miss"))
            else:
                rows.append(r)
        return replace(trial, rows=tuple(rows))

    whole = spread_table()
    question = Question("csa_std", "method")
    plain = compare(whole, question).agreements[0]
    lost = compare(replace(whole, trials=tuple(missed(t) for t in whole.trials)), question).agreements[0]
    assert (lost.n, lost.left_out) == (12, 0)
    assert lost.r2 < plain.r2 - 0.2


def test_spreads_of_volumes_are_no_claim_either() -> None:
    def volume(r):
        return replace(r, metric="volume", unit="mm3", direction="none", worst=math.nan, value=100 * r.value)

    def error(r):  # the reference: 90 mm³ for p00, one more for each person
        true = 90 + int(r.person[1:])
        kind = {"metric": "rve", "unit": "%", "direction": "toward 0", "worst": -100.0}
        return replace(r, value=100 * (100 * r.value - true) / true, **kind)

    def variation(r):
        return replace(
            r, case="", metric="volume_cv", unit="%", direction="lower", worst=245.0, value=5 * r.value
        )

    whole = table({"base": 0.0, "new": -0.05}, also=[volume, error, variation])
    found = compare(whole, Question("volume_cv", "base"))
    assert found.verdicts[0].outcome == "spread alone"
    assert not found.verdicts[0].claim
    seen = [
        np.mean([r.value for t in whole.finished("new") for r in t.rows if (r.metric, r.person) == key])
        for key in [("volume", f"p{p:02d}") for p in range(12)]
    ]
    by = {a.variant: a for a in found.agreements}
    assert by["new"].slope == pytest.approx(np.polyfit(90 + np.arange(12), seen, 1)[0])


def test_one_trial_with_the_true_area_as_worst_settles_the_reference() -> None:
    """Two equal predictions leave two references possible; `csa_abs_error` has the true area as its worst value."""
    whole = spread_table()
    twins = [
        replace(whole.trials[0], variant="method"),
        replace(whole.trials[0], variant="twin", name="twin"),
    ]
    question = Question("csa_std", "method")
    assert compare(TrialTable(tuple(twins)), question).agreements == ()

    def with_truth(r):
        true = 60 + 2.5 * int(r.person[1:])
        return replace(r, worst=true) if r.metric == "csa_abs_error" else r

    told = tuple(replace(t, rows=tuple(with_truth(r) for r in t.rows)) for t in twins)
    seen = areas_of(TrialTable(told), "twin")
    found = {a.variant: a for a in compare(TrialTable(told), question).agreements}
    assert found["twin"].slope == pytest.approx(np.polyfit(60 + 2.5 * np.arange(12), seen, 1)[0])


def test_an_error_against_a_number_tells_the_reference_too() -> None:
    """`csa_abs_error_of_area_mm2` stands for `csa_abs_error` where that was not measured."""
    plain = spread_table()
    named = replace(
        plain,
        trials=tuple(
            replace(
                t,
                rows=tuple(
                    replace(r, metric="csa_abs_error_of_area_mm2") if r.metric == "csa_abs_error" else r
                    for r in t.rows
                ),
            )
            for t in plain.trials
        ),
    )
    question = Question("csa_std", "method")
    assert compare(named, question).agreements == compare(plain, question).agreements != ()
