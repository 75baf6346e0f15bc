"""What figures of a comparison draw: every value of one metric, failures at their worst, and the table's numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mriad.case_table import FAILURES
from mriad.errors import DataError

from mriad_eval.comparison.persons import Measure, measure_of, person_values, same_persons
from mriad_eval.comparison.render import mean_sd
from mriad_eval.comparison.study import VariantFigures, variant_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from mriad.case_table import Row

    from mriad_eval.comparison.trials import TrialTable

Group = Literal["contrast", "domain", "structure"]
"""By what the values of a variant are told apart."""


@dataclass(frozen=True)
class Point:
    """One value of one case (or person, then case is "") and trial.

    value: in the metric's unit, a failure at its worst. failure: "", "miss", "false positive", or "undefined" where
    only other trials have a value.
    """

    variant: str
    seed: str
    case: str
    person: str
    contrast: str
    domain: str
    structure: str
    part: str
    value: float
    failure: str = ""


@dataclass(frozen=True)
class Points:
    """All values of a measure.

    left_out: rows that no figure can draw (nothing to find and nothing found; incomplete in every trial). table: the
    trials behind them, with one name a person.
    """

    measure: Measure
    variants: tuple[str, ...]
    points: tuple[Point, ...]
    left_out: int
    table: TrialTable

    def names(self, group: Group) -> list[str]:
        """Contrasts, domains or structures in order of the alphabet."""
        return sorted({getattr(point, group) for point in self.points})

    def of(self, variant: str, group: Group | None = None, name: str = "") -> list[Point]:
        """Points of a variant, and of one contrast, domain or structure."""
        return [
            p for p in self.points if p.variant == variant and (group is None or getattr(p, group) == name)
        ]

    def numbers(self, group: Group | None = None, name: str = "") -> dict[str, VariantFigures]:
        """Mean, SD, n and misses over persons by variant, the same that tables print."""
        table = self.table
        if group is not None:
            table = _kept(table, lambda row: getattr(row, group) == name)
        present = [v for v in self.variants if self.of(v, group, name)]
        values = person_values(table, self.measure, present, {})
        return {v: variant_figures(values[v], self.measure) for v in present}

    @property
    def label(self) -> str:
        """`dice (1), higher is better`, for an axis."""
        m = self.measure
        own = m.metric + (f" of {m.structure}" if m.structure else "")
        better = {"higher": "higher is better", "lower": "lower is better", "none": "a measurement"}
        hint = better.get(m.direction) or f"best at {m.direction.removeprefix('toward ')}"
        return f"{own} ({m.unit}), {hint}"

    @property
    def persons(self) -> int:
        """How many there are."""
        return len({p.person for p in self.points})

    def counts(self) -> str:
        """`n = 12 persons × 6 contrasts × 2 seeds, against truth, 3 misses (×)`; what no figure may leave out."""
        return counted(self.points, self.measure, self.left_out, self.unit_name)

    @property
    def unit_name(self) -> str:
        """What is counted: "person", or "case" where every case is its own person."""
        return "case" if all(p.case and p.person in ("", p.case) for p in self.points) else "person"


def points_of(table: TrialTable, name: str, against: str = "") -> Points:
    """Collect every value of a metric from finished trials; no failure is dropped.

    Args:
        table: trials of one or several variants.
        name: "dice", or "dice/cord" for one structure; measurements are allowed.
        against: what was measured against, where there is more than one.

    Raises:
        DataError: no case has the metric, or it was measured against several references and none is chosen.
    """
    measure = quantity_of(table, name, against)
    same = same_persons(table)
    table = replace(
        _kept(table, lambda row: _is_of(row, measure)),
        trials=tuple(
            replace(t, rows=tuple(replace(r, person=same.get(r.person, r.person)) for r in t.rows))
            for t in _kept(table, lambda row: _is_of(row, measure)).trials
        ),
    )
    slots = {_slot(r): r for t in table.trials for r in t.rows if not math.isnan(_drawn(r))}
    points: list[Point] = []
    left_out = 0
    for trial in table.trials:
        for row in trial.rows:
            value, failure = _drawn(row), row.note if row.note in FAILURES else ""
            if math.isnan(value) and _slot(row) in slots and measure.direction != "none":
                other = slots[_slot(row)]
                value, failure = (_best(other), "") if row.note == "empty" else (other.worst, "undefined")
            if math.isnan(value):
                left_out += 1
                continue
            points.append(
                Point(
                    trial.variant,
                    trial.seed,
                    row.case,
                    row.person or row.case,
                    row.contrast,
                    row.domain,
                    row.structure,
                    row.part,
                    value,
                    failure,
                )
            )
    if not points:
        raise DataError(
            f"no value of '{name}' can be drawn",
            where={
                "rows": left_out,
                "notes": ", ".join(sorted({r.note for t in table.trials for r in t.rows})),
            },
            remedy="evaluate again with this metric, or draw another",
        )
    variants = tuple(v for v in table.variants if any(p.variant == v for p in points))
    return Points(measure, variants, tuple(points), left_out, table)


def quantity_of(table: TrialTable, name: str, against: str = "") -> Measure:
    """As `measure_of`, with measurements (areas, volumes), which have no better and worse."""
    metric, _, structure = name.partition("/")
    rows = [
        row
        for trial in table.trials
        for row in trial.rows
        if row.metric == metric and structure in ("", row.structure) and against in ("", row.reference)
    ]
    if not rows or any(row.direction != "none" for row in rows):
        return measure_of(table, name, against)
    references = {row.reference for row in rows}
    if len(references) > 1 and "truth" not in references:
        raise DataError(
            f"'{metric}' was measured beside several references",
            where={"references": ", ".join(sorted(references))},
            remedy="name one of them",
        )
    return Measure(
        metric, structure, "truth" if "truth" in references else rows[0].reference, rows[0].unit, "none"
    )


def matched(
    first: Sequence[Point], second: Sequence[Point], key: Callable[[Point], Hashable]
) -> list[tuple[Point, Point]]:
    """Pair points with the same key, seed by seed; a fixed model (no seed) is paired with every seed.

    Where the two share no seed, their seeds are paired in the order of their names.
    """
    mine, theirs = (list(dict.fromkeys(sorted(p.seed for p in side))) for side in (first, second))
    if mine == [""] or theirs == [""]:
        pairs = [(a, b) for a in mine for b in theirs]
    elif set(mine) & set(theirs):
        pairs = [(a, a) for a in mine if a in theirs]
    else:
        pairs = list(zip(mine, theirs, strict=False))
    by: dict[tuple[str, Hashable], Point] = {(p.seed, key(p)): p for p in second}
    return [(p, by[b, key(p)]) for a, b in pairs for p in first if p.seed == a and (b, key(p)) in by]


def same_slot(point: Point) -> Hashable:
    """Case, person, structure and part: what two variants are compared on."""
    return point.case, point.person, point.structure, point.part


def by_person(pairs: Sequence[tuple[Point, Point]]) -> dict[str, tuple[float, float]]:
    """Person → mean of both values over pairs without a failure."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for a, b in pairs:
        if not a.failure and not b.failure:
            found[a.person].append((a.value, b.value))
    return {
        person: (sum(a for a, _ in v) / len(v), sum(b for _, b in v) / len(v)) for person, v in found.items()
    }


