"""The tidy table of a run: one row a value, written as `cases.csv`. Every other number is computed from it.

Columns: case, person, contrast, domain, structure, metric, value, unit, direction, worst, note, reference.
"""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from mriad.atomic import atomic_file
from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FAILURES = ("miss", "false positive")
"""Notes that count as the worst value where the value itself is not defined."""
NOTES = ("", "miss", "empty", "false positive")
_NUMBERS = ("value", "worst")


@dataclass(frozen=True)
class Row:
    """One value of one metric for one structure of one case.

    value: NaN where not defined; the note says why. worst: what a failure counts as, in the metric's unit.
    direction: "higher", "lower", or "toward V" where the best value is V. reference: what was measured
    against.
    """

    case: str
    person: str
    contrast: str
    domain: str
    structure: str
    metric: str
    value: float
    unit: str
    direction: str
    worst: float
    note: str = ""
    reference: str = ""

    def __post_init__(self) -> None:
        toward = self.direction.removeprefix("toward ")
        if self.note not in NOTES or (self.direction not in ("higher", "lower") and not _is_number(toward)):
            raise ValueError(f"not a row of the case table: note {self.note!r}, direction {self.direction!r}")

    @property
    def counted(self) -> float:
        """The value as it enters comparisons: a failure is never better than what it failed to be.

        Overlaps and distances: the value, or `worst` for a failure without one. Metrics with a best value
        V: the size of the error |value − V|, at most |worst − V|, so that nothing counts worse than a miss.
        NaN for nothing to find and nothing found.
        """
        failed = self.note in FAILURES and math.isnan(self.value)
        if not self.direction.startswith("toward "):
            return self.worst if failed else self.value
        best = float(self.direction.removeprefix("toward "))
        limit = abs(self.worst - best)
        if failed or math.isnan(self.value):
            return limit if failed else math.nan
        return min(abs(self.value - best), limit)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


COLUMNS = tuple(f.name for f in fields(Row))


@dataclass(frozen=True)
class Summary:
    """One metric of one structure over cases.

    mean, sd (n − 1): over the n values that are defined; an overlap counts a miss as 0, a distance has no
    value for one. with_worst: mean over all `total` cases where there was something to find or something
    was found, each failure at its worst value (for metrics with a best value: mean size of the error); the
    only one to compare variants by, since a miss never improves it. empty: cases with nothing to find and
    nothing found.
    """

    metric: str
    structure: str
    contrast: str
    reference: str
    unit: str
    direction: str
    n: int
    total: int
    persons: int
    misses: int
    false_positives: int
    empty: int
    mean: float
    sd: float
    with_worst: float

    def text(self, digits: int = 3) -> str:
        """`0.912 ± 0.034 (n 12/12, 0 misses)`: how tables and figures print it."""
        spread = "" if math.isnan(self.sd) else f" ± {self.sd:.{digits}f}"
        mean = "–" if math.isnan(self.mean) else f"{self.mean:.{digits}f}{spread}"
        misses = f"{self.misses} miss{'' if self.misses == 1 else 'es'}"
        extra = f", {self.false_positives} false positive" if self.false_positives else ""
        plural = "s" if self.false_positives > 1 else ""
        return f"{mean} (n {self.n}/{self.total}, {misses}{extra}{plural})"


def summarise(rows: Iterable[Row], *, per_contrast: bool = False) -> list[Summary]:
    """Return one summary a metric × structure × reference (× contrast), in order of appearance."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        contrast = row.contrast if per_contrast else ""
        groups.setdefault((row.metric, row.structure, contrast, row.reference), []).append(row)
    return [_summary(key[2], group) for key, group in groups.items()]


def _summary(contrast: str, rows: Sequence[Row]) -> Summary:
    defined = [row.value for row in rows if not math.isnan(row.value)]
    counted = [row.counted for row in rows if not math.isnan(row.counted)]
    notes = [row.note for row in rows]
    return Summary(
        metric=rows[0].metric,
        structure=rows[0].structure,
        contrast=contrast,
        reference=rows[0].reference,
        unit=rows[0].unit,
        direction=rows[0].direction,
        n=len(defined),
        total=len(rows) - notes.count("empty"),
        persons=len({row.person or row.case for row in rows}),
        misses=notes.count("miss"),
        false_positives=notes.count("false positive"),
        empty=notes.count("empty"),
        mean=statistics.fmean(defined) if defined else math.nan,
        sd=statistics.stdev(defined) if len(defined) > 1 else math.nan,
        with_worst=statistics.fmean(counted) if counted else math.nan,
    )


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write the table as CSV, whole or not at all; numbers keep every digit.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, name) for name in COLUMNS] for row in rows)
    return path


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote.

    Raises:
        DataError: not there, or not such a table; the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    "a table of cases lacks columns",
                    where={"file": path, "missing": ", ".join(missing), "expected": ", ".join(COLUMNS)},
                    remedy="give a cases.csv that mriad wrote",
                )
            return [_parse(path, reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("a table of cases cannot be read", where={"file": path, "reason": error}) from error


def _parse(path: Path, line: int, record: dict[str, str | None]) -> Row:
    try:
        cells = {name: str(record[name] if record[name] is not None else "") for name in COLUMNS}
        numbers = {name: float(cells.pop(name)) for name in _NUMBERS}
        return Row(**cells, **numbers)  # type: ignore[arg-type]
    except ValueError as error:
        raise DataError(
            "a line of a table of cases cannot be read", where={"file": f"{path}:{line}", "reason": error}
        ) from error
