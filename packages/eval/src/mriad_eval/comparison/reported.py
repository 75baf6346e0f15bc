"""Figures that a publication reports on its own data: shown beside a comparison, never compared with it."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad_eval.comparison.render import Cells

COLUMNS = ("place", "method", "data", "contrast", "n", "metric", "unit", "mean", "sd")
HEADING = "Reported on other data"
NOTE = (
    "From the publication, on its own data, by its own programs. These figures and those above were not measured "
    "alike and are not to be compared."
)
Rows = tuple[tuple[str, ...], ...]


def read_reported(path: Path) -> Rows:
    """Rows of a CSV file with the columns place, method, data, contrast, n, metric, unit, mean, sd; header left out.

    Raises:
        DataError: unreadable, other columns, or a mean or SD that is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [tuple(row) for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "the table of reported figures cannot be read", where={"file": path, "reason": error}
        ) from error
    if not rows or rows[0] != COLUMNS:
        raise DataError(
            "the table of reported figures has other columns",
            where={
                "file": path,
                "columns": ", ".join(rows[0]) if rows else "none",
                "expected": ",".join(COLUMNS),
            },
        )
    wrong = [n for n, row in enumerate(rows[1:], 2) if not _sound(row)]
    if wrong:
        raise DataError(
            "lines of the table of reported figures are not whole",
            where={"file": path, "lines": ", ".join(map(str, wrong[:8]))},
            remedy="every line has nine entries; mean and sd are numbers, or sd is empty",
        )
    return tuple(rows[1:])


def reported_cells(rows: Sequence[Sequence[str]]) -> Cells:
    """One row a place, method, data and contrast; one column a metric: mean ± SD as printed."""
    metrics = list(dict.fromkeys((row[5], row[6]) for row in rows))
    found: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for row in rows:
        value = row[7] + (f" ± {row[8]}" if row[8] else "")
        found.setdefault(tuple(row[:5]), {})[row[5], row[6]] = value.replace("-", "−")
    heads = ("where", "method", "data", "contrast", "n")
    names = tuple(name if unit in ("", "1") else f"{name} ({unit})" for name, unit in metrics)
    return (*heads, *names), [(*key, *(cells.get(m, "–") for m in metrics)) for key, cells in found.items()]


def _sound(row: Sequence[str]) -> bool:
    if len(row) != len(COLUMNS) or not row[7]:
        return False
    try:
        return all(float(value) == float(value) for value in row[7:] if value)
    except ValueError:
        return False
