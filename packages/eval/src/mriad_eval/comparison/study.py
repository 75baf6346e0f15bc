"""Compare variants: one primary metric with a verdict, everything else exploratory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from mriad.registry import registry

from mriad_eval.comparison.differences import correct_all, difference
from mriad_eval.comparison.exploratory import TESTS, Exploratory, explore
from mriad_eval.comparison.persons import alike_persons, measure_of, person_values, same_persons
from mriad_eval.comparison.spread import spread_agreement
from mriad_eval.comparison.trials import require_comparable
from mriad_eval.comparison.verdict import listed, verdict
from mriad_eval.statistics.ranks import rank_stability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad_eval.comparison.differences import Difference
    from mriad_eval.comparison.persons import Measure, PersonValues
    from mriad_eval.comparison.spread import SpreadAgreement
    from mriad_eval.comparison.trials import Trial, TrialTable
    from mriad_eval.comparison.verdict import Verdict
    from mriad_eval.statistics.corrections import Correction
    from mriad_eval.statistics.ranks import RankStability


@dataclass(frozen=True)
class Question:
    """What is compared, declared before looking.

    primary: "dice", or "dice/cord" for one structure. reference: the variant that the others are held against; "" is
    the first. metrics: others, exploratory; () is all that there are. against: name of the labels measured against,
    "" where there is one (or truth). tests: exploratory ones by name, see `exploratory.TESTS`. reported: figures of a
    publication, from `reported.read_reported`; they are shown and enter nothing. composites: name → contrast →
    variant, for `composites.with_composites`, which adds them to the table before it is compared.
    """

    primary: str
    reference: str = ""
    metrics: tuple[str, ...] = ()
    against: str = ""
    correction: Correction = "holm"
    alpha: float = 0.05
    tests: tuple[str, ...] = ()
    reported: tuple[tuple[str, ...], ...] = ()
    composites: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class VariantFigures:
    """One variant and measure over persons, seeds averaged within each.

    mean, sd (n − 1): of the values as measured, over n of `total` persons, failures without a value left out.
    counted: mean with each failure at its worst value, over `counted_n` persons; for a metric with a best value, of
    the sizes of errors. It is what tests use, since a miss never improves it. misses, false_positives, undefined:
    rows, over all seeds.
    """

    variant: str
    measure: Measure
    mean: float
    sd: float
    n: int
    total: int
    counted: float
    counted_sd: float
    counted_n: int
    misses: int
    false_positives: int
    undefined: int


@dataclass(frozen=True)
class VariantFacts:
    """What a variant cost and how many trials it has.

    compute: sums over trials, peak memory the largest. tuning: trainings of its search in each fold.
    """

    variant: str
    trials: int
    folds: tuple[str, ...]
    seeds: tuple[str, ...]
    compute: Mapping[str, float]
    tuning: int = 0


@dataclass(frozen=True)
class ComparisonResult:
    """All that a comparison found; every table and sentence is made from it.

    differences: of the primary metric, corrected; exploratory: other metrics, uncorrected. ranks: None with fewer
    than two persons, or of a spread without agreement. same_persons: names merged into another person's. notes: for
    the reader, beside the verdicts. agreements: of each variant with the reference, where a spread was measured.
    """

    question: Question
    primary: Measure
    reference: str
    data: str
    evidence: str
    unit: str
    figures: tuple[VariantFigures, ...]
    facts: tuple[VariantFacts, ...]
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...]
    ranks: RankStability | None
    exploratory: Exploratory
    missing: tuple[Trial, ...]
    same_persons: Mapping[str, str]
    notes: tuple[str, ...]
    agreements: tuple[SpreadAgreement, ...] = ()


def compare(table: TrialTable, question: Question) -> ComparisonResult:
    """Compare the variants of a table.

    Raises:
        DataError: fewer than two variants with values; no such reference, or it has no finished trial; a metric that
            no case has, or that repeats a program's quirks; test cases that differ; an unknown test.
    """
    reference = _reference(table, question)
    _require_tests(question.tests)
    variants = [v for v in table.variants if table.finished(v)]
    if len(variants) < 2:
        raise DataError(
            "a comparison needs two variants with values",
            where={
                "with values": ", ".join(variants) or "none",
                "missing": listed(table.missing()) or "none",
            },
            remedy="give more runs, or name them apart: NAME=RUNFOLDER",
        )
    require_comparable(table)
    _require_no_literal(question.primary)
    measure = measure_of(table, question.primary, question.against)
    same = same_persons(table)
    values = person_values(table, measure, variants, same)
    _require_values(values, measure)
    others = [v for v in variants if v != reference]
    found = [difference(values[v], values[reference], measure, level=1 - question.alpha) for v in others]
    corrected = correct_all(found, question.correction)
    cases = _persons_unknown(table)
    measures = [measure, *_other_measures(table, question, measure)]
    by_measure = {m: values if m == measure else _of_others(table, m, variants, same) for m in measures}
    spreads = [spread_agreement(table, m, list(by_measure[m]), same) for m in measures if m.spread]
    agreements = tuple(a for each, _ in spreads for a in each)
    bare = bool(measure.spread) and not any(a.metric == measure.metric for a in agreements)
    return ComparisonResult(
        question=question,
        primary=measure,
        reference=reference,
        data=table.data,
        evidence=table.evidence,
        unit="cases" if cases else "persons",
        figures=tuple(variant_figures(by_measure[m][v], m) for m in measures for v in by_measure[m]),
        facts=tuple(_facts(table, v) for v in variants),
        differences=tuple(corrected),
        verdicts=tuple(verdict(d, table, alpha=question.alpha, cases=cases) for d in corrected),
        ranks=None if bare else _ranks([values[v] for v in variants], measure),
        exploratory=explore(table, measures[1:], by_measure, reference, question, same),
        missing=table.missing(),
        same_persons=same,
        notes=(
            *_notes(table, values, corrected, same),
            *_composite_notes(question),
            *_compute_notes([_facts(table, v) for v in variants]),
            *(note for _, notes in spreads for note in notes),
            *_unasked(table),
        ),
        agreements=agreements,
    )


def _reference(table: TrialTable, question: Question) -> str:
    names = table.variants
    chosen = question.reference or (names[0] if names else "")
    if chosen not in names:
        raise DataError(
            f"the reference '{chosen}' is not among the variants",
            where={"variants": ", ".join(names) or "none"},
            remedy="--reference with one of these",
        )
    if not table.finished(chosen):
        failed = [t for t in table.missing() if t.variant == chosen]
        raise DataError(
            f"the reference '{chosen}' has no finished trial, so nothing can be held against it",
            where={t.text(): f"{t.status}: {t.error}".rstrip(": ") for t in failed[:6]},
            remedy="mend and resume it, or choose another --reference",
        )
    return chosen


def _require_tests(tests: Sequence[str]) -> None:
    unknown = [name for name in tests if name not in TESTS]
    if unknown:
        raise DataError(
            f"no such test: {', '.join(unknown)}",
            where={"tests": ", ".join(TESTS)},
            remedy="--tests with some of these",
        )


def _require_no_literal(primary: str) -> None:
    """A metric that repeats a program's quirks reproduces a number; it decides nothing."""
    name = primary.partition("/")[0]
    found = registry()
    offered = (full for full in found.names("metric") if full.partition(".")[2] == name)
    if "literal" in name.split("_") or any(
        getattr(found.get("metric", full), "literal", False) for full in offered
    ):
        raise DataError(
            "a literal metric repeats a program as it is, quirks included, and is no ground for a verdict",
            where={"primary": primary},
            remedy="choose the plain metric as the primary one; this one is listed beside it",
        )


