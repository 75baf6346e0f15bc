"""The tidy table as the page shows it: summary, values by case, and which cases to look at first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mriad.evaluation import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.evaluation import Row, Summary

SHOWN_FIRST = 3
"""Cases under "worst" and under "median"."""


@dataclass(frozen=True)
class Ranking:
    """Cases by the first metric, over all structures; a failure counts at its worst value.

    order: worst first; cases without any value come last. metric: its name, "" where there is none.
    """

    order: tuple[str, ...]
    metric: str
    ranked: int

    @property
    def worst(self) -> tuple[str, ...]:
        """The few worst cases."""
        return self.order[: min(SHOWN_FIRST, self.ranked)]

    @property
    def median(self) -> tuple[str, ...]:
        """The few cases in the middle that are not among the worst."""
        first = max((self.ranked - SHOWN_FIRST) // 2, 0)
        middle = self.order[first : min(first + SHOWN_FIRST, self.ranked)]
        return tuple(case for case in middle if case not in self.worst)

    def choose(self, limit: int) -> tuple[str, ...]:
        """At most `limit` cases: the median ones, the best one, and as many of the worst as there is room for."""
        if len(self.order) <= limit:
            return self.order
        best = self.order[self.ranked - 1 : self.ranked]
        kept = dict.fromkeys((*self.worst, *self.median, *best, *self.order))
        chosen = set(list(kept)[:limit])
        return tuple(case for case in self.order if case in chosen)


def rank(rows: Sequence[Row], cases: Sequence[str]) -> Ranking:
    """Rank `cases` (in the order given where values are equal) by the first metric of the rows."""
    mine = [row for row in rows if row.case and not row.part and row.direction != "none"]
    metric = mine[0].metric if mine else ""
    values: dict[str, list[float]] = {}
    sign = -1.0
    for row in mine:
        if row.metric != metric:
            continue
        sign = 1.0 if row.direction == "higher" else -1.0
        if not math.isnan(row.counted):
            values.setdefault(row.case, []).append(row.counted)
    means = {case: sign * math.fsum(found) / len(found) for case, found in values.items()}
    with_value = sorted((case for case in cases if case in means), key=lambda case: means[case])
    without = [case for case in cases if case not in means]
    return Ranking((*with_value, *without), metric, len(with_value))


def table_of(rows: Sequence[Row], cases: Sequence[str]) -> dict[str, Any]:
    """Return summary, metrics, structures and the values of `cases`, as plain values for JSON.

    A value is [value, note, counted], with null for what is not defined.
    """
    metrics: dict[str, dict[str, str]] = {}
    structures: dict[str, None] = {}
    found: dict[str, dict[str, Any]] = {case: _case(case) for case in cases}
    for row in rows:
        if not row.case or row.part:
            continue  # a person's value has no picture; a slice's is in the case's own
        metrics.setdefault(row.metric, {"key": row.metric, "unit": row.unit, "direction": row.direction})
        structures.setdefault(row.structure)
        case = found.setdefault(row.case, _case(row.case))
        case["person"], case["contrast"], case["domain"] = row.person, row.contrast, row.domain
        case["values"].setdefault(row.structure, {})[row.metric] = [
            _number(row.value),
            row.note,
            _number(row.counted),
        ]
    return {
        "summary": [_summary(s) for s in summarise(rows)],
        "metrics": list(metrics.values()),
        "structures": list(structures),
        "cases": list(found.values()),
    }


def _case(name: str) -> dict[str, Any]:
    return {"id": name, "person": "", "contrast": "", "domain": "", "values": {}}


def _summary(s: Summary) -> dict[str, Any]:
    return {
        "metric": s.metric,
        "structure": s.structure,
        "reference": s.reference,
        "unit": "" if s.unit == "1" else s.unit,
        "mean": _number(s.mean),
        "sd": _number(s.sd),
        "n": s.n,
        "total": s.total,
        "persons": s.persons,
        "misses": s.misses,
        "false_positives": s.false_positives,
        "incomplete": s.incomplete,
        "with_worst": _number(s.with_worst),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
