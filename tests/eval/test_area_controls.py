"""The controls of area: one factor a contrast, or one area for all, fitted on other persons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mriad.case_table import Row, read_rows
from mriad.errors import DataError
from mriad.experiment.load import load
from mriad.launch.trial import TrialOptions, run_trial
from mriad.person_rows import person_rows
from mriad_eval.area_controls import controlled, fitted
from mriad_eval.csa_metrics import Csa, CsaAbsoluteError, CsaStd

CONTRASTS = ("T1w", "T2w", "DWI")


def rows_of(person: str, contrast: str, area: float, truth: float, note: str = "") -> list[Row]:
    place = (f"{person}_{contrast}", person, contrast, "", "cord")
    missed = note == "miss"
    error = truth if missed else abs(area - truth)
    return [
        Row(*place, "csa", np.nan if missed else area, "mm2", "none", np.nan, note, "truth"),
        Row(*place, "csa_abs_error_of_area_mm2", error, "mm2", "lower", truth, note, "truth"),
    ]


def table(persons: dict[str, float], scale: dict[str, float]) -> list[Row]:
    return [
        r for p, truth in persons.items() for c in CONTRASTS for r in rows_of(p, c, truth * scale[c], truth)
    ]


SCALE = {"T1w": 0.9, "T2w": 1.0, "DWI": 1.2}
SEEN = table({"s1": 70.0, "s2": 90.0}, SCALE)
TESTED = table({"t1": 60.0, "t2": 100.0}, SCALE)


def values(rows: list[Row], metric: str) -> dict[tuple[str, str], float]:
    return {(r.person, r.contrast): r.value for r in rows if r.metric == metric}


def test_a_factor_a_contrast_takes_away_what_is_proportional():
    (rule,) = fitted(SEEN, "per_contrast")
    # Means 72, 80, 96: their mean is 82⅔.
    assert rule.common == pytest.approx(248 / 3)
    assert rule.factors == pytest.approx({"T1w": 248 / 216, "T2w": 248 / 240, "DWI": 248 / 288})
    made = controlled(TESTED, SEEN, [rule])
    scale = 248 / 240
    for (person, _), area in values(made, "csa").items():
        assert area == pytest.approx({"t1": 60, "t2": 100}[person] * scale)
    for (person, _), error in values(made, "csa_abs_error_of_area_mm2").items():
        assert error == pytest.approx({"t1": 60, "t2": 100}[person] * (scale - 1))
    spreads = [r.value for r in person_rows(made, [Csa(), CsaStd()])]
    assert spreads == pytest.approx([0, 0], abs=1e-9)


def test_a_constant_has_no_spread_and_the_error_of_a_constant():
    made = controlled(TESTED, SEEN, fitted(SEEN, "constant"))
    assert list(values(made, "csa").values()) == pytest.approx([248 / 3] * 6)
    errors = values(made, "csa_abs_error_of_area_mm2")
    assert errors["t1", "T1w"] == pytest.approx(248 / 3 - 60)
    assert errors["t2", "DWI"] == pytest.approx(100 - 248 / 3)
    assert [r.value for r in person_rows(made, [CsaStd()])] == pytest.approx([0, 0], abs=1e-12)


def test_a_miss_stays_one_under_a_factor_and_not_under_a_constant():
    tested = [*TESTED, *rows_of("t3", "T1w", 0, 75, "miss")]
    factor = controlled(tested, SEEN, fitted(SEEN, "per_contrast"))
    lost = [r for r in factor if r.person == "t3"]
    assert [r.note for r in lost] == ["miss", "miss"]
    assert np.isnan(lost[0].value)
    assert lost[1].value == 75
    constant = [r for r in controlled(tested, SEEN, fitted(SEEN, "constant")) if r.person == "t3"]
    assert [r.note for r in constant] == ["", ""]
    assert constant[1].value == pytest.approx(248 / 3 - 75)


def test_persons_without_every_contrast_are_no_contrast_effect():
    """s1 is small and was missed in T2w: without her the contrasts do not differ."""
    equal = dict.fromkeys(CONTRASTS, 1.0)
    seen = [r for r in table({"s1": 70.0, "s2": 90.0}, equal) if (r.person, r.contrast) != ("s1", "T2w")]
    seen += rows_of("s1", "T2w", 0, 70, "miss")
    (rule,) = fitted(seen, "per_contrast")
    assert rule.factors == pytest.approx(dict.fromkeys(CONTRASTS, 1.0))
    assert (rule.common, rule.persons, rule.left_out) == (90, 1, 1)
    with pytest.raises(DataError, match="no person to fit on has an area in every contrast"):
        fitted([r for r in seen if r.person == "s1"], "per_contrast")


def noted(note: str, size: float) -> list[Row]:
    """A case without cord (or without levels): the model found `size` mm², or nothing."""
    place = ("t9_DWI", "t9", "DWI", "", "cord")
    error = size if note == "false positive" else np.nan
    return [
        Row(*place, "csa", np.nan, "mm2", "none", np.nan, note, "truth"),
        Row(*place, "csa_abs_error_of_area_mm2", error, "mm2", "lower", size, note, "truth"),
    ]


@pytest.mark.parametrize(
    ("note", "rule", "expected", "counted"),
    [
        ("false positive", "per_contrast", "false positive", 5 * 248 / 288),
        ("false positive", "constant", "false positive", 248 / 3),
        ("empty", "per_contrast", "empty", None),
        ("empty", "constant", "false positive", 248 / 3),
        ("incomplete: no levels", "per_contrast", "incomplete: no levels", None),
        ("incomplete: no levels", "constant", "incomplete: no levels", None),
    ],
)
def test_nothing_to_find_and_nothing_to_measure(note, rule, expected, counted):
    area, error = controlled(noted(note, 5.0), SEEN, fitted(SEEN, rule))
    assert (area.note, error.note) == (expected, expected)
    assert np.isnan(area.value)
    assert np.isnan(error.counted) if counted is None else error.counted == pytest.approx(counted)


def test_sessions_of_a_person_are_averaged_first():
    more = [*SEEN, *rows_of("s1", "T1w", 0.9 * 76, 70)]  # a second scan of s1: 65.7 on average
    (rule,) = fitted(more, "per_contrast")
    assert rule.common / rule.factors["T1w"] == pytest.approx(((0.9 * 70 + 0.9 * 76) / 2 + 0.9 * 90) / 2)


@given(
    st.lists(st.floats(40, 120), min_size=2, max_size=6),
    st.tuples(*[st.floats(0.5, 2)] * 3),
)
def test_on_the_cases_that_it_was_fitted_on_contrasts_agree(truths, scales):
    scale = dict(zip(CONTRASTS, scales, strict=True))
    rows = table({f"s{i}": t for i, t in enumerate(truths)}, scale)
    (rule,) = fitted(rows, "per_contrast")
    others = table({f"t{i}": t for i, t in enumerate(truths)}, scale)
    made = values(controlled(others, rows, [rule]), "csa")
    means = [np.mean([v for (_, c), v in made.items() if c == contrast]) for contrast in CONTRASTS]
    assert means == pytest.approx([rule.common] * 3)


@pytest.mark.parametrize(
    ("tested", "seen", "message"),
    [
        (TESTED, [r for r in SEEN if r.contrast != "DWI"], "was not among the cases"),
        (SEEN, SEEN, "persons that a rule was fitted on are tested"),
        (TESTED, [r for r in SEEN if r.metric != "csa"], "the table to fit on has no area"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tested, seen, message):
    with pytest.raises(DataError, match=message):
        controlled(tested, seen, fitted(seen, "per_contrast"))


def test_stages_measure_labels_and_controls(tmp_path):
    """On a phantom: its hard labels as a prediction, of test and of training persons, and the control."""
    changes = [
        "name=controls",
        "data.dataset={type: data.phantom_spine, persons: 4, contrasts: [T1w, T2w], size_mm: [32, 40, 48]}",
        "data.split={type: data.random_split, validation: 1, test: 1}",
        "data.labels=hard",
        "evaluate={metrics: [eval.csa, {type: eval.csa_abs_error, against: number}, eval.csa_std], "
        "at: {levels: [C3]}, reference: truth}",
        "stages={tested: {type: core.evaluate_label, label: hard}, "
        "seen: {type: core.evaluate_label, label: hard, cases: train}, "
        "control: {type: eval.area_control, of: tested, fit: seen, rule: per_contrast}}",
    ]
    trial = run_trial(
        load("standard:quickstart", changes), TrialOptions("inline", runs=tmp_path, tracking="off")
    )
    tables = {name: read_rows(made.folder / "cases.csv") for name, made in trial.artefacts.items()}
    assert len({r.person for r in tables["tested"] if r.case}) == 1
    assert len({r.person for r in tables["seen"] if r.case}) == 2
    areas = [r.value for r in tables["tested"] if r.metric == "csa"]
    assert all(40 < area < 120 for area in areas)  # a label is measured as the cord that it shows
    final = read_rows(trial.folder / "cases.csv")

    def mean(name: str, contrast: str) -> float:
        return float(np.mean([r.value for r in tables[name] if r.metric == "csa" and r.contrast == contrast]))

    t1, t2 = (mean("seen", contrast) for contrast in ("T1w", "T2w"))
    found = {r.contrast: r.value for r in final if r.metric == "csa"}
    assert found["T1w"] == pytest.approx(mean("tested", "T1w") * (t1 + t2) / 2 / t1)
    truth = {r.contrast: r.worst for r in final if r.metric == "csa_abs_error_of_area_mm2"}
    errors_now = {r.contrast: r.value for r in final if r.metric == "csa_abs_error_of_area_mm2"}
    assert errors_now["T2w"] == pytest.approx(abs(mean("tested", "T2w") * (t1 + t2) / 2 / t2 - truth["T2w"]))
    assert {r.metric for r in final} == {"csa", "csa_abs_error_of_area_mm2", "csa_std"}
    errors = [r for r in tables["tested"] if r.metric == CsaAbsoluteError(against="number").key()]
    assert all(r.worst > 40 and r.value < 10 for r in errors)
