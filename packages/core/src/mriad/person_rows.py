"""Values of persons, computed from the rows of all their cases."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mriad.case_table import Row
from mriad.errors import DataError
from mriad.evaluation import direction_of, worst_of
from mriad.metric import Metric
from mriad.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mriad.metric import PersonMetric


def with_needed(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics, and after them those that a person metric needs and the list does not have.

    Raises:
        DataError: no installed metric has the needed key.
    """
    wanted = list(metrics)
    known = {metric.key() for metric in metrics}
    for metric in metrics:
        for key in metric.needs():
            if key not in known:
                wanted.append(_metric_of(key, metric))
                known.add(key)
    return wanted


def _metric_of(key: str, needing: Metric) -> Metric:
    for name in registry().names("metric"):
        if name.split(".", 1)[1] == key:
            return Metric.resolve(name)
    raise DataError(
        f"{needing.key()} needs the metric '{key}', which is not measured",
        remedy=f"add the metric with the key {key} to evaluate.metrics",
    )


def person_rows(rows: Iterable[Row], metrics: Sequence[Metric]) -> list[Row]:
    """Return one row a person × structure × person metric (× reference), in order of first appearance.

    A metric is given the rows of the metrics that it `needs`, of one person and structure, all contrasts and
    sessions; rows of parts (slices) are not among them. The domain stands in the row where the person has one only.
    """
    wanted = [metric for metric in metrics if metric.level == "person"]
    if not wanted:
        return []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.case and not row.part:
            groups.setdefault((row.person, row.structure, row.reference), []).append(row)
    contrasts = dict.fromkeys(row.contrast for mine in groups.values() for row in mine)
    built = [(metric, cast("PersonMetric", metric.build())) for metric in wanted]
    made = []
    for (person, structure, reference), mine in groups.items():
        domains = {row.domain for row in mine}
        domain = domains.pop() if len(domains) == 1 else ""
        for metric, compute in built:
            read = [row for row in mine if row.metric in metric.needs()]
            if metric.every_contrast:
                read += _lacking(read, contrasts)
            value, note = compute(read)
            made.append(
                Row(
                    case="",
                    person=person,
                    contrast="",
                    domain=domain,
                    structure=structure,
                    metric=metric.key(),
                    value=float(value),
                    unit=metric.unit,
                    direction=direction_of(metric),
                    worst=worst_of(metric, math.nan),
                    note=note,
                    reference=reference,
                )
            )
    return made


def _lacking(rows: Sequence[Row], contrasts: Iterable[str]) -> list[Row]:
    """Rows without value for the contrasts that other persons have and these rows do not."""
    if not rows:
        return []
    have = {row.contrast for row in rows}
    note = "incomplete: no case of this contrast"
    return [
        replace(rows[0], case="", contrast=contrast, value=math.nan, note=note)
        for contrast in contrasts
        if contrast not in have
    ]
