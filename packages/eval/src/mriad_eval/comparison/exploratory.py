"""What is looked at beside the primary metric; nothing here is corrected, and nothing here is claimed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError

from mriad_eval.comparison.differences import difference
from mriad_eval.statistics.anova import repeated_measures_anova
from mriad_eval.statistics.paired import paired_t
from mriad_eval.statistics.ranks import friedman_nemenyi
from mriad_eval.statistics.two_samples import kolmogorov_smirnov

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad_eval.comparison.differences import Difference
    from mriad_eval.comparison.persons import Measure, PersonValues
    from mriad_eval.comparison.study import Question
    from mriad_eval.comparison.trials import TrialTable

TESTS = ("paired_t", "anova_rm", "friedman", "kolmogorov_smirnov")
"""Names of the tests that can be asked for. Wilcoxon's is always made."""
_ANOVA = "repeated-measures ANOVA"


@dataclass(frozen=True)
class ExploratoryTest:
    """One test in words: its name, what it compared, statistic, degrees of freedom, p, n, and how it was made.

    reason: why it could not be made, then p is NaN.
    """

    test: str
    about: str
    statistic: str
    p: float
    n: str
    note: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Exploratory:
    """Differences in other metrics (p uncorrected), and the tests that were asked for on the primary one."""

    differences: tuple[Difference, ...]
    tests: tuple[ExploratoryTest, ...]


def explore(
    table: TrialTable,
    measures: Sequence[Measure],
    values: Mapping[Measure, Mapping[str, PersonValues]],
    reference: str,
    question: Question,
    same: Mapping[str, str],
) -> Exploratory:
    """Compare the other metrics with the reference, and make the tests that were asked for."""
    differences = [
        difference(values[measure][variant], values[measure][reference], measure, level=1 - question.alpha)
        for measure in measures
        for variant in values[measure]
        if variant != reference and reference in values[measure]
    ]
    primary = next(m for m in values if m not in measures)
    made: list[ExploratoryTest] = []
    for name in question.tests:
        made += _MAKE[name](table, primary, values[primary], reference, same)
    return Exploratory(tuple(differences), tuple(made))


def _paired_t(
    table: TrialTable,
    measure: Measure,
    values: Mapping[str, PersonValues],
    reference: str,
    same: Mapping[str, str],
) -> list[ExploratoryTest]:
    found = []
    for variant in values:
        if variant == reference:
            continue
        about = f"{variant} − {reference}"
        x = _complete([_means(values[variant]), _means(values[reference])])
        try:
            t = paired_t(x[:, 0], x[:, 1])
        except DataError as error:
            found.append(ExploratoryTest("paired t", about, "", np.nan, str(len(x)), reason=error.what))
            continue
        found.append(ExploratoryTest("paired t", about, f"t({t.df}) = {t.t:.3g}", t.p, str(t.n)))
    return found


def _anova(
    table: TrialTable,
    measure: Measure,
    values: Mapping[str, PersonValues],
    reference: str,
    same: Mapping[str, str],
) -> list[ExploratoryTest]:
    """The factor is the contrast, within each variant; seeds and structures averaged within person × contrast."""
    found = []
    for variant in values:
        cells: dict[tuple[str, str], list[float]] = {}
        for trial in table.finished(variant):
            for row in trial.rows:
                if row.metric != measure.metric or row.reference != measure.reference:
                    continue
                if measure.structure in ("", row.structure) and not np.isnan(row.counted):
                    cells.setdefault((same.get(row.person, row.person), row.contrast), []).append(row.counted)
        contrasts = sorted({contrast for _, contrast in cells})
        persons = sorted({person for person, _ in cells})
        about = f"contrast within {variant}"
        if len(contrasts) < 2:
            reason = "one contrast only: there is nothing to compare within persons"
            found.append(ExploratoryTest(_ANOVA, about, "", np.nan, str(len(persons)), reason=reason))
            continue
        x = np.array([[np.mean(cells.get((p, c), [np.nan])) for c in contrasts] for p in persons])
        try:
            a = repeated_measures_anova(x, contrasts)
        except DataError as error:
            found.append(ExploratoryTest(_ANOVA, about, "", np.nan, str(len(x)), reason=error.what))
            continue
        pairs = "; ".join(
            f"{pair.first} − {pair.second} {pair.difference:.3g}, p = {pair.p_corrected:.3g}"
            for pair in a.post_hoc
        )
        note = (
            f"Greenhouse–Geisser ε = {a.epsilon:.3f}; uncorrected p = {a.p:.3g}; {a.dropped} incomplete left out; "
            f"post-hoc (paired t, Holm, m = {len(a.post_hoc)}): {pairs}"
        )
        statistic = f"F({a.df_conditions}, {a.df_error}) = {a.f:.3g}"
        found.append(ExploratoryTest(_ANOVA, about, statistic, a.p_corrected, str(a.n), note))
    return found


