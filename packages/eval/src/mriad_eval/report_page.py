"""One HTML file with everything that a comparison found: verdict, tables, figures. It asks for nothing else."""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from mriad.atomic import atomic_file
from mriad.case_table import FAILURES, summarise

from mriad_eval.comparison.persons import same_persons
from mriad_eval.comparison.render import (
    COUNTED,
    INTERVALS,
    compute_cells,
    difference_cells,
    figures_cells,
    rank_cells,
    test_cells,
)
from mriad_eval.comparison.reported import NOTE, reported_cells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mriad_eval.comparison.render import Cells
    from mriad_eval.comparison.study import ComparisonResult
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.study_figures import StudyFigure

GENERATOR = "mriad report"
"""By this a file is known as one that may be written again."""
CASES = 2000
"""So many cases are listed; a table of more is no help in a page, and `cases.csv` has all."""


def write_report(
    path: Path,
    table: TrialTable,
    result: ComparisonResult | None,
    figures: Sequence[StudyFigure],
    *,
    title: str,
    description: str = "",
    lines: Sequence[str] = (),
    metric: str = "",
) -> Path:
    """Write the page: no scripts, nothing from outside, pictures inside; it opens from disk.

    Args:
        path: the file.
        table: the trials.
        result: their comparison; None for a single variant, whose values are listed.
        figures: from `draw_study`.
        title: of the page, such as the study's name.
        description: a line of the user's.
        lines: the verdict and notes as printed; the first ones are the verdicts.
        metric: whose values are listed by case where there is no comparison.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_asset("report.html.j2"))
    verdicts = [] if result is None else list(result.verdicts)
    name = metric if result is None else result.primary.metric
    structure = "" if result is None else result.primary.structure
    against = "" if result is None else result.primary.reference
    text = template.render(
        generator=GENERATOR,
        style=_asset("report.css"),
        title=title,
        description=description,
        facts=_facts(table, result),
        verdicts=verdicts,
        notes=[line.removeprefix("note: ") for line in lines[len(verdicts) :]],
        tables=_tables(table, result),
        figures=[_figure(figure) for figure in figures],
        exploratory=[] if result is None else _exploratory(result),
        reported=None if result is None else _reported(result),
        missing=[(t.text(), t.status, t.error) for t in table.missing()],
        cases=_cases(table, name, structure, against),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _facts(table: TrialTable, result: ComparisonResult | None) -> list[tuple[str, str]]:
    finished = [t for t in table.trials if t.rows]
    same = same_persons(table)
    persons = {same.get(r.person, r.person) or r.case for t in finished for r in t.rows}
    seeds = sorted({t.seed for t in finished if t.seed}, key=lambda s: (len(s), s))
    folds = {t.fold for t in finished if t.fold}
    unit = "persons" if result is None else result.unit
    facts = [
        ("data", f"{table.data or 'not named'} ({table.evidence or 'evidence level unknown'})"),
        (unit, str(len(persons))),
        (
            "trials",
            f"{len(finished)} finished" + (f", {len(table.missing())} missing" if table.missing() else ""),
        ),
        ("seeds", ", ".join(seeds) or "none (fixed models)"),
    ]
    if len(folds) > 1:
        facts.append(("folds", str(len(folds))))
    if result is not None:
        facts += [("primary metric", result.primary.name), ("reference variant", result.reference)]
        facts.append(("measured against", result.primary.reference or "–"))
    return facts


def _tables(table: TrialTable, result: ComparisonResult | None) -> list[dict[str, Any]]:
    if result is None:
        return [
            _table("Values", _single(table), "Over cases and seeds. n: values of total; misses: not found.")
        ]
    found = [
        _table(f"Values over {result.unit}", figures_cells(result), COUNTED),
        _table(
            f"Primary metric, differences to {result.reference}",
            difference_cells(result.differences, result),
            INTERVALS.replace("*", ""),
        ),
    ]
    if result.ranks is not None:
        r = result.ranks
        note = f"{r.resamples} draws of {r.n} {result.unit}; "
        note += f"Kendall's τ with the observed ranking {r.kendall_tau:.2f}."
        found.append(_table("Stability of the ranks", rank_cells(result), note))
    return [*found, _table("Compute", compute_cells(result), "Sums over trials; peak memory: the largest.")]


def _exploratory(result: ComparisonResult) -> list[dict[str, Any]]:
    found = []
    if result.exploratory.differences:
        found.append(_table("Other metrics", difference_cells(result.exploratory.differences, result)))
    if result.exploratory.tests:
        found.append(_table("Other tests of the primary metric", test_cells(result)))
    return found


def _reported(result: ComparisonResult) -> dict[str, Any] | None:
    rows = result.question.reported
    return _table("From the publication", reported_cells(rows), NOTE) if rows else None


def _single(table: TrialTable) -> Cells:
    rows: list[tuple[str, ...]] = []
    for variant in table.variants:
        own = [row for trial in table.finished(variant) for row in trial.rows if not row.part]
        for s in summarise(own):
            spread = "" if math.isnan(s.sd) else f" ± {s.sd:.3f}"
            mean = "–" if math.isnan(s.mean) else f"{s.mean:.3f}{spread}"
            unit = "" if s.unit in ("", "1") else f" ({s.unit})"
            rows.append(
                (
                    f"{s.metric}{unit}",
                    s.structure,
                    variant,
                    s.reference or "–",
                    mean,
                    f"{s.n}/{s.total}",
                    str(s.misses),
                )
            )
    return ("metric", "structure", "variant", "against", "mean ± SD", "n", "misses"), rows


def _table(title: str, cells: Cells, note: str = "") -> dict[str, Any]:
    heads, rows = cells
    return {"title": title, "heads": heads, "rows": rows, "note": note}


def _figure(figure: StudyFigure) -> dict[str, Any]:
    picture = ""
    if figure.vector is not None:
        picture = base64.b64encode(figure.vector.read_bytes()).decode("ascii")
    return {
        "heading": figure.heading,
        "caption": figure.caption,
        "picture": picture,
        "problem": figure.problem,
        "wide": figure.wide,
    }


def _cases(table: TrialTable, metric: str, structure: str, against: str) -> dict[str, Any]:
    """Values of the primary metric by case, seeds averaged; a case that any seed missed says how often."""
    found: dict[tuple[str, ...], dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for trial in table.trials:
        for row in trial.rows:
            if row.metric == metric and structure in ("", row.structure) and against in ("", row.reference):
                key = (
                    row.case or "–",
                    row.person or row.case,
                    row.contrast,
                    row.domain,
                    row.structure,
                    row.part,
                )
                found[key][trial.variant].append((row.value, row.note))
    parts = any(key[-1] for key in found)
    heads = [
        "case",
        "person",
        "contrast",
        "domain",
        "structure",
        *(["part"] if parts else []),
        *table.variants,
    ]
    rows = [
        [*(key if parts else key[:-1]), *(_cell(found[key].get(v, [])) for v in table.variants)]
        for key in sorted(found)[:CASES]
    ]
    return {
        "metric": metric,
        "heads": heads,
        "rows": rows,
        "total": len(found),
        "left": max(0, len(found) - CASES),
    }


def _cell(values: Sequence[tuple[float, str]]) -> str:
    """`0.912`, `0.456 (1 of 2: miss)`, `– (miss)`."""
    good = [value for value, _ in values if not math.isnan(value)]
    text = f"{sum(good) / len(good):.4g}".replace("-", "−") if good else "–"
    noted = [
        note for _, note in values if note in FAILURES or note.startswith("incomplete") or note == "empty"
    ]
    if not noted:
        return text
    count = "" if len(values) == 1 else f"{len(noted)} of {len(values)}: "
    return f"{text} ({count}{', '.join(dict.fromkeys(noted))})"


def _asset(name: str) -> str:
    return resources.files("mriad_eval").joinpath("report_assets", name).read_text(encoding="utf-8")
