"""`mriad compare`: which variant is better, by how much, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer
from mriad.cli.next_step import next_step
from mriad.errors import StorageError
from mriad.identity import fingerprint
from mriad.launch.files import read_json, runs_root

if TYPE_CHECKING:
    from rich.console import Console

    from mriad_eval.comparison.render import Cells
    from mriad_eval.comparison.study import ComparisonResult


class CorrectionChoice(StrEnum):
    """How p-values of several comparisons are corrected."""

    HOLM = "holm"
    BONFERRONI = "bonferroni"


def compare(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, an ablation's folder, or names of runs and studies; NAME=RUNFOLDER names the variant.",
        ),
    ],
    primary: Annotated[
        str, typer.Option(help="The one metric of the verdict: dice, or dice/STRUCTURE. [default: the first]")
    ] = "",
    reference: Annotated[
        str, typer.Option(help="Variant that the others are held against. [default: the first]")
    ] = "",
    metrics: Annotated[
        str, typer.Option(help="Other metrics, comma-separated; exploratory. [default: all]")
    ] = "",
    against: Annotated[
        str, typer.Option(help="Labels measured against, such as truth, where there are several.")
    ] = "",
    correction: Annotated[
        CorrectionChoice | None,
        typer.Option(help="Over the comparisons of the primary metric. [default: holm]", show_default=False),
    ] = None,
    tests: Annotated[
        str,
        typer.Option(
            help="Exploratory tests: paired_t, anova_rm, friedman, kolmogorov_smirnov (comma-separated)."
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for comparison.md, .csv, .tex and .json. [default: below --runs]"),
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Runs folder; default ./mriad-runs.")] = None,
) -> None:
    """Compare finished runs with the same test cases: table, differences, and a verdict in words.

    Seeds are averaged within each person; folds and seeds are never counted as persons. One ablation keeps the
    question that its file asked, as far as no option changes it.

    Example: mriad compare soft=runs/soft-1a2b hard=runs/hard-3c4d --primary dice --reference hard
    """
    from rich.console import Console

    from mriad_eval.comparison.asked import known_question
    from mriad_eval.comparison.composites import with_composites
    from mriad_eval.comparison.run_folders import read_table
    from mriad_eval.comparison.study import Question
    from mriad_eval.comparison.study import compare as compare_table

    root = runs_root(runs)
    table = read_table(given, root)
    first = next((row.metric for trial in table.trials for row in trial.rows if row.direction != "none"), "")
    known = known_question(given, root)
    changes = {
        "primary": primary,
        "reference": reference,
        "metrics": _names(metrics),
        "against": against,
        "correction": correction.value if correction else "",
        "tests": _names(tests),
    }
    question = replace(
        known or Question(primary=first), **{key: value for key, value in changes.items() if value}
    )
    table = with_composites(table, question.composites)
    result = compare_table(table, question)
    folder = out or root.path / "comparisons" / _mark(given, question)
    _write(result, folder)
    console = Console()
    _print(console, result)
    console.print(f"written: {folder}/comparison.md, .csv, .tex and .json", highlight=False, soft_wrap=True)
    if known is not None and not any(changes.values()):
        console.print("the question is the one that the ablation's file asks", highlight=False)
    elif not primary and known is None:
        console.print(
            f"the primary metric was not named, so that the first was taken: {first}",
            highlight=False,
            soft_wrap=True,
        )
    if result.missing:
        next_step("mriad resume RUN", f"{len(result.missing)} trials are missing; their names stand above")
    else:
        next_step("mriad ui", "look at the runs side by side")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _mark(given: list[str], question: object) -> str:
    """The same question about the same runs is written to the same place."""
    return fingerprint({"runs": [str(name) for name in given], "question": repr(question)})[:12]


def _write(result: ComparisonResult, folder: Path) -> None:
    """Write the four files; a comparison of another question is never replaced.

    Raises:
        StorageError: the folder holds another comparison, or cannot be written.
    """
    from mriad_eval.comparison.render import FILES, write_files

    known = read_json(folder / FILES[3])
    if known is not None:
        theirs = (known.get("question"), [f.get("variant") for f in known.get("facts", [])])
        mine = (result.question, [f.variant for f in result.facts])
        if fingerprint(_asked(theirs)) != fingerprint(_asked(mine)):
            raise StorageError(
                "the folder holds another comparison, and nothing is overwritten",
                where={"folder": folder},
                remedy="choose another --out",
            )
    write_files(result, folder)


def _asked(pair: tuple[object, list[str]]) -> dict[str, object]:
    from dataclasses import asdict, is_dataclass

    question, variants = pair
    plain = asdict(question) if is_dataclass(question) and not isinstance(question, type) else question
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dict(plain or {}).items()}  # type: ignore[call-overload]
    return {"question": plain, "variants": variants}


def _print(console: Console, result: ComparisonResult) -> None:
    from mriad_eval.comparison.render import (
        COUNTED,
        compute_cells,
        difference_cells,
        figures_cells,
        rank_cells,
        test_cells,
    )

    of_primary = len([f for f in result.figures if f.measure == result.primary])
    heads, rows = figures_cells(result)
    _table(console, f"{result.primary.name}, over {result.unit}", (heads, rows[:of_primary]), COUNTED)
    # Wide tables are for the files; a terminal shows what the verdict rests on.
    heads, rows = difference_cells(result.differences, result)
    wanted = [i for i, head in enumerate(heads) if head not in ("metric", "d_z")]
    cut = tuple(heads[i] for i in wanted), [tuple(row[i] for i in wanted) for row in rows]
    _table(console, f"differences to {result.reference}", cut, "intervals: t-based, 95 %")
    if result.ranks is not None and len(result.ranks.methods) > 2:
        _table(console, "stability of the ranks, persons drawn again", rank_cells(result))
    if any(f.compute for f in result.facts):
        _table(console, "compute", compute_cells(result))
    heads, rows = figures_cells(result)
    if rows[of_primary:]:
        title = "other metrics (exploratory; their differences are in the files)"
        _table(console, title, (heads, rows[of_primary:]))
    if result.exploratory.tests:
        _table(console, "other tests (exploratory)", test_cells(result))
    console.print("verdict", style="bold")
    for verdict in result.verdicts:
        console.print(f"  {verdict.text}", highlight=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"  note: {note}", highlight=False, soft_wrap=True)
    for name, first in result.same_persons.items():
        console.print(f"  the same person: {name} = {first}", highlight=False, soft_wrap=True)


def _table(console: Console, title: str, cells: Cells, caption: str = "") -> None:
    from rich import box
    from rich.table import Table

    heads, rows = cells
    table = Table(title=title, title_justify="left", caption=caption or None, caption_justify="left")
    table.box, table.pad_edge, table.padding = box.SIMPLE, False, (0, 1, 0, 0)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)
