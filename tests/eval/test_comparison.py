"""Comparisons of trials: what is paired, what counts, what is said, and what is refused."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from comparison_tables import as_assd, row, table
from mriad.errors import DataError
from mriad_eval.comparison import Question, Trial, TrialTable, compare
from mriad_eval.comparison.render import csv_text, json_text, latex, markdown
from mriad_eval.statistics import crossed_effects, wilcoxon_signed_rank

DICE = Question("dice", "base")


def sentence(found) -> str:
    (only,) = found.verdicts
    return only.text


def test_a_clear_difference_is_said_in_one_sentence() -> None:
    found = compare(table({"base": 0.0, "new": 0.05}), DICE)
    (verdict,) = found.verdicts
    assert verdict.claim
    assert verdict.outcome == "difference"
    assert re.fullmatch(
        r"dice against truth: new 0\.04\d higher \(better\) than base \[0\.03\d, 0\.05\d\], "
        r"adjusted p < 0\.001 \(Holm, m = 1\), 12 persons × 3 seeds, phantom \(E2\)",
        verdict.text,
    )


def test_the_numbers_are_those_of_person_means() -> None:
    """Rebuilt from the rows by hand: contrasts averaged within person and seed, folds joined, seeds as columns."""
    trials = table({"base": 0.0, "new": 0.02}, n=9, folds=3, contrasts=("T1w", "T2w"))
    found = compare(trials, DICE).differences[0]
    means: dict[str, np.ndarray] = {}
    for variant in ("base", "new"):
        cells: dict[tuple[str, str], list[float]] = {}
        for trial in trials.finished(variant):
            for r in trial.rows:
                cells.setdefault((r.person, trial.seed), []).append(r.value)
        persons = sorted({person for person, _ in cells})
        means[variant] = np.array([[np.mean(cells[p, s]) for s in "012"] for p in persons])
    d = means["new"] - means["base"]
    expected = crossed_effects(d)
    assert found.effects is not None
    assert found.effects.estimate == pytest.approx(expected.estimate)
    assert found.effects.method is not None
    assert expected.method is not None
    assert found.effects.method.low == pytest.approx(expected.method.low)
    assert found.wilcoxon is not None
    assert found.wilcoxon.p == wilcoxon_signed_rank(d.mean(axis=1)).p
    assert found.p == max(found.wilcoxon.p, expected.p)
    assert (found.n, found.seeds) == (9, ("0", "1", "2"))  # 9 persons: folds and seeds are no persons


def test_direction_lower_and_unit() -> None:
    found = compare(table({"base": 0.0, "new": 0.05}, also=[as_assd]), Question("assd", "base"))
    assert "new 0.093 mm lower (better) than base [0.072, 0.114]" in sentence(found)
    assert found.differences[0].better


def test_metrics_with_a_best_value_compare_sizes_of_errors() -> None:
    """One variant errs by +3 %, the other by −1 %: the second is better, though the means are +3 and −1."""
    rng = np.random.default_rng(0)

    def trial(variant: str, sign: float) -> Trial:
        values = sign * (1 + 0.1 * rng.standard_normal(10))
        kind = {"metric": "rve", "unit": "%", "direction": "toward 0", "worst": -100.0}
        return Trial(variant, "0", "0", tuple(row(f"p{i}", v, **kind) for i, v in enumerate(values)))

    found = compare(TrialTable((trial("over", 3.0), trial("under", -1.0))), Question("rve", "over"))
    assert "|rve − 0| against truth: under 2." in sentence(found)
    assert "% lower (better) than over" in sentence(found)
    figures = {f.variant: f for f in found.figures}
    assert figures["under"].mean == pytest.approx(-1, abs=0.1)  # the sign is kept as bias
    assert figures["under"].counted == pytest.approx(1, abs=0.1)


def test_one_seed_speaks_of_these_models_only() -> None:
    found = compare(table({"base": 0.0, "new": 0.05}, seeds=1), DICE)
    assert found.verdicts[0].outcome == "difference of these models"
    assert sentence(found).endswith("; one seed: this holds for these trained models, not for the method")
    assert found.differences[0].effects.method is None
    assert "– (one seed)" in markdown(found)


def test_seeds_that_disagree_take_the_claim_back() -> None:
    """Persons agree within these models, but models differ more between seeds than the variants do."""
    noisy = table(
        {"base": 0.0, "new": 0.01}, seeds=3, model=0.04, person_by_variant=0.001, error=0.001, rng=5
    )
    found = compare(noisy, DICE)
    assert found.differences[0].wilcoxon_adjusted < 0.05
    assert not found.verdicts[0].claim
    assert "no difference can be claimed between new and base" in sentence(found)
    assert "these trained models differ, but models of other seeds may not" in sentence(found)


@pytest.mark.parametrize(
    ("n", "variants", "p"), [(5, 2, "0.0625"), (3, 2, "0.25"), (6, 3, "0.0625"), (1, 2, "1")]
)
def test_n_too_small_for_any_claim(n: int, variants: int, p: str) -> None:
    names = {"base": 0.0, **{f"new{i}": 0.2 for i in range(variants - 1)}}
    found = compare(table(names, n=n), DICE)
    for verdict in found.verdicts:
        assert verdict.outcome == "n too small"
        assert not verdict.claim
        assert "n too small for any claim" in verdict.text
        assert f"can reach is {p} (α = 0.05)" in verdict.text
        assert f"{n} persons and m = {variants - 1} test" in verdict.text


def test_six_persons_can_just_make_one_claim() -> None:
    found = compare(table({"base": 0.0, "new": 0.2}, n=6), DICE)
    assert found.differences[0].wilcoxon.p == 0.03125
    assert found.verdicts[0].claim


def test_all_comparisons_of_the_primary_are_corrected() -> None:
    found = compare(table({"base": 0.0, "a": 0.05, "b": 0.012, "c": 0.0}, also=[as_assd]), DICE)
    raw = [d.p for d in found.differences]
    order = np.argsort(raw)
    adjusted = np.maximum.accumulate([min(1.0, (3 - k) * raw[i]) for k, i in enumerate(order)])
    assert [found.differences[i].p_adjusted for i in order] == pytest.approx(adjusted)
    assert {d.m for d in found.differences} == {3}
    assert all("(Holm, m = 3)" in v.text for v in found.verdicts)
    bonferroni = compare(
        table({"base": 0.0, "a": 0.05, "b": 0.012, "c": 0.0}), replace(DICE, correction="bonferroni")
    )
    assert [d.p_adjusted for d in bonferroni.differences] == pytest.approx([min(1.0, 3 * p) for p in raw])
    assert all(d.p_adjusted is None for d in found.exploratory.differences)
    assert "exploratory" in markdown(found)
    assert len(found.verdicts) == 3  # other metrics have no verdict


def miss(plain):
    return replace(plain, value=0.0 if plain.metric == "dice" else math.nan, note="miss")


def test_a_miss_counts_at_its_worst() -> None:
    lost = {"p03", "p07"}

    def change(variant, plain):
        return miss(plain) if variant == "new" and plain.person in lost else plain

    found = compare(table({"base": 0.0, "new": 0.0}, change=change), DICE)
    figures = {f.variant: f for f in found.figures}
    assert figures["new"].misses == 2 * 3
    assert figures["new"].counted < figures["base"].counted - 0.1
    assert "(12/12, 6)" in latex(found)

    def of_mm(variant, plain):
        kind = as_assd(plain)
        return miss(kind) if variant == "new" and plain.person in lost else kind

    found = compare(table({"base": 0.0, "new": 0.0}, change=of_mm), Question("assd", "base"))
    figures = {f.variant: f for f in found.figures}
    assert (figures["new"].n, figures["new"].total) == (10, 12)  # the mean as measured stands beside it
    assert figures["new"].mean == pytest.approx(figures["base"].mean, abs=0.05)
    assert figures["new"].counted == pytest.approx((10 * figures["new"].mean + 2 * 70) / 12)
    assert found.differences[0].n == 12


def test_nothing_found_where_nothing_is_counts_as_perfect_only_against_a_false_positive() -> None:
    """Without it, finding lesions where there are none would cost nothing."""

    def change(variant, plain):
        if plain.person != "p00":
            return plain
        if variant == "new":
            return replace(plain, value=0.0, note="false positive")
        return replace(plain, value=math.nan, note="empty")

    found = compare(table({"base": 0.0, "new": 0.0}, change=change), DICE)
    assert found.differences[0].n == 12
    figures = {f.variant: f for f in found.figures}
    assert figures["base"].counted > figures["new"].counted + 0.05
    empty = compare(
        table(
            {"base": 0.0, "new": 0.0},
            change=lambda _, r: replace(r, value=math.nan, note="empty") if r.person == "p00" else r,
        ),
        DICE,
    )
    assert empty.differences[0].n == 11  # nothing to find for anyone


def test_a_value_that_only_others_have_counts_at_its_worst() -> None:
    def change(variant, plain):
        gone = variant == "new" and plain.person == "p01"
        return replace(plain, value=math.nan, note="incomplete: no levels") if gone else plain

    found = compare(table({"base": 0.0, "new": 0.0}, change=change), DICE)
    assert {f.variant: f.undefined for f in found.figures} == {"base": 0, "new": 3}
    assert any("only other trials have, counted at their worst: new 3" in note for note in found.notes)
    for_all = compare(
        table(
            {"base": 0.0, "new": 0.0},
            change=lambda _, r: replace(r, value=math.nan, note="incomplete: x") if r.person == "p01" else r,
        ),
        DICE,
    )
    assert for_all.differences[0].n == 11
    assert not for_all.notes


def test_cases_whose_persons_are_unknown_are_called_cases() -> None:
    unknown = table({"base": 0.0, "new": 0.05}, change=lambda _, r: replace(r, person=r.case))
    assert "12 cases × 3 seeds" in sentence(compare(unknown, DICE))


def test_a_fixed_model_is_held_against_every_seed() -> None:
    """Predictions made elsewhere have no seed; the other side's models still vary."""
    whole = table({"base": 0.0, "new": 0.05})
    fixed = [t for t in whole.trials if t.variant == "base" and t.seed == "0"]
    mixed = TrialTable((replace(fixed[0], fold="", seed=""), *whole.finished("new")), "phantom", "E2")
    found = compare(mixed, DICE)
    assert found.differences[0].seeds == ("0", "1", "2")
    assert found.differences[0].effects.seed_variance > 0
    assert found.missing == ()


