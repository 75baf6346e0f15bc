"""Trials that cannot be compared as they are: one person twice, missing trials, other cases, no reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from comparison_tables import as_assd, table
from mriad.errors import DataError
from mriad_eval.comparison import Question, TrialTable, compare
from mriad_eval.comparison.render import markdown

DICE = Question("dice", "base")


def sentence(found) -> str:
    (only,) = found.verdicts
    return only.text


def test_one_person_under_ten_names_is_one_person() -> None:
    """Nine copies of p00: flagged, and n, interval and p are those without them."""
    plain = table({"base": 0.0, "new": 0.02}, n=7)
    copied = replace(
        plain, trials=tuple(replace(t, rows=(*t.rows, *copies_of(t.rows, 9))) for t in plain.trials)
    )
    found, alone = compare(copied, DICE), compare(plain, DICE)
    assert found.differences[0].n == alone.differences[0].n == 7
    for name in ("estimate", "p_models", "p_method"):
        copies, single = (getattr(f.differences[0].effects, name) for f in (found, alone))
        assert copies == pytest.approx(single, rel=1e-9)
    assert len(found.same_persons) == 9
    assert set(found.same_persons.values()) == {"p00"}
    assert (
        "one person stands under 10 names, with the same voxels or values: counted once each" in found.notes
    )
    assert "7 persons × 3 seeds" in sentence(found)


def copies_of(rows, count):
    return [
        replace(r, person=f"copy{k}", case=r.case.replace("p00", f"copy{k}"))
        for k in range(count)
        for r in rows
        if r.person == "p00"
    ]


def test_the_same_voxels_are_the_same_person_whatever_was_predicted() -> None:
    plain = table({"base": 0.0, "new": 0.02}, n=8)
    voxels = {f"p{i:02d}_T1w": f"hash{i // 2}" for i in range(8)}  # each person under two names
    found = compare(replace(plain, voxels=voxels), DICE)
    assert found.differences[0].n == 4
    assert found.same_persons == {"p01": "p00", "p03": "p02", "p05": "p04", "p07": "p06"}


def test_equal_round_numbers_prove_nothing() -> None:
    """Persons whom all variants miss, or find perfectly, are not copies of each other."""

    def change(variant, plain):
        if plain.person in ("p00", "p01", "p02"):
            return replace(plain, value=0.0, note="miss")
        return replace(plain, value=1.0) if plain.person in ("p03", "p04") else plain

    assert compare(table({"base": 0.0, "new": 0.0}, change=change), DICE).same_persons == {}


def failed(trials: TrialTable, *names: str) -> TrialTable:
    """The same with some trials failed, by `variant-fold-seed`."""
    return replace(
        trials,
        trials=tuple(
            replace(t, rows=(), status="failed", error="out of memory") if t.name in names else t
            for t in trials.trials
        ),
    )


def test_a_missing_trial_is_named_and_takes_its_seed_out() -> None:
    whole = table({"base": 0.0, "new": 0.05}, n=12, folds=3)
    found = compare(failed(whole, "new-1-2"), DICE)
    d = found.differences[0]
    assert (d.n, d.seeds, d.all_seeds) == (12, ("0", "1"), True)
    assert "; missing: new fold 1 seed 2 (failed)" in sentence(found)
    assert "missing trials: new fold 1 seed 2 (failed)" in found.notes
    without = replace(whole, trials=tuple(t for t in whole.trials if t.name != "new-1-2"))
    assert "new fold 1 seed 2 (absent)" in sentence(compare(without, DICE))


def test_a_lost_fold_takes_its_persons_out_and_no_whole_seed_leaves_only_these_models() -> None:
    whole = table({"base": 0.0, "new": 0.05}, n=12, folds=3)
    found = compare(failed(whole, "new-1-0", "new-1-1", "new-1-2"), DICE)
    d = found.differences[0]
    assert (d.n, d.left_out) == (8, 4)
    assert "8 persons (4 left out: without a value on one side) × 3 seeds" in sentence(found)
    scattered = compare(failed(whole, "new-0-0", "new-1-1", "base-2-2"), DICE)
    assert scattered.differences[0].n == 12
    assert scattered.differences[0].effects.method is None
    assert "12 persons, seeds incomplete" in sentence(scattered)
    assert any("nothing can be said about the method" in note for note in scattered.notes)


def test_a_variant_without_any_finished_trial_is_not_compared() -> None:
    whole = table({"base": 0.0, "new": 0.05, "lost": 0.0})
    found = compare(failed(whole, "lost-0-0", "lost-0-1", "lost-0-2"), DICE)
    assert len(found.verdicts) == 1
    assert found.differences[0].m == 1
    assert "not compared, since no trial finished: lost" in found.notes


def test_a_reference_that_is_missing_or_failed() -> None:
    whole = table({"base": 0.0, "new": 0.05})
    with pytest.raises(
        DataError, match=r"(?s)reference 'old' is not among the variants.*base, new.*--reference"
    ):
        compare(whole, Question("dice", "old"))
    broken = failed(whole, "base-0-0", "base-0-1", "base-0-2")
    with pytest.raises(
        DataError, match=r"(?s)reference 'base' has no finished trial.*failed: out of memory.*resume"
    ):
        compare(broken, DICE)
    with pytest.raises(DataError, match=r"(?s)two variants with values.*with values\s+base"):
        compare(failed(whole, "new-0-0", "new-0-1", "new-0-2"), DICE)


def test_a_metric_that_no_case_has() -> None:
    whole = table({"base": 0.0, "new": 0.0})
    with pytest.raises(
        DataError, match=r"(?s)no case has the metric 'csa_std'.*metrics\s+dice.*evaluate again"
    ):
        compare(whole, Question("csa_std", "base"))
    with pytest.raises(DataError, match=r"(?s)no case has the metric 'dice/csf'.*structures\s+cord"):
        compare(whole, Question("dice/csf", "base"))
    lacking = table({"base": 0.0, "new": 0.0}, change=lambda v, r: as_assd(r) if v == "new" else r)
    with pytest.raises(DataError, match=r"(?s)no value of dice.*variants without one\s+new"):
        compare(lacking, DICE)


def test_what_is_no_ground_for_a_verdict() -> None:
    def area(_, plain):
        return replace(plain, metric="csa", unit="mm²", direction="none", worst=math.nan)

    with pytest.raises(DataError, match=r"(?s)'csa' is a measurement.*csa_abs_error"):
        compare(table({"base": 0.0, "new": 0.0}, change=area), Question("csa", "base"))
    named = table({"base": 0.0, "new": 0.0}, change=lambda _, r: replace(r, metric="anima_literal_asd"))
    with pytest.raises(DataError, match=r"(?s)literal metric.*no ground for a verdict.*plain metric"):
        compare(named, Question("anima_literal_asd", "base"))


def test_different_test_cases_are_named() -> None:
    a, b = table({"base": 0.0}, n=6), table({"new": 0.0}, n=7)
    with pytest.raises(
        DataError, match=r"(?s)test cases differ.*only in new fold 0 seed 0\s+p06_T1w \(1\).*one split"
    ):
        compare(TrialTable(a.trials + b.trials), DICE)
    unfolded = TrialTable(a.trials + tuple(replace(t, fold="") for t in b.trials))
    with pytest.raises(DataError, match=r"(?s)test cases differ.*base seed 0 lacks\s+p06_T1w"):
        compare(unfolded, DICE)
    # Deleting rows of a fifth of the predictions is no way to a better mean either.
    gone = table(
        {"base": 0.0, "new": 0.0},
        change=lambda v, r: None if v == "new" and r.person in ("p01", "p02") else r,
    )
    with pytest.raises(DataError, match=r"(?s)test cases differ.*p01_T1w, p02_T1w \(2\)"):
        compare(gone, DICE)


def test_two_runs_of_one_trial() -> None:
    whole = table({"base": 0.0, "new": 0.0}, seeds=1)
    twice = TrialTable((*whole.trials, replace(whole.trials[1], name="new-again")))
    with pytest.raises(
        DataError, match=r"(?s)two runs stand for the same.*new fold 0 seed 0.*new-again.*NAME=RUN"
    ):
        compare(twice, DICE)


def test_several_references_must_be_chosen_between() -> None:
    both = table(
        {"base": 0.0, "new": 0.05}, also=[lambda r: replace(r, reference="soft", value=r.value - 0.01)]
    )
    assert compare(both, DICE).primary.reference == "truth"  # claims use the truth where it is there
    soft = compare(both, replace(DICE, against="soft"))
    assert "dice against soft" in sentence(soft)
    assert "phantom (E2, but not against the truth)" in sentence(soft)
    assert "dice vs truth" in markdown(soft)
    other = TrialTable(
        tuple(
            replace(
                t,
                rows=tuple(
                    replace(r, reference="own" if r.reference == "truth" else r.reference) for r in t.rows
                ),
            )
            for t in both.trials
        )
    )
    with pytest.raises(DataError, match=r"(?s)measured against several references.*own, soft.*name one"):
        compare(other, DICE)
    with pytest.raises(DataError, match="was not measured against 'gold'"):
        compare(both, replace(DICE, against="gold"))
