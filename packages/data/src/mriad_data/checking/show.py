"""The report as a table for a person; plain text where there is no terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mriad.memory import readable_bytes
from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mriad_data.checking.findings import CHECKS, Finding, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

EXAMPLES = 3
"""Places that are shown for each kind of finding, unless all are asked for."""
PLAIN_WIDTH = 118
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green", "–": "dim"}


def show(report: Report, everything: bool = False, stream: TextIO | None = None) -> None:
    """Print head, table and sum.

    Args:
        report: of a data set.
        everything: show each place, not the first three of a kind.
        stream: default: standard output.
    """
    console = Console(file=stream, highlight=False)
    if console.is_terminal:
        _print(console, report, everything)
        return
    plain = Console(file=io.StringIO(), highlight=False, width=PLAIN_WIDTH, no_color=True)
    _print(plain, report, everything)
    assert isinstance(plain.file, io.StringIO)
    for line in plain.file.getvalue().splitlines():
        print(line.rstrip(), file=stream)


def _print(console: Console, report: Report, everything: bool) -> None:
    console.print(Text(_head(report)), soft_wrap=True)
    if not console.is_terminal:
        console.print()
    console.print(_table(report, everything, console.is_terminal))
    if not console.is_terminal:
        console.print()
    console.print(_sum(report), soft_wrap=True)


def _head(report: Report) -> str:
    size = f", {readable_bytes(report.bytes)}" if report.files else ""
    return (
        f"{report.target}: {_count(report.cases, 'case')} of {_count(report.persons, 'person')}, "
        f"{_count(report.files, 'file')}{size}, read in {report.seconds:.1f} s\n{report.layout}"
    )


def _table(report: Report, everything: bool, colour: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if colour else None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what was found, and where", overflow="fold")
    for check in CHECKS:
        first = True
        for level, number, text in _rows(report, check, everything):
            table.add_row(check if first else "", Text(level, STYLES[level]), number, text)
            first = False
    return table


def _rows(report: Report, check: str, everything: bool) -> Iterator[tuple[str, str, Text | Group]]:
    """Level, number of findings and text, one row a kind of finding."""
    if check in report.skipped:
        yield "–", "", Text(f"not checked: {report.skipped[check]}", "dim")
        return
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.check == check:
            kinds.setdefault((finding.level, finding.what), []).append(finding)
    if not kinds:
        yield "ok", "", Text(CHECKS[check])
    for (level, what), found in kinds.items():
        yield level, str(len(found)) if len(found) > 1 else "", _text(what, found, everything)


def _text(what: str, found: Sequence[Finding], everything: bool) -> Group:
    parts: list[Text | Padding] = []
    if len(found) == 1 and not (found[0].case or found[0].file):
        parts.append(Text(f"{what}: {found[0].detail}" if found[0].detail else what))
    else:
        parts.append(Text(what))
        for finding in found if everything else found[:EXAMPLES]:
            place = _place(finding)
            parts.append(_below(Text.assemble((place, "bold"), "  " if place else "", finding.detail)))
        if len(found) > EXAMPLES and not everything:
            parts.append(_below(Text(f"and {len(found) - EXAMPLES} more", "dim")))
    if found[0].remedy:
        parts.append(_below(Text(f"→ {found[0].remedy}", "dim")))
    return Group(*parts)


def _below(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def _place(finding: Finding) -> str:
    """The case, else the file's name; the whole path is in the JSON."""
    return finding.case or finding.file.rpartition("/")[2] or finding.file


def _sum(report: Report) -> Text:
    counts = report.counts
    parts = [_count(n, level) for level, n in counts.items() if n and level != "note"]
    if report.must_be_fixed:
        return Text(f"{', '.join(parts)}: errors must be fixed before training", STYLES["error"])
    if parts:
        return Text(f"{', '.join(parts)}: nothing must be fixed", STYLES["warning"])
    return Text("nothing to fix", STYLES["ok"])


def _count(n: int, word: str) -> str:
    return f"{n} {word}" + ("" if n == 1 else "s")
