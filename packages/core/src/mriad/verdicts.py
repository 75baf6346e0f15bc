"""What a person said of cases while looking at them: the list that a quality-control page exports.

`qc-verdicts.csv` has the columns case, verdict ("pass", "fail" or empty), comment and time (ISO 8601, UTC), one row
a case that was judged or commented. `qc-verdicts.json` holds the same under `verdicts`. A data set may leave out
what failed (`data.without`), and a correction task takes the failed cases with their comments.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = ("case", "verdict", "comment", "time")
VERDICTS = ("pass", "fail", "")
FORMAT = 1


@dataclass(frozen=True)
class Verdict:
    """One case: `verdict` is "pass", "fail", or "" where there is only a comment."""

    case: str
    verdict: str
    comment: str = ""
    time: str = ""


def read_verdicts(path: Path) -> list[Verdict]:
    """Read a list of verdicts, CSV or JSON, in the file's order.

    Raises:
        DataError: it cannot be read, is no such list, holds a verdict that is none, or judges a case twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    found = _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)
    seen: dict[str, str] = {}
    for place, verdict in found:
        if not verdict.case or verdict.verdict not in VERDICTS:
            raise DataError(
                "a line of a list of verdicts cannot be understood",
                where={
                    "file": path,
                    "at": place,
                    "case": verdict.case or "(empty)",
                    "verdict": verdict.verdict or "(empty)",
                    "expected": "a case, and pass, fail or nothing",
                },
                remedy="export the list from the quality-control page again",
            )
        if verdict.case in seen:
            raise DataError(
                "a case is judged twice",
                where={"file": path, "case": verdict.case, "at": f"{seen[verdict.case]} and {place}"},
                remedy="keep the line that counts",
            )
        seen[verdict.case] = place
    return [verdict for _, verdict in found]


def failed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The cases that failed, in order, with their comments."""
    return [verdict for verdict in verdicts if verdict.verdict == "fail"]


def _from_csv(path: Path, text: str) -> list[tuple[str, Verdict]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                "a list of verdicts lacks columns",
                where={"file": path, "missing": ", ".join(missing), "expected": ", ".join(COLUMNS)},
                remedy="give the qc-verdicts.csv that the quality-control page exports",
            )
        return [
            (f"line {reader.line_num}", Verdict(**{name: row[name] or "" for name in COLUMNS}))
            for row in reader
        ]
    except csv.Error as error:
        raise _unreadable(path, error) from error


def _from_json(path: Path, text: str) -> list[tuple[str, Verdict]]:
    try:
        content: Any = json.loads(text)
    except ValueError as error:
        raise _unreadable(path, error) from error
    rows = content.get("verdicts") if isinstance(content, dict) else None
    if (
        not isinstance(rows, list)
        or content.get("format") != FORMAT
        or not all(isinstance(row, dict) and isinstance(row.get("case"), str) for row in rows)
    ):
        raise DataError(
            "this is no list of verdicts",
            where={
                "file": path,
                "expected": f"JSON with `format: {FORMAT}` and `verdicts`, each with a case",
            },
            remedy="give the qc-verdicts.json that the quality-control page exports",
        )
    return [
        (f"entry {place}", Verdict(**{name: str(row.get(name) or "") for name in COLUMNS}))
        for place, row in enumerate(rows, 1)
    ]


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError("a list of verdicts cannot be read", where={"file": path, "reason": error})