def _require_values(values: Mapping[str, PersonValues], measure: Measure) -> None:
    empty = [v for v, found in values.items() if not found.persons or not np.isfinite(found.counted).any()]
    bare = [v for v, found in values.items() if v not in empty and not np.isfinite(found.measured).any()]
    bare = [v for v in bare if not values[v].misses and not values[v].false_positives]
    if empty or bare:
        raise DataError(
            f"no value of {measure.name} to compare",
            where={"variants without one": ", ".join(empty + bare)},
            remedy="evaluate them with this metric, or choose another primary",
        )


def _other_measures(table: TrialTable, question: Question, primary: Measure) -> list[Measure]:
    """The metrics asked for (default: all with a direction), and the primary's structures where it has several."""
    rows = [row for trial in table.trials for row in trial.rows]
    names = question.metrics or tuple(dict.fromkeys(row.metric for row in rows if row.direction != "none"))
    structures = dict.fromkeys(row.structure for row in rows if row.metric == primary.metric)
    wanted = [
        *dict.fromkeys([*names, question.primary])
    ]  # the primary too: against other labels it is another measure
    if not primary.structure and len(structures) > 1:
        wanted += [f"{primary.metric}/{structure}" for structure in structures]
    found = []
    for name in wanted:
        # Measured against several labels, it is several measures, each with its reference in its row.
        metric = name.partition("/")[0]
        references = dict.fromkeys(r.reference for r in rows if r.metric == metric)
        found += [measure_of(table, name, reference) for reference in references or ("",)]
    return [m for m in dict.fromkeys(found) if m != primary]