def text_of(numbers: VariantFigures, *, lines: bool = True) -> str:
    """`0.912 ± 0.034` and `n 12/12, 2 misses`; where it differs, `counted`: the mean with failures at their worst."""
    failed = failures_text(numbers.misses, numbers.false_positives, numbers.undefined)
    worst = f"counted {numbers.counted:.3g}" if failed and _counts_more(numbers) else ""
    parts = [mean_sd(numbers), f"n {numbers.n}/{numbers.total}, {failed or '0 misses'}", worst]
    return ("\n" if lines else ", ").join(part for part in parts if part)


def failures_text(misses: int, false_positives: int = 0, undefined: int = 0) -> str:
    """`2 misses, 1 false positive`; "" for none."""
    parts = []
    for count, one, many in (
        (misses, "miss", "misses"),
        (false_positives, "false positive", "false positives"),
        (undefined, "undefined", "undefined"),
    ):
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    return ", ".join(parts)


def counted(points: Sequence[Point], measure: Measure, left_out: int = 0, unit: str = "person") -> str:
    """One line of n for the title of a figure."""
    persons, seeds = {p.person for p in points}, {p.seed for p in points if p.seed}
    contrasts = {p.contrast for p in points if p.contrast}
    parts = [plural(len(persons), unit)]
    parts += [plural(len(contrasts), "contrast")] if len(contrasts) > 1 else []
    parts += [plural(len(seeds), "seed")] if seeds else []
    kinds = [p.failure for p in points]
    failed = failures_text(*(kinds.count(kind) for kind in ("miss", "false positive", "undefined")))
    line = f"n = {' × '.join(parts)}, against {measure.reference or 'the reference'}"
    line += f"; {failed} in all (×)" if failed else "; no misses"
    return line + (f"; {left_out} without a value, not drawn" if left_out else "")


def plural(count: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _kept(table: TrialTable, keep: Callable[[Row], bool]) -> TrialTable:
    return replace(
        table, trials=tuple(replace(t, rows=tuple(r for r in t.rows if keep(r))) for t in table.trials)
    )


def _is_of(row: Row, measure: Measure) -> bool:
    return (
        row.metric == measure.metric
        and row.reference == measure.reference
        and measure.structure in ("", row.structure)
    )


def _slot(row: Row) -> tuple[str, str, str, str]:
    return row.case, row.person, row.structure, row.part


def _drawn(row: Row) -> float:
    """The value as it was measured, a failure without one at its worst."""
    return row.worst if row.note in FAILURES and math.isnan(row.value) else row.value


def _best(row: Row) -> float:
    """The value of a perfect answer; NaN where the metric does not tell."""
    if row.direction.startswith("toward "):
        return float(row.direction.removeprefix("toward "))
    return 0.0 if row.direction == "lower" else {"1": 1.0, "%": 100.0}.get(row.unit, math.nan)


def _counts_more(numbers: VariantFigures) -> bool:
    return (
        not numbers.measure.direction.startswith("toward ")
        and math.isfinite(numbers.counted)
        and abs(numbers.counted - numbers.mean) > 1e-9 * max(1.0, abs(numbers.counted))
    )
