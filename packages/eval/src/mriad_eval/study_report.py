"""The end of an ablation: its trials as a comparison, written as tables, figures and one page, told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad_eval.comparison.composites import with_composites
from mriad_eval.comparison.render import write_files
from mriad_eval.comparison.reported import read_reported
from mriad_eval.comparison.run_folders import table_of_study
from mriad_eval.comparison.study import Question, compare
from mriad_eval.report_page import write_report
from mriad_eval.study_figures import draw_study

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.ablation.study import Study

    from mriad_eval.comparison.study import ComparisonResult
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.comparison_config import CompareVariants

REPORT = "report.html"


def conclude(asked: CompareVariants, study: Study, folder: Path) -> list[str]:
    """Compare the finished trials of a study and write what was found into `folder`.

    Writes comparison.md, .csv, .tex and .json, a PNG and an SVG a figure, and report.html with all of it. What an
    earlier comparison left there and this one does not make is removed.

    Returns the verdict, one line a comparison, with notes and missing trials.

    Raises:
        DataError: fewer than two variants have values, the reference is no variant or did not finish, or a metric
            that no case has; see `comparison.study.compare`. StorageError: the place is full or cannot be written.
    """
    table = table_of_study(study)
    question = question_of(asked, table)
    table = with_composites(table, question.composites)
    result = compare(table, question)
    for old in (*folder.glob("*.png"), *folder.glob("*.svg")):
        old.unlink()
    write_files(result, folder)
    figures = draw_study(folder, table, result)
    lines = told(result)
    write_report(
        folder / REPORT, table, result, figures, title=study.name, description=study.description, lines=lines
    )
    return lines


def question_of(asked: CompareVariants, table: TrialTable) -> Question:
    """The question of a comparison; without a primary metric the first that is better or worse."""
    return Question(
        primary=asked.primary or first_metric(table),
        reference=asked.reference,
        metrics=tuple(asked.metrics),
        against=asked.against,
        correction="bonferroni" if "wilcoxon_bonferroni" in asked.tests else "holm",
        alpha=asked.alpha,
        tests=tuple(name for name in asked.tests if not name.startswith("wilcoxon")),
        reported=() if asked.reported is None else read_reported(asked.reported),
        composites=asked.composites,
    )


def first_metric(table: TrialTable) -> str:
    """The first metric with a direction; "" where nothing was measured."""
    rows = (row for trial in table.trials for row in trial.rows)
    return next((row.metric for row in rows if row.direction != "none"), "")


def told(result: ComparisonResult) -> list[str]:
    """The verdict in words, then what a reader must know beside it."""
    return [*(verdict.text for verdict in result.verdicts), *(f"note: {note}" for note in result.notes)]
