"""False alarms, power and honesty by simulation. What is judged is the printed verdict, not a p-value."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from comparison_tables import as_assd, table
from mriad.case_table import summarise
from mriad_eval.comparison import Question, compare

pytestmark = pytest.mark.slow
DICE = Question("dice", "base")
DESIGNS = [
    (6, 3, 1, 0.003),
    (6, 3, 3, 0.01),
    (12, 3, 1, 0.01),
    (12, 3, 3, 0.003),
    (12, 2, 1, 0.01),
    (49, 3, 1, 0.01),
    (49, 3, 5, 0.003),
]
"""n, seeds, folds, SD of models (shared by all persons tested on one); persons differ by .01 and the rest is .01."""


def claims(repeats: int, seed: int, variants: dict[str, float], **design: object) -> int:
    """How many of so many studies print a claim."""
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(repeats):
        text = compare(table(variants, rng=rng, **design), DICE).verdicts[0].text  # type: ignore[arg-type]
        assert ("no difference can be claimed" in text) + ("too small" in text) + (" than base " in text) == 1
        count += " than base " in text
    return count


@pytest.mark.parametrize(("n", "seeds", "folds"), [(6, 3, 3), (12, 2, 3), (12, 3, 3), (49, 2, 1), (49, 3, 5)])
def test_a_against_a(n: int, seeds: int, folds: int) -> None:
    """The same variant under two names, other seeds: nothing that a variant does to a person differs. 400 studies."""
    found = claims(
        400,
        n,
        {"base": 0.0, "again": 0.0},
        n=n,
        seeds=seeds,
        folds=folds,
        person_by_variant=0.0,
        model=0.005,
        other_seeds=True,
    )
    print(f"A/A n {n} S {seeds}: {found} of 400")
    assert found <= 32  # 8 %


@pytest.mark.parametrize(("n", "seeds", "folds", "model"), DESIGNS)
def test_false_alarms(n: int, seeds: int, folds: int, model: float) -> None:
    """200 studies whose variants differ in every person and model, but not in the mean."""
    found = claims(200, 100 + n, {"base": 0.0, "other": 0.0}, n=n, seeds=seeds, folds=folds, model=model)
    print(f"false alarms n {n} S {seeds} folds {folds} model {model}: {found} of 200")
    assert found <= 16


@pytest.mark.parametrize(
    ("n", "advantage", "least"),
    [(6, 0.05, 0.75), (6, 0.02, 0.2), (12, 0.02, 0.75), (12, 0.01, 0.2), (49, 0.01, 0.7)],
)
def test_power(n: int, advantage: float, least: float) -> None:
    """100 studies with a true advantage: how often it is claimed, and never for the wrong side."""
    rng = np.random.default_rng(n)
    right = wrong = 0
    for _ in range(100):
        verdict = compare(table({"base": 0.0, "new": advantage}, n=n, folds=3, rng=rng), DICE).verdicts[0]
        right += verdict.claim and "new" in verdict.text and "(better)" in verdict.text
        wrong += verdict.claim and "(worse)" in verdict.text
    print(f"power n {n} advantage {advantage}: {right} of 100")
    assert right >= 100 * least
    assert wrong <= 1


def test_shared_models_are_not_taken_for_methods() -> None:
    """Seeds differ far more than persons: tests over persons alone would claim in most studies."""
    rng = np.random.default_rng(0)
    claimed = of_models = 0
    for _ in range(200):
        study = table(
            {"base": 0.0, "other": 0.0}, n=12, model=0.02, person_by_variant=0.003, error=0.003, rng=rng
        )
        found = compare(study, DICE)
        claimed += found.verdicts[0].claim
        of_models += found.differences[0].effects.p_models < 0.05
    print(f"model effects: {claimed} claims, {of_models} by persons alone, of 200")
    assert of_models > 100
    assert claimed <= 20


def test_deleted_predictions_improve_nothing() -> None:
    """20 % of the predictions of one variant deleted, in 30 studies: no aggregate of it gets better."""
    rng = np.random.default_rng(4)
    for k in range(30):
        whole = table(
            {"base": 0.0, "new": 0.0}, n=12, contrasts=("T1w", "T2w"), rng=k, also=[as_assd, as_rve]
        )
        cases = sorted({r.case for t in whole.trials for r in t.rows})
        gone = set(rng.choice(cases, size=len(cases) // 5, replace=False))
        cut = replace(
            whole,
            trials=tuple(
                replace(t, rows=tuple(missed(r) if r.case in gone else r for r in t.rows))
                if t.variant == "new"
                else t
                for t in whole.trials
            ),
        )
        for metric in ("dice", "assd", "rve"):
            question = Question(metric, "base")
            before, after = compare(whole, question), compare(cut, question)
            sign = 1 if before.primary.higher_is_better else -1
            for was, now in zip(before.figures, after.figures, strict=True):
                assert now.total == was.total
                if now.variant == "new" and now.measure == before.primary:
                    assert sign * now.counted < sign * was.counted
                    assert now.misses == 3 * len(gone)
            assert (
                sign * after.differences[0].effects.estimate < sign * before.differences[0].effects.estimate
            )
            share = dict(zip(after.ranks.methods, after.ranks.first, strict=True))["new"]
            assert share <= dict(zip(before.ranks.methods, before.ranks.first, strict=True))["new"]
            assert not (after.verdicts[0].claim and "(better)" in after.verdicts[0].text)
        rows, kept = ([r for t in study.finished("new") for r in t.rows] for study in (whole, cut))
        for was, now in zip(summarise(rows), summarise(kept), strict=True):
            better = 1 if was.direction == "higher" else -1
            assert better * now.with_worst < better * was.with_worst


def as_rve(dice):
    return replace(
        dice, metric="rve", unit="%", direction="toward 0", worst=-100.0, value=50 * (dice.value - 0.85)
    )


def missed(plain):
    """What each metric gives for an empty prediction."""
    return replace(plain, note="miss", value={"dice": 0.0, "assd": math.nan, "rve": -100.0}[plain.metric])


def test_shuffled_labels_give_no_claim() -> None:
    """Scores at chance for all variants, persons assigned anew in each trial: 200 studies."""
    rng = np.random.default_rng(6)
    claimed = 0
    for _ in range(200):
        study = table({"base": 0.0, "new": 0.0}, n=12, rng=rng)
        shuffled = replace(
            study,
            trials=tuple(
                replace(t, rows=tuple(replace(r, value=float(rng.beta(2, 40))) for r in t.rows))
                for t in study.trials
            ),
        )
        claimed += compare(shuffled, DICE).verdicts[0].claim
    print(f"shuffled: {claimed} of 200")
    assert claimed <= 16
