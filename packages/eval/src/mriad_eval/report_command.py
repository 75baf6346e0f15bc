"""`mriad report`: everything that is known of a study or of runs in one HTML file that opens offline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from mriad.cli.next_step import next_step
from mriad.errors import DataError, StorageError
from mriad.launch.files import runs_root

if TYPE_CHECKING:
    from mriad_eval.comparison.study import Question


def report(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY|RUN...",
            help="An ablation's folder or name, run folders, or names of runs; NAME=RUNFOLDER names the variant.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file. [default: reports/NAME.html below the runs folder]")
    ] = None,
    primary: Annotated[
        str,
        typer.Option(help="The metric of the verdict: dice, or dice/STRUCTURE. [default: the study's own]"),
    ] = "",
    reference: Annotated[
        str,
        typer.Option(
            help="Variant that the others are held against. [default: the study's own, or the first]"
        ),
    ] = "",
    against: Annotated[
        str, typer.Option(help="Labels measured against, such as truth, where there are several.")
    ] = "",
    runs: Annotated[Path | None, typer.Option(help="Runs folder; default ./mriad-runs.")] = None,
) -> None:
    """Bundle verdict, tables and figures of a study in one self-contained HTML file.

    An ablation keeps the question that its file asked. One variant alone gets values and figures without a verdict.

    Example: mriad report my-ablation --out my-ablation.html
    """
    from rich.console import Console

    from mriad_eval.comparison.asked import known_question
    from mriad_eval.comparison.composites import with_composites
    from mriad_eval.comparison.run_folders import read_table
    from mriad_eval.comparison.study import compare
    from mriad_eval.report_page import write_report
    from mriad_eval.study_figures import draw_study
    from mriad_eval.study_report import first_metric, told

    root = runs_root(runs)
    table = read_table(given, root)
    if not any(table.finished(v) for v in table.variants):
        raise DataError(
            "none of these runs has a table of values",
            where={"runs": ", ".join(f"{t.text()} ({t.status})" for t in table.trials[:6])},
            remedy="let a trial finish, or resume it: mriad resume RUN",
        )
    asked = _question(known_question(given, root), primary, reference, against, first_metric(table))
    table = with_composites(table, asked.composites)
    result = compare(table, asked) if len(table.variants) > 1 else None
    lines = told(result) if result is not None else []
    name = _name(given)
    path = out or root.path / "reports" / f"{name}.html"
    _require_ours(path)
    with tempfile.TemporaryDirectory() as folder:
        figures = draw_study(Path(folder), table, result, asked.primary)
        write_report(path, table, result, figures, title=name, lines=lines, metric=asked.primary)
    console = Console()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    for figure in figures:
        if figure.problem:
            console.print(f"not drawn: {figure.heading}: {figure.problem}", highlight=False, soft_wrap=True)
    console.print(f"written: {path}", highlight=False, soft_wrap=True)
    next_step(f"xdg-open {path}", "open it in a browser; it needs no network")


def _question(known: Question | None, primary: str, reference: str, against: str, first: str) -> Question:
    from dataclasses import replace

    from mriad_eval.comparison.study import Question

    question = known or Question(primary=first)
    changes = {"primary": primary, "reference": reference, "against": against}
    return replace(question, **{k: v for k, v in changes.items() if v})  # type: ignore[arg-type]


def _name(given: list[str]) -> str:
    """The last part of the first argument, without its path and its variant's name."""
    first = given[0] if Path(given[0]).exists() else given[0].partition("=")[2] or given[0]
    name = Path(first).absolute().name if Path(first).exists() else Path(first).name
    return name if len(given) == 1 else f"{name} and {len(given) - 1} more"


def _require_ours(path: Path) -> None:
    """Refuse to replace a file that is no report."""
    from mriad_eval.report_page import GENERATOR

    if path.is_dir() or (path.exists() and f'content="{GENERATOR}"'.encode() not in path.read_bytes()[:2000]):
        raise StorageError(
            "there is something else, and nothing is overwritten",
            where={"file": path},
            remedy="choose another --out",
        )
