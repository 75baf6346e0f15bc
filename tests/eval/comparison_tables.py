"""Trial tables with known effects, for the tests of comparisons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from mriad.case_table import Row
from mriad_eval.comparison import Trial, TrialTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def row(person: str, value: float, **changes: object) -> Row:
    """A row of Dice of the cord against the truth."""
    plain = Row(
        f"{person}_T1w", person, "T1w", "site", "cord", "dice", value, "1", "higher", 0.0, "", "truth"
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def as_assd(dice: Row) -> Row:
    """The same case measured in mm: worst is 70 mm."""
    return replace(
        dice, metric="assd", unit="mm", direction="lower", worst=70.0, value=2.0 * (1 - dice.value)
    )


def table(
    variants: Mapping[str, float],
    n: int = 12,
    seeds: int = 3,
    folds: int = 1,
    *,
    rng: np.random.Generator | int = 0,
    person: float = 0.03,
    person_by_variant: float = 0.01,
    seed: float = 0.005,
    model: float = 0.003,
    error: float = 0.01,
    contrasts: Sequence[str] = ("T1w",),
    other_seeds: bool = False,
    change: Callable[[str, Row], Row | None] = lambda variant, row: row,
    also: Sequence[Callable[[Row], Row]] = (),
) -> TrialTable:
    """Dice of persons p00, p01, … in variants with the given advantages.

    person: SD between persons, the same for all variants; person_by_variant: SD of what a variant does to a person;
    seed: SD between seeds, the same for all variants; model: SD between trained models (variant × fold × seed),
    shared by all persons whom a model is tested on; error: SD of the rest.
    """
    rng = np.random.default_rng(rng)
    persons = person * rng.standard_normal(n)
    seed_effects = seed * rng.standard_normal((2, seeds))
    trials = []
    for v, (variant, advantage) in enumerate(variants.items()):
        own = person_by_variant * rng.standard_normal(n)
        models = model * rng.standard_normal((folds, seeds))
        shared = seed_effects[v % 2 if other_seeds else 0]
        for fold in range(folds):
            for s in range(seeds):
                rows: list[Row] = []
                for i in range(fold, n, folds):
                    base = 0.85 + advantage + persons[i] + own[i] + shared[s] + models[fold, s]
                    for contrast in contrasts:
                        value = float(base + error * rng.standard_normal())
                        plain = row(f"p{i:02d}", value, case=f"p{i:02d}_{contrast}", contrast=contrast)
                        changed = change(variant, plain)
                        if changed is not None:
                            rows += [changed, *(make(changed) for make in also)]
                name = str(s + 100 * v) if other_seeds else str(s)
                trials.append(Trial(variant, str(fold), name, tuple(rows), name=f"{variant}-{fold}-{s}"))
    return TrialTable(tuple(trials), "phantom", "E2")
