"""The tidy table of a run: one row a value, as `cases.csv` and Parquet. Every other number is computed from it.

Columns: case, person, contrast, domain, structure, metric, value, unit, direction, worst, note, reference, part.
A row of a person has an empty case. A row of a part of a case has its index (a slice, a bin), all others none.
"""

from __future__ import annotations

import csv
import importlib
import math
import statistics
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file
from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FAILURES = ("miss", "false positive")
"""Notes that count as the worst value where the value itself is not defined."""
NOTES = ("", "miss", "empty", "false positive", "incomplete")
"""What a note may be. "incomplete" (what the metric needs is not there: levels, enough slices, all contrasts) may
be followed by a colon and the reason."""
_NUMBERS = ("value", "worst")


@dataclass(frozen=True)
class Row:
    """One value of one metric for one structure of one case, person or slice.

    case: "" in rows of a person. value: NaN where not defined; the note says why. worst: what a failure counts
    as, in the metric's unit (NaN for measurements). direction: "higher", "lower", "toward V" where the best value
    is V, or "none". reference: what was measured against. part: index of a slice or bin, "" for the whole.
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
    part: str = ""

    def __post_init__(self) -> None:
        word, _, reason = self.note.partition(":")
        noted = word in NOTES and (not reason or word == "incomplete")
        toward = self.direction.removeprefix("toward ")
        if not noted or (self.direction not in ("higher", "lower", "none") and not _is_number(toward)):
            raise ValueError(f"not a row of the case table: note {self.note!r}, direction {self.direction!r}")

    @property
    def counted(self) -> float:
        """The value as it enters comparisons: a failure is never better than what it failed to be.

        Overlaps and distances: the value, or `worst` for a failure without one. Where less is better, at most
        `worst`, and for metrics with a best value V the size of the error |value − V|, at most |worst − V|: nothing
        counts worse than a miss, so that leaving a prediction out never pays.
        Measurements (direction "none") have no worst: the value where it is defined. NaN for nothing to find
        and nothing found, and for what is incomplete: whoever averages leaves these rows out and says so.
        """
        failed = self.note in FAILURES and math.isnan(self.value)
        if self.direction == "none":
            return self.value
        if not self.direction.startswith("toward "):
            if self.direction == "lower" and self.value > self.worst:
                return self.worst
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
    nothing found. incomplete: values that could not be had for another reason than an empty mask. Rows of parts
    (slices) are counted one by one.
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
    incomplete: int = 0

    def text(self, digits: int = 3) -> str:
        """`0.912 ± 0.034 (n 12/12, 0 misses)`: how tables and figures print it."""
        spread = "" if math.isnan(self.sd) else f" ± {self.sd:.{digits}f}"
        mean = "–" if math.isnan(self.mean) else f"{self.mean:.{digits}f}{spread}"
        misses = f"{self.misses} miss{'' if self.misses == 1 else 'es'}"
        extra = f", {self.false_positives} false positive" if self.false_positives else ""
        plural = "s" if self.false_positives > 1 else ""
        missing = f", {self.incomplete} incomplete" if self.incomplete else ""
        return f"{mean} (n {self.n}/{self.total}, {misses}{extra}{plural}{missing})"


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
        total=len(rows) - sum(row.note == "empty" and math.isnan(row.value) for row in rows),
        persons=len({row.person or row.case for row in rows}),
        misses=notes.count("miss"),
        false_positives=notes.count("false positive"),
        empty=notes.count("empty"),
        mean=statistics.fmean(defined) if defined else math.nan,
        sd=statistics.stdev(defined) if len(defined) > 1 else math.nan,
        with_worst=statistics.fmean(counted) if counted else math.nan,
        incomplete=sum(note.startswith("incomplete") for note in notes),
    )


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write the table as CSV and, where pyarrow is installed, as Parquet beside it; return the CSV's path.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    write_rows(path, rows)
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:  # a worker with the least that trains has no pyarrow
        return path
    kinds = {name: arrow.float64() if name in _NUMBERS else arrow.string() for name in COLUMNS}
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    table = arrow.table(columns, schema=arrow.schema(kinds.items()))
    with atomic_file(path.with_suffix(".parquet")) as temporary:
        parquet.write_table(table, temporary)
    return path


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
