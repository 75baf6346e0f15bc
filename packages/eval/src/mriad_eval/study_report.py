"""The end of an ablation: its trials as a comparison, written as tables, figures and one page, told in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad_eval.comparison.render import write_files
from mriad_eval.comparison.run_folders import table_of_study
from mriad_eval.comparison.study import Question, compare

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.ablation.study import Study

    from mriad_eval.comparison.study import ComparisonResult
    from mriad_eval.comparison.trials import TrialTable
    from mriad_eval.comparison_config import CompareVariants


def conclude(asked: CompareVariants, study: Study, folder: Path) -> list[str]:
    """Compare the finished trials of a study and write what was found into `folder`.

    Returns the verdict, one line a comparison, with notes and missing trials.

    Raises:
        DataError: fewer than two variants have values, or a metric that no case has; see `comparison.study.compare`.
    """
    table = table_of_study(study)
    result = compare(table, question_of(asked, table))
    write_files(result, folder)
    return told(result)


def question_of(asked: CompareVariants, table: TrialTable) -> Question:
    """The question of a comparison; without a primary metric the first that can judge."""
    first = next((row.metric for trial in table.trials for row in trial.rows if row.direction != "none"), "")
    return Question(
        primary=asked.primary or first,
        reference=asked.reference,
        metrics=tuple(asked.metrics),
        against=asked.against,
        correction="bonferroni" if "wilcoxon_bonferroni" in asked.tests else "holm",
        alpha=asked.alpha,
        tests=tuple(name for name in asked.tests if not name.startswith("wilcoxon")),
    )


def told(result: ComparisonResult) -> list[str]:
    """The verdict in words, then what a reader must know beside it."""
    return [*(verdict.text for verdict in result.verdicts), *(f"note: {note}" for note in result.notes)]
