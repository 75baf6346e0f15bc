"""From the tidy tables of several runs to what may be said about them: figures, differences, tests, a verdict.

>>> from mriad_eval.comparison import Question, compare, read_table
"""

from mriad_eval.comparison.differences import Difference
from mriad_eval.comparison.persons import Measure
from mriad_eval.comparison.run_folders import read_table
from mriad_eval.comparison.study import ComparisonResult, Question, compare
from mriad_eval.comparison.trials import Trial, TrialTable
from mriad_eval.comparison.verdict import Verdict

__all__ = [
    "ComparisonResult",
    "Difference",
    "Measure",
    "Question",
    "Trial",
    "TrialTable",
    "Verdict",
    "compare",
    "read_table",
]