def _of_others(
    table: TrialTable, measure: Measure, variants: Sequence[str], same: Mapping[str, str]
) -> dict[str, PersonValues]:
    """Values of an exploratory measure; a variant that was never measured so is left out, not counted as failed."""
    named = {(t.variant, row.metric, row.reference) for t in table.trials for row in t.rows}
    having = [v for v in variants if (v, measure.metric, measure.reference) in named]
    return person_values(table, measure, having, same)


def variant_figures(values: PersonValues, measure: Measure) -> VariantFigures:
    """The numbers of one variant that tables and figures print."""
    measured, counted = _over_seeds(values.measured), _over_seeds(values.counted)
    plain, full = measured[np.isfinite(measured)], counted[np.isfinite(counted)]
    return VariantFigures(
        variant=values.variant,
        measure=measure,
        mean=float(plain.mean()) if len(plain) else math.nan,
        sd=float(plain.std(ddof=1)) if len(plain) > 1 else math.nan,
        n=len(plain),
        total=len(values.persons),
        counted=float(full.mean()) if len(full) else math.nan,
        counted_sd=float(full.std(ddof=1)) if len(full) > 1 else math.nan,
        counted_n=len(full),
        misses=values.misses,
        false_positives=values.false_positives,
        undefined=values.undefined,
    )