def _friedman(
    table: TrialTable,
    measure: Measure,
    values: Mapping[str, PersonValues],
    reference: str,
    same: Mapping[str, str],
) -> list[ExploratoryTest]:
    x = _complete([_means(v) for v in values.values()])
    about = ", ".join(values)
    if len(values) < 3:
        reason = "for three variants or more; two are Wilcoxon's"
        return [ExploratoryTest("Friedman–Nemenyi", about, "", np.nan, str(len(x)), reason=reason)]
    try:
        f = friedman_nemenyi(x, tuple(values), higher_is_better=measure.higher_is_better)
    except DataError as error:
        return [ExploratoryTest("Friedman–Nemenyi", about, "", np.nan, str(len(x)), reason=error.what)]
    ranks = ", ".join(f"{m} {r:.2f}" for m, r in zip(f.methods, f.mean_ranks, strict=True))
    pairs = "; ".join(f"{p.first} – {p.second} p = {p.p:.3g}" for p in f.pairs)
    note = (
        f"mean ranks (1 is best) {ranks}; critical difference {f.critical_difference:.2f}; Nemenyi: {pairs}"
    )
    return [
        ExploratoryTest("Friedman–Nemenyi", about, f"χ²({f.df}) = {f.statistic:.3g}", f.p, str(f.n), note)
    ]


def _kolmogorov_smirnov(
    table: TrialTable,
    measure: Measure,
    values: Mapping[str, PersonValues],
    reference: str,
    same: Mapping[str, str],
) -> list[ExploratoryTest]:
    """On single rows, as the paper that used it; kept for reproduction only."""

    def rows_of(variant: str) -> list[float]:
        return [
            row.counted
            for trial in table.finished(variant)
            for row in trial.rows
            if row.metric == measure.metric
            and row.reference == measure.reference
            and measure.structure in ("", row.structure)
            and not np.isnan(row.counted)
        ]

    found = []
    for variant in values:
        if variant == reference:
            continue
        k = kolmogorov_smirnov(rows_of(variant), rows_of(reference))
        note = "unpaired, on single cases and seeds: not independent, so that p is too small"
        n = f"{k.n[0]} and {k.n[1]} rows"
        about = f"{variant} and {reference}"
        found.append(ExploratoryTest("Kolmogorov–Smirnov", about, f"D = {k.statistic:.3g}", k.p, n, note))
    return found


_MAKE = {
    "paired_t": _paired_t,
    "anova_rm": _anova,
    "friedman": _friedman,
    "kolmogorov_smirnov": _kolmogorov_smirnov,
}


def _means(values: PersonValues) -> np.ndarray:
    """(P,) over seeds; NaN unless every seed is there."""
    return np.asarray(values.counted.mean(axis=1))


def _complete(columns: Sequence[np.ndarray]) -> np.ndarray:
    x = np.stack(columns, axis=1)
    return np.asarray(x[np.isfinite(x).all(axis=1)])
