"""From rows to one value a person and seed: cases averaged within the person, failures at their worst value."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError

from mriad_eval.comparison.spread import spread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.evaluation import Row

    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.statistics.series import Floats

Slot = tuple[str, str, str, str]
"""Case, contrast, structure and part (a slice): what one value of a person is about."""
_LEAST_DISTINCT = 4
"""So many different values that are not coarse must agree to the last digit before two persons are taken for one."""
_LEAST_FLAGGED = 2
"""So many different values, coarse or not, must agree before a reader is told."""
_SMALL = 100
"""Ratios of counts up to here agree by chance."""


@dataclass(frozen=True)
class Measure:
    """One metric of a comparison. structure "": the mean over structures. reference: what it was measured against.

    higher_is_better refers to the counted values: for a metric with a best value V they are sizes of errors |x − V|.
    spread: of a metric that a constant answer is best in, see `Metric.constant_wins`; else None.
    """

    metric: str
    structure: str
    reference: str
    unit: str
    direction: str
    spread: tuple[str, str] | None = None

    @property
    def higher_is_better(self) -> bool:
        """Whether larger counted values are better."""
        return self.direction == "higher"

    @property
    def name(self) -> str:
        """`dice`, `dice/cord`, or `|rve − 0|` where the size of the error is what is compared."""
        own = self.metric + (f"/{self.structure}" if self.structure else "")
        return (
            f"|{own} − {self.direction.removeprefix('toward ')}|"
            if self.direction.startswith("toward ")
            else own
        )


@dataclass(frozen=True)
class PersonValues:
    """A variant's values of one measure by person and seed.

    counted: (P, S), mean over the person's cases and structures, each failure at its worst value; NaN where a trial
    is missing. measured: the same of the values as they are, failures without a value left out. misses,
    false_positives: rows so noted, over seeds; undefined: rows without a value that other trials have, counted at
    their worst.
    """

    variant: str
    persons: tuple[str, ...]
    seeds: tuple[str, ...]
    counted: Floats
    measured: Floats
    misses: int
    false_positives: int
    undefined: int

    def of_seeds(self, seeds: Sequence[str]) -> Floats:
        """(P, len(seeds)) counted values; a fixed model has the same for every seed."""
        if self.seeds == ("",):
            return np.repeat(self.counted, len(seeds), axis=1)
        return self.counted[:, [self.seeds.index(seed) for seed in seeds]]


def measure_of(table: TrialTable, name: str, reference: str = "") -> Measure:
    """Find a metric by the name "dice" or "dice/cord" in the table.

    Raises:
        DataError: no case has it; it was measured against several references and none is chosen; its unit or
            direction differs between trials; it is a measurement, which has no better or worse.
    """
    metric, _, structure = name.partition("/")
    rows = [row for trial in table.trials for row in trial.rows if row.metric == metric]
    rows = [row for row in rows if not structure or row.structure == structure]
    if not rows:
        names = sorted({row.metric for trial in table.trials for row in trial.rows})
        structures = sorted({row.structure for trial in table.trials for row in trial.rows})
        raise DataError(
            f"no case has the metric '{name}'",
            where={"metrics": ", ".join(names) or "none", "structures": ", ".join(structures) or "none"},
            remedy="choose one of these, or evaluate again with the metric",
        )
    references = list(dict.fromkeys(row.reference for row in rows))
    chosen = reference or ("truth" if "truth" in references else references[0])
    if chosen not in references or (len(references) > 1 and not reference and chosen != "truth"):
        raise DataError(
            f"'{metric}' was not measured against '{chosen}'"
            if chosen not in references
            else f"'{metric}' was measured against several references",
            where={"references": ", ".join(references)},
            remedy="name one of them: a difference between references is no difference between variants",
        )
    kinds = {(row.unit, row.direction) for row in rows if row.reference == chosen}
    if len(kinds) > 1:
        raise DataError(
            f"'{metric}' differs in unit or direction between trials",
            where={"found": "; ".join(sorted(f"{unit}, {direction}" for unit, direction in kinds))},
            remedy="evaluate all variants with one version of the metric",
        )
    ((unit, direction),) = kinds
    if direction == "none":
        raise DataError(
            f"'{metric}' is a measurement: neither more nor less of it is better",
            where={"unit": unit},
            remedy="compare its error, such as csa_abs_error for an area",
        )
    return Measure(metric, structure, chosen, unit, direction, spread_of(metric, table))


def same_persons(table: TrialTable) -> dict[str, str]:
    """Find persons who are one person under several names; the first name stands for all.

    By the voxels of their cases where fingerprints are known, else by values that agree to the last digit in every
    trial, where at least four of them could hardly agree by chance: ratios of small numbers (F1 of a few lesions) and
    their roots (distances on a grid) prove nothing. See `alike_persons` for those.
    """
    marks: dict[str, set[str]] = defaultdict(set)
    for row in (row for trial in table.trials for row in trial.rows):
        if row.case in table.voxels:
            marks[row.person].add(f"voxels {table.voxels[row.case]}")
    by_mark: dict[str, str] = {}
    same: dict[str, str] = {}
    for person, found in marks.items():
        first = min((by_mark[m] for m in found if m in by_mark), default=person)
        for mark in found:
            by_mark.setdefault(mark, first)
        if first != person:
            same[person] = first
    for group, values in _equal_in_all(table):
        if sum(not _coarse(value) for value in values) >= _LEAST_DISTINCT:
            for person in group[1:]:
                same.setdefault(person, same.get(group[0], group[0]))
    return same


def alike_persons(table: TrialTable, same: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Groups of persons with equal values in every trial who are not taken for one; each is counted.

    Whole numbers and the worst value, which many persons share, do not make a group.

    Args:
        table: of finished and missing trials.
        same: see `same_persons`.
    """
    groups = []
    for group, values in _equal_in_all(table):
        left = tuple(dict.fromkeys(same.get(person, person) for person in group))
        if len(left) > 1 and len(values) >= _LEAST_FLAGGED:
            groups.append(left)
    return groups


