"""What `mriad measure` prints: level means, volumes, what to know of them, and what to do next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from mriad.cli.next_step import next_step
from rich import box
from rich.table import Table

from mriad_eval.measurements import LEVELS
from mriad_eval.morphometry.table import Record, level_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad.errors import MriadError
    from rich.console import Console

    from mriad_eval.measuring import Measured

MOST = 40
"""Rows that are printed; the files hold all."""


def report(
    console: Console,
    folder: Path,
    found: Sequence[Measured],
    faults: Sequence[MriadError],
    *,
    what_next: bool = True,
) -> None:
    """Print tables of areas and volumes, notes, failures, and the next useful command."""
    areas = [row for one in found for row in _areas(one)]
    _print(console, "area (mm²)", ("levels", "area ± SD", "slices", "AP (mm)", "RL (mm)"), areas)
    volumes = [
        (one.case, r["Structure"], f"{float(r['soft_mm3']):.1f}", "") for one in found for r in one.volumes
    ]
    _print(console, "volume (mm³)", ("volume",), volumes)
    told: dict[str, list[str]] = {}
    for one in found:
        for note in one.notes:
            told.setdefault(note, []).append(one.case)
    for note, cases in told.items():
        which = cases[0] if len(cases) == 1 else f"{len(cases)} cases"
        console.print(f"{which}: {note}", highlight=False, soft_wrap=True)
    for fault in faults:
        console.print(f"\nfailed: {fault}", highlight=False, soft_wrap=True)
    console.print(f"written: {folder}", highlight=False, soft_wrap=True)
    if not what_next:
        return
    if any(one.levels for one in found):
        next_step(f"column -s, -t {folder / LEVELS} | less -S", "area by level, columns as SCT's")
    elif any(one.slices for one in found):
        next_step("mriad measure … --discs FILE", "area by vertebral level")


def _print(console: Console, title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Rows begin with case and structure and end with a note; what is the same everywhere goes into the title."""
    if not rows:
        return
    cases, structures = ({row[i] for row in rows} for i in (0, 1))
    same = [next(iter(names)) for names in (cases, structures) if len(names) == 1]
    heading = " · ".join([title, *same])
    if len(rows) == 1 and len(columns) == 1:
        console.print(f"{heading}: {rows[0][2]}\n", highlight=False, soft_wrap=True)
        return
    console.print(heading, highlight=False, soft_wrap=True, style="italic")
    table = Table(caption_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    kept = [i for i, names in ((0, cases), (1, structures)) if len(names) > 1]
    for i in kept:
        table.add_column(("case", "structure")[i], overflow="fold")
    for name in columns:
        table.add_column(name, justify="left" if name == "levels" else "right", no_wrap=True)
    noted = any(row[-1] for row in rows)
    if noted:
        table.add_column("note", overflow="fold")
    for row in rows[:MOST]:
        table.add_row(*(row[i] for i in kept), *row[2:-1], *([row[-1]] if noted else []))
    if len(rows) > MOST:
        table.caption = f"{len(rows) - MOST} more rows in the files"
    console.print(table)


def _areas(one: Measured) -> list[tuple[str, ...]]:
    """One row a level set; without levels one row for the whole structure."""
    out = []
    for structure in dict.fromkeys(r["Structure"] for r in one.slices):
        levels = [r for r in one.levels if r["Structure"] == structure]
        out += [_row(one.case, structure, level_text(r), [r], r["Slices"], r["Note"]) for r in levels]
        if not levels:
            kept = [
                r for r in one.slices if r["Structure"] == structure and not r["Note"].startswith("end of")
            ]
            out.append(_row(one.case, structure, "all slices", kept, str(len(kept)), ""))
    return out


def _row(
    case: str, structure: str, levels: str, records: Sequence[Record], slices: str, note: str
) -> tuple[str, ...]:
    values = {
        name: np.array([float(r[f"MEAN({name})"]) for r in records])
        for name in ("area", "diameter_AP", "diameter_RL")
    }
    area, ap, rl = (
        float(v[np.isfinite(v)].mean()) if np.isfinite(v).any() else math.nan for v in values.values()
    )
    sd = float(records[0]["STD(area)"]) if len(records) == 1 else float(np.nanstd(values["area"]))
    shown = "–" if math.isnan(area) else f"{area:.2f} ± {sd:.2f}"
    return (
        case,
        structure,
        levels,
        shown,
        slices,
        *("–" if math.isnan(v) else f"{v:.2f}" for v in (ap, rl)),
        note,
    )
