"""Trivial rules for areas, fitted on training cases: a factor a contrast, or one area for all.

A spread over contrasts alone cannot tell a good method from a constant, or from one factor a contrast; these are the
controls that it is shown beside (docs/reference/statistics.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mriad.case_table import Row

AREAS = ("csa", "csa_binary")


@dataclass(frozen=True)
class AreaRule:
    """What was fitted for one structure, area and reference.

    area: "csa" or "csa_binary". factors: by contrast; None where one area stands for all. common: mm², the mean over
    contrasts of their mean areas. persons: how many were fitted on. left_out: how many lack an area in a contrast.
    """

    structure: str
    area: str
    reference: str
    common: float
    factors: Mapping[str, float] | None
    persons: int = 0
    left_out: int = 0

    def told(self) -> dict[str, object]:
        """For the record."""
        return {
            "structure": self.structure,
            "area": self.area,
            "common_mm2": self.common,
            "factors": None if self.factors is None else dict(self.factors),
            "persons": self.persons,
            "left_out": self.left_out,
        }

    def apply(self, row: Row) -> float:
        """The area of a row under this rule, mm²; NaN where a factor has nothing to multiply."""
        return self.common if self.factors is None else row.value * self.factors[row.contrast]


def fitted(rows: Iterable[Row], rule: Literal["per_contrast", "constant"]) -> list[AreaRule]:
    """Fit on a table of training cases: mean area of each contrast over persons (their cases averaged).

    Only persons with an area in every contrast count, or differences between persons would pass for differences
    between contrasts. The areas are those that the model measured: what it gets wrong in all contrasts alike stays.

    Raises:
        DataError: the table has no area, or no person has one in every contrast.
    """
    found: dict[tuple[str, str, str], dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        if row.metric in AREAS and row.case and not row.part:
            persons = found[row.structure, row.metric, row.reference][row.contrast]
            if math.isfinite(row.value) and row.value > 0:
                persons[row.person].append(row.value)
    if not found:
        raise DataError(
            "the table to fit on has no area",
            where={"metrics": ", ".join(dict.fromkeys(row.metric for row in rows)) or "none"},
            remedy="add eval.csa to evaluate.metrics",
        )
    rules = []
    for (structure, area, reference), contrasts in found.items():
        everybody = {person for persons in contrasts.values() for person in persons}
        whole = {p for p in everybody if all(p in persons for persons in contrasts.values())}
        if not whole:
            raise DataError(
                "no person to fit on has an area in every contrast",
                where={"structure": structure, "persons": len(everybody), "contrasts": ", ".join(contrasts)},
                remedy="train for longer, or fit on more persons",
            )
        means = {c: _mean(_mean(persons[p]) for p in sorted(whole)) for c, persons in contrasts.items()}
        common = _mean(means.values())
        factors = None if rule == "constant" else {c: common / mean for c, mean in means.items()}
        lost = len(everybody) - len(whole)
        rules.append(AreaRule(structure, area, reference, common, factors, len(whole), lost))
    return rules


def controlled(rows: Sequence[Row], seen: Iterable[Row], rules: Iterable[AreaRule]) -> list[Row]:
    """Rows of area and of its absolute error as the rules give them; other rows are left out.

    An error's true area is the row's worst value, as `eval.csa_abs_error` writes it. What a model missed stays missed
    under a factor, and has the common area under a constant: a false positive where there is nothing to find.
    What is incomplete (levels or slices are lacking) stays so.

    Args:
        rows: of the cases that are tested.
        seen: those that the rules were fitted on.
        rules: see `fitted`.

    Raises:
        DataError: a person was fitted on and is tested, or a structure or contrast was not fitted.
    """
    both = {row.person for row in rows} & {row.person for row in seen}
    if both:
        raise DataError(
            "persons that a rule was fitted on are tested",
            where={"persons": ", ".join(sorted(both)[:12])},
            remedy="fit on the training cases: core.evaluate with cases: train",
        )
    known = {(rule.structure, rule.area, rule.reference): rule for rule in rules}
    made: list[Row] = []
    areas: dict[tuple[str, str, str, str], float] = {}
    for row in rows:
        if row.metric in AREAS and row.case and not row.part:
            rule = _rule_of(row, row.metric, known)
            if row.note.startswith("incomplete"):
                made.append(row)
                continue
            value, note = rule.apply(row), row.note
            if rule.factors is None:
                note = "false positive" if note in ("empty", "false positive") else ""
                value = value if not note else math.nan  # as eval.csa says of a false positive
            areas[row.case, row.structure, row.metric, row.reference] = value
            made.append(replace(row, value=value, note=note))
    for row in rows:
        if row.metric.startswith("csa_abs_error") and row.case and not row.part:
            area = "csa_binary" if row.metric.endswith("_binary") else "csa"
            rule = _rule_of(row, area, known)
            value = areas.get((row.case, row.structure, area, row.reference), math.nan)
            factors = rule.factors
            if row.note.startswith("incomplete") or (factors is not None and row.note in ("miss", "empty")):
                made.append(row)
            elif factors is not None and row.note == "false positive":
                size = row.value * factors[row.contrast]
                made.append(replace(row, value=size, worst=size))
            elif row.note in ("empty", "false positive"):
                made.append(replace(row, value=rule.common, worst=rule.common, note="false positive"))
            else:
                made.append(replace(row, value=abs(value - row.worst), note=""))
    return made


def _rule_of(row: Row, area: str, known: Mapping[tuple[str, str, str], AreaRule]) -> AreaRule:
    rule = known.get((row.structure, area, row.reference))
    if rule is None or (rule.factors is not None and row.contrast not in rule.factors):
        raise DataError(
            "a tested contrast or structure was not among the cases that the rule was fitted on",
            where={"case": row.case, "structure": row.structure, "contrast": row.contrast, "area": area},
            remedy="fit on cases of every contrast that is tested",
        )
    return rule


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