def _equal_in_all(table: TrialTable) -> list[tuple[list[str], set[float]]]:
    """Persons whose rows are all equal, with the different values that are neither whole nor the worst."""
    vectors: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    telling: dict[str, set[float]] = defaultdict(set)
    for trial in table.trials:
        for row in trial.rows:
            key: tuple[str, ...] = (
                trial.variant,
                trial.seed,
                row.metric,
                row.structure,
                row.contrast,
                row.reference,
                row.part,
            )
            while key in vectors[row.person]:  # several cases of one contrast: told apart by their order
                key = (*key, "next")
            vectors[row.person][key] = row.value
            if math.isfinite(row.value) and row.value != round(row.value) and row.value != row.worst:
                telling[row.person].add(row.value)
    groups: dict[tuple[tuple[tuple[str, ...], str], ...], list[str]] = defaultdict(list)
    for person, vector in vectors.items():
        groups[tuple(sorted((key, repr(v)) for key, v in vector.items()))].append(person)
    return [(group, telling[group[0]]) for group in groups.values() if len(group) > 1]


def _coarse(value: float) -> bool:
    """Whether the value, its square or its hundredth is a ratio with a denominator of at most 100."""
    return any(
        abs(x - float(Fraction(x).limit_denominator(_SMALL))) <= 1e-9 * max(1.0, abs(x))
        for x in (value, value * value, value / 100)
    )