def test_structures_are_averaged_within_the_person_and_shown_one_by_one() -> None:
    whole = table(
        {"base": 0.0, "new": 0.04}, also=[lambda r: replace(r, structure="csf", value=r.value - 0.1)]
    )
    found = compare(whole, DICE)
    assert found.differences[0].n == 12
    assert [d.measure.name for d in found.exploratory.differences] == ["dice/cord", "dice/csf"]
    one = compare(whole, Question("dice/csf", "base"))
    assert one.figures[0].counted == pytest.approx(found.figures[0].counted - 0.05)


def test_exploratory_tests() -> None:
    whole = table({"base": 0.0, "new": 0.03, "other": 0.0}, contrasts=("T1w", "T2w", "T2star"))
    names = ("paired_t", "anova_rm", "friedman", "kolmogorov_smirnov")
    found = compare(whole, replace(DICE, tests=names))
    by = {}
    for made in found.exploratory.tests:
        by.setdefault(made.test, []).append(made)
    assert [len(by[k]) for k in by] == [2, 3, 1, 2]
    assert by["repeated-measures ANOVA"][0].about == "contrast within base"
    assert by["repeated-measures ANOVA"][0].statistic.startswith("F(2, 22) = ")
    assert "Greenhouse–Geisser ε" in by["repeated-measures ANOVA"][0].note
    assert "Nemenyi" in by["Friedman–Nemenyi"][0].note
    assert "not independent" in by["Kolmogorov–Smirnov"][0].note
    assert by["Kolmogorov–Smirnov"][0].n == "108 and 108 rows"
    one = compare(table({"base": 0.0, "new": 0.0}), replace(DICE, tests=("anova_rm",)))
    assert "one contrast only" in one.exploratory.tests[0].reason
    with pytest.raises(DataError, match=r"(?s)no such test: anova.*paired_t, anova_rm"):
        compare(whole, replace(DICE, tests=("anova",)))


