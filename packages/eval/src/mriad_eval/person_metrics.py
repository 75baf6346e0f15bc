"""Values of a person from the rows of its cases."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mriad.case_table import Row


def by_contrast(rows: Sequence[Row]) -> tuple[list[float], str]:
    """Return one value a contrast, the mean where it was scanned more than once, in order of names; and a note.

    A case whose contrast is not known stands for one of its own.

    The note is "miss" where a case was missed (its value says nothing of the anatomy), "incomplete" and why where a
    value is not defined or there are fewer than two contrasts.
    """
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row.contrast or row.case, []).append(row.value)
    values = [statistics.fmean(sorted(groups[contrast])) for contrast in sorted(groups)]
    if any(row.note == "miss" for row in rows):
        return values, "miss"
    undefined = sum(not math.isfinite(value) for value in values)
    if undefined:
        return values, f"incomplete: no value in {undefined} of {len(values)} contrasts"
    if len(values) < 2:
        return values, f"incomplete: {len(values)} contrast{'' if len(values) == 1 else 's'}"
    return values, ""


def standard_deviation(rows: Iterable[Row]) -> tuple[float, str]:
    """Return the sample SD (n − 1) over the person's contrasts, in the unit of the rows."""
    values, note = by_contrast(list(rows))
    return (math.nan if note else statistics.stdev(values)), note


def coefficient_of_variation(rows: Iterable[Row]) -> tuple[float, str]:
    """Return 100·SD/mean in % over the person's contrasts."""
    values, note = by_contrast(list(rows))
    if note:
        return math.nan, note
    mean = statistics.fmean(values)
    if mean == 0:
        return math.nan, "incomplete: the mean is 0"
    return 100 * statistics.stdev(values) / mean, ""