def _over_seeds(values: np.ndarray) -> np.ndarray:
    """(P,) mean over the seeds that a person has; NaN for none."""
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    return np.where(counts > 0, np.where(finite, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _facts(table: TrialTable, variant: str) -> VariantFacts:
    trials = table.finished(variant)
    compute: dict[str, float] = {}
    for trial in trials:
        for key, value in trial.compute.items():
            if key == "peak_memory_bytes":
                compute[key] = max(compute.get(key, 0.0), value)
            elif key in ("steps", "samples", "seconds", "gpu_seconds"):
                compute[key] = compute.get(key, 0.0) + value
    folds, seeds = ({getattr(t, name): None for t in trials} for name in ("fold", "seed"))
    tuning = max((t.tuning for t in trials), default=0)
    return VariantFacts(variant, len(trials), tuple(folds), tuple(seeds), compute, tuning)


def _ranks(values: Sequence[PersonValues], measure: Measure) -> RankStability | None:
    x = np.stack([_over_seeds(v.counted) for v in values], axis=1)
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < 2:
        return None
    return rank_stability(x, [v.variant for v in values], higher_is_better=measure.higher_is_better)


def _persons_unknown(table: TrialTable) -> bool:
    """Whether every case is its own person, so that persons are not identified and cases are counted."""
    rows = [row for trial in table.trials for row in trial.rows if row.case]
    return bool(rows) and all(row.person in ("", row.case) for row in rows)


def _unasked(table: TrialTable) -> list[str]:
    if not table.unknown:
        return []
    return [
        f"whether a constant answer wins {', '.join(table.unknown)} is not known here: the plugin that defines it is "
        "not installed, or is of another version"
    ]


def _composite_notes(question: Question) -> list[str]:
    """How each composite was put together."""
    return [
        f"{name} is put together: "
        + ", ".join(f"{contrast} by {variant}" for contrast, variant in of.items())
        for name, of in question.composites.items()
    ]


def _compute_notes(facts: Sequence[VariantFacts]) -> list[str]:
    """What was paid beside the verdict; unequal optimiser steps make it a comparison of budgets too."""
    known = [f for f in facts if "seconds" in f.compute]
    notes = []
    if known:
        costs = []
        for f in known:
            gpu = f", {f.compute['gpu_seconds'] / 3600:.2f} GPU hours" if "gpu_seconds" in f.compute else ""
            costs.append(f"{f.variant} {f.compute['seconds'] / f.trials / 3600:.2f} h a trial{gpu}")
        notes.append(f"training: {'; '.join(costs)}")
    steps = {f.variant: f.compute["steps"] / f.trials for f in facts if "steps" in f.compute}
    if steps and max(steps.values()) > 1.01 * min(steps.values()):
        each = ", ".join(f"{variant} {count:.0f}" for variant, count in steps.items())
        notes.append(f"the budgets are not equal, optimiser steps a trial: {each}")
    tuning = {f.variant: f.tuning for f in facts}
    if any(tuning.values()):
        each = ", ".join(f"{variant} {count}" for variant, count in tuning.items())
        equal = len(set(tuning.values())) == 1
        notes.append(
            f"tuning trials in each fold: {each}"
            + ("" if equal else "; they are not equal, so a difference may come from the search")
        )
    return notes


def _notes(
    table: TrialTable,
    values: Mapping[str, PersonValues],
    found: Sequence[Difference],
    same: Mapping[str, str],
) -> tuple[str, ...]:
    variants = list(values)
    notes = []
    if same:
        firsts = len(set(same.values()))
        people = "one person stands" if firsts == 1 else f"{firsts} persons stand"
        notes.append(
            f"{people} under {len(same) + firsts} names, with the same voxels or values: counted once each"
        )
    alike = alike_persons(table, same)
    if alike:
        names = "; ".join(" = ".join(group) for group in alike[:6])
        more = f" and {len(alike) - 6} more" if len(alike) > 6 else ""
        notes.append(
            f"persons with the same values in every trial, too few or too coarse to tell copies from coincidence: "
            f"{names}{more}; each is counted"
        )
    lost = [v for v in table.variants if v not in variants]
    if lost:
        notes.append(f"not compared, since no trial finished: {', '.join(lost)}")
    if table.missing():
        notes.append(f"missing trials: {listed(table.missing())}")
    if any(len([s for s in d.seeds if s]) == 2 and d.all_seeds for d in found):
        notes.append("two seeds say little about how models of other seeds differ; three or more are better")
    if any(" with " in seed for d in found for seed in d.seeds):
        notes.append("the variants have other seeds; their models were paired in the order given")
    if any(not d.all_seeds for d in found):
        notes.append(
            "no seed is whole, so that nothing can be said about the method, only about these models"
        )
    undefined = [f"{v} {values[v].undefined}" for v in variants if values[v].undefined]
    if undefined:
        notes.append(f"values that only other trials have, counted at their worst: {', '.join(undefined)}")
    return tuple(notes)
