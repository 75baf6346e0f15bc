"""Composites: each contrast's cases by a model of its own, persons' values computed anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mriad.case_table import Row
from mriad.errors import DataError, ExperimentError
from mriad_eval.comparison import Trial, TrialTable
from mriad_eval.comparison.composites import with_composites
from mriad_eval.comparison.study import Question, compare
from mriad_eval.comparison_config import CompareVariants
from mriad_eval.csa_metrics import Csa, CsaAbsoluteError, CsaStd

OF = {"T1w": "only_T1w", "T2w": "only_T2w"}


def area(person: str, contrast: str, value: float) -> tuple[Row, Row]:
    """An area, and its error against 80 mm²."""
    plain = Row(
        f"{person}_{contrast}", person, contrast, "", "cord", "csa", value, "mm2", "none", np.nan, "", "truth"
    )
    error = replace(plain, metric="csa_abs_error", value=abs(value - 80), direction="lower", worst=80.0)
    return plain, error


def spread(person: str, value: float) -> Row:
    return Row("", person, "", "", "cord", "csa_std", value, "mm2", "lower", 44.0, "", "truth")


def trial(variant: str, seed: int, areas: dict[tuple[str, str], float], **changes) -> Trial:
    rows = [row for (person, contrast), value in areas.items() for row in area(person, contrast, value)]
    # What the trial itself found of persons; a composite must not take it over.
    rows += [spread(person, 999.0) for person in dict.fromkeys(p for p, _ in areas)]
    compute = {"seconds": 10.0, "steps": 5.0, "peak_memory_bytes": float(seed)}
    return replace(Trial(variant, "0", str(seed), tuple(rows), compute=compute), **changes)


def table(*, lost: bool = False) -> TrialTable:
    trials = []
    for seed in (0, 1):
        both = {(p, c): 80.0 + seed for p in ("a", "b", "c") for c in ("T1w", "T2w")}
        trials.append(trial("both", seed, both))
        for number, variant in enumerate(OF.values()):
            areas = {
                (p, c): 70 + 10 * number + i + 0.5 * seed for i, p in enumerate("abc") for c in ("T1w", "T2w")
            }
            gone = lost and seed == 1 and number == 1
            trials.append(trial(variant, seed, areas, **({"status": "failed", "rows": ()} if gone else {})))
    return TrialTable(tuple(trials), metrics=(Csa(), CsaAbsoluteError(), CsaStd()))


def test_each_contrast_comes_from_its_variant_and_persons_are_computed_anew():
    found = with_composites(table(), {"apart": OF})
    assert found.variants == (*table().variants, "apart")
    for made in found.finished("apart"):
        seed = int(made.seed)
        values = {(r.person, r.contrast): r.value for r in made.rows if r.metric == "csa"}
        assert values == {
            (p, c): 70 + 10 * n + i + 0.5 * seed
            for i, p in enumerate("abc")
            for n, c in enumerate(("T1w", "T2w"))
        }
        errors = {(r.person, r.contrast): r.value for r in made.rows if r.metric == "csa_abs_error"}
        assert errors == {key: abs(value - 80) for key, value in values.items()}
        spreads = {r.person: r.value for r in made.rows if r.metric == "csa_std"}
        # Two values 10 apart: their SD (n − 1) is 10/√2.
        assert spreads == pytest.approx(dict.fromkeys("abc", 10 / np.sqrt(2)))
        assert made.compute == {"seconds": 20.0, "steps": 10.0, "peak_memory_bytes": float(seed)}
    assert len(found.finished("apart")) == 2


def test_it_is_compared_like_a_variant_and_the_reader_is_told():
    question = Question("csa_abs_error", "both", composites={"apart": OF})
    found = compare(with_composites(table(), question.composites), question)
    assert "apart" in {v.variant for v in found.figures}
    assert "apart is put together: T1w by only_T1w, T2w by only_T2w" in found.notes
    # By hand: T1w areas 70, 71, 72 and T2w 80, 81, 82, half a mm² more with seed 1.
    expected = np.mean(
        [abs(70 + 10 * n + i + 0.5 * s - 80) for n in (0, 1) for i in (0, 1, 2) for s in (0, 1)]
    )
    (mean,) = (v.mean for v in found.figures if v.variant == "apart" and v.measure.metric == "csa_abs_error")
    assert mean == pytest.approx(expected)


def test_a_missing_trial_makes_the_composite_miss():
    found = with_composites(table(lost=True), {"apart": OF})
    assert [t.seed for t in found.finished("apart")] == ["0"]
    (missing,) = (t for t in found.missing() if t.variant == "apart")
    assert missing.error == "made of trials that are missing: only_T2w"


def test_a_contrast_without_a_variant_is_refused():
    with pytest.raises(DataError, match="has no variant for a contrast that is tested") as caught:
        with_composites(table(), {"apart": {"T1w": "only_T1w"}})
    assert "'T2w'" in str(caught.value)


def test_a_variant_without_any_trial_yet_makes_it_miss():
    found = with_composites(table(), {"apart": {**OF, "T2w": "later"}})
    assert not found.finished("apart")
    assert {t.error for t in found.missing()} == {"made of trials that are missing: later"}


def test_a_contrast_that_nobody_has_is_refused():
    with pytest.raises(DataError, match="names a contrast that no tested case has") as caught:
        with_composites(table(), {"apart": {**OF, "T9w": "both"}})
    assert "'T9w'" in str(caught.value)


def test_its_searches_are_added_up():
    whole = table()
    tuned = replace(whole, trials=tuple(replace(t, tuning=3) for t in whole.trials))
    assert {t.tuning for t in with_composites(tuned, {"apart": OF}).finished("apart")} == {6}


def test_the_file_is_checked_before_anything_runs():
    asked = CompareVariants(composites={"apart": OF}, reference="apart")
    asked.check(("both", *OF.values()))
    with pytest.raises(ExperimentError, match="made of variants"):
        asked.check(("both", "only_T1w"))
    with pytest.raises(ExperimentError, match="name of a variant"):
        asked.check(("apart", *OF.values()))