def test_identical_variants() -> None:
    whole = table({"base": 0.0})
    twin = TrialTable(whole.trials + tuple(replace(t, variant="twin") for t in whole.trials), "phantom", "E2")
    found = compare(twin, DICE)
    assert not found.verdicts[0].claim
    assert "every person has the same value in both" in sentence(found)
    assert "adjusted p = 1.00" in sentence(found)


def test_tables_say_the_same_as_the_result() -> None:
    found = compare(table({"base": 0.0, "new_a": 0.05}, also=[as_assd]), Question("assd", "base"))
    text, tex, content = markdown(found), latex(found), json.loads(json_text(found))
    d = found.differences[0]
    assert sentence(found) in text
    assert f"| assd (mm) | new_a | −{abs(d.effects.estimate):.3f} |" in text
    assert r"new\_a$^{\dagger}$ & $" in tex
    assert "assd (mm) & dice" in tex
    assert tex.count(r"\\") == 3
    assert content["differences"][0]["effects"]["estimate"] == d.effects.estimate
    assert content["verdicts"][0]["text"] == sentence(found)
    lines = csv_text(found).splitlines()
    cells = dict(zip(lines[0].split(","), lines[2].split(","), strict=True))
    assert (cells["metric"], cells["variant"], cells["role"]) == ("assd", "new_a", "primary")
    assert float(cells["p_adjusted"]) == d.p_adjusted
    assert float(cells["method_low"]) == d.effects.method.low
    assert all(line.count(",") == lines[0].count(",") for line in lines)


def test_rank_stability_is_over_persons() -> None:
    found = compare(table({"base": 0.0, "good": 0.1, "twin": 0.1, "poor": -0.1}), DICE)
    assert found.ranks.n == 12
    places = dict(zip(found.ranks.methods, found.ranks.places, strict=True))
    assert places["poor"] == (4, 4)
    assert places["base"] == (3, 3)
    assert places["good"][0] == 1
    assert places["twin"][1] == 2