def person_values(
    table: TrialTable, measure: Measure, variants: Sequence[str], same: Mapping[str, str]
) -> dict[str, PersonValues]:
    """One value a person and seed for each variant.

    Every variant is averaged over the same slots. Nothing to find and nothing found counts as perfect where another
    variant found something there, and is left out where none did. A value that is not defined in one trial while
    another has it counts at its worst. Parts (slices) have rows only where prediction or reference has something:
    where a variant was measured with the metric, a part without a row is nothing to find and nothing found, unless
    another trial's row shows that the reference has something there.

    Args:
        table: of finished and missing trials.
        measure: see `measure_of`.
        variants: those with finished trials.
        same: names that stand for another person, see `same_persons`.
    """
    found: dict[str, dict[str, dict[tuple[str, Slot], list[Row]]]] = {v: {} for v in variants}
    covered: dict[tuple[str, str], set[str]] = defaultdict(set)
    slots: dict[str, dict[Slot, None]] = defaultdict(dict)
    like: dict[tuple[str, Slot], Row] = {}
    present: set[tuple[str, Slot]] = set()
    for variant in variants:
        for trial in table.finished(variant):
            by_slot = found[variant].setdefault(trial.seed, defaultdict(list))
            for row in trial.rows:
                person = same.get(row.person, row.person)
                covered[variant, trial.seed].add(row.case or person)
                if not _is_of(row, measure):
                    continue
                slot = (row.case, row.contrast, row.structure, row.part)
                if row.note not in ("false positive", "empty"):
                    present.add((person, slot))
                by_slot[person, slot].append(row)
                if not math.isnan(row.counted):
                    slots[person][slot] = None
                    like[person, slot] = row
    persons = tuple(sorted(slots))
    out = {}
    for variant in variants:
        seeds = tuple(found[variant])
        shape = (len(persons), len(seeds))
        counted, measured = np.full(shape, np.nan), np.full(shape, np.nan)
        undefined = 0
        sliced = any(found[variant].values())
        for s, seed in enumerate(seeds):
            by_slot = found[variant][seed]
            here = covered[variant, seed]
            for p, person in enumerate(persons):
                if any((slot[0] or person) not in here for slot in slots[person]):
                    continue  # a missing trial: an average over other cases would be another quantity
                values, plain = [], []
                for slot in slots[person]:
                    nothing = sliced and bool(slot[3]) and (person, slot) not in present
                    value, whole = _value(by_slot.get((person, slot), ()), like[person, slot], nothing)
                    undefined += not whole
                    values.append(value)
                    plain += [r.value for r in by_slot.get((person, slot), ()) if not math.isnan(r.value)]
                kept = [v for v in values if not math.isnan(v)]
                counted[p, s] = sum(kept) / len(kept) if kept else math.nan
                measured[p, s] = sum(plain) / len(plain) if plain else math.nan
        notes = [r.note for by_slot in found[variant].values() for rows in by_slot.values() for r in rows]
        out[variant] = PersonValues(
            variant,
            persons,
            seeds,
            counted,
            measured,
            notes.count("miss"),
            notes.count("false positive"),
            undefined,
        )
    return out


def _is_of(row: Row, measure: Measure) -> bool:
    return (
        row.metric == measure.metric
        and row.reference == measure.reference
        and measure.structure in ("", row.structure)
    )


def _worst(row: Row) -> float:
    """What a failure counts as."""
    if row.direction.startswith("toward "):
        return abs(row.worst - float(row.direction.removeprefix("toward ")))
    return row.worst


def _value(rows: Iterable[Row], like: Row, nothing: bool) -> tuple[float, bool]:
    """The counted value of a slot that some trial has a value for, and whether it is this trial's own.

    like: a row of the slot from some trial. nothing: whether no row at all means that nothing was to be found.
    """
    rows = list(rows)
    own = [row.counted for row in rows if not math.isnan(row.counted)]
    if own:
        return sum(own) / len(own), True
    if any(row.note == "empty" for row in rows) or (nothing and not rows):
        return _best(like), True
    return _worst(like), False


def _best(row: Row) -> float:
    """The counted value of a perfect answer; NaN where the metric does not tell."""
    if row.direction != "higher":
        return 0.0
    return {"1": 1.0, "%": 100.0}.get(row.unit, math.nan)
