"""Variants put together from others: each contrast by the model of its own (the paper's `soft_per_contrast`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mriad.errors import DataError
from mriad.person_rows import person_rows

from mriad_eval.comparison.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad_eval.comparison.trials import TrialTable


def with_composites(table: TrialTable, composites: Mapping[str, Mapping[str, str]]) -> TrialTable:
    """Add a variant for each composite: of every fold and seed, each contrast's cases from the trial of its variant.

    Values of persons are computed anew from those rows. A composite is missing where a trial of it is. What it cost
    and how it was tuned is the sum of its trials, the largest of their memory.

    Args:
        table: with the trials that are put together, and their metrics.
        composites: name → contrast → variant.

    Raises:
        DataError: the tested cases have a contrast that no variant is given, or lack one that a variant is given.
    """
    made = [
        _composed(table, name, of, place) for name, of in composites.items() for place in _places(table, of)
    ]
    return replace(table, trials=(*table.trials, *made))


def _places(table: TrialTable, of: Mapping[str, str]) -> list[tuple[str, str]]:
    """Folds and seeds that the variants of a composite have; it is missing where one has no trial yet."""
    return list(dict.fromkeys((t.fold, t.seed) for t in table.trials if t.variant in of.values()))


def _composed(table: TrialTable, name: str, of: Mapping[str, str], place: tuple[str, str]) -> Trial:
    fold, seed = place
    own = {t.variant: t for t in table.trials if (t.fold, t.seed) == place and t.variant in of.values()}
    lost = [v for v in dict.fromkeys(of.values()) if v not in own or own[v].status != "finished"]
    if lost:
        return Trial(
            name, fold, seed, status="absent", error=f"made of trials that are missing: {', '.join(lost)}"
        )
    rows = [
        row
        for contrast, variant in of.items()
        for row in own[variant].rows
        if row.case and row.contrast == contrast
    ]
    tested = dict.fromkeys(row.contrast for trial in own.values() for row in trial.rows if row.case)
    uncovered = [contrast for contrast in tested if contrast not in of]
    if uncovered:
        raise DataError(
            f"the composite '{name}' has no variant for a contrast that is tested",
            where={"contrasts": ", ".join(map(repr, uncovered)), "has": ", ".join(of)},
            remedy="name a variant for each",
        )
    strange = [contrast for contrast in of if contrast not in tested]
    if strange:
        raise DataError(
            f"the composite '{name}' names a contrast that no tested case has",
            where={"contrasts": ", ".join(map(repr, strange)), "tested": ", ".join(map(repr, tested))},
            remedy="leave it out, or correct its name",
        )
    compute: dict[str, float] = {}
    for trial in own.values():
        for key, value in trial.compute.items():
            largest = key == "peak_memory_bytes"
            compute[key] = max(compute.get(key, 0.0), value) if largest else compute.get(key, 0.0) + value
    return Trial(
        name,
        fold,
        seed,
        rows=(*rows, *person_rows(rows, table.metrics)),
        study=next(iter(own.values())).study,
        compute=compute,
        tuning=sum(trial.tuning for trial in own.values()),
    )
