"""`core.evaluate_label`, and tables of training cases beside those of test cases."""

from __future__ import annotations

import numpy as np
import pytest
import trial_setup as setup
from mriad.case_table import read_rows
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.stages.graph import expand
from mriad.stages.imported import LabelPredictions
from mriad.vocabulary import Case, Label, LabelSet, Sample, Structure, Volume

GRID = Grid.of([2, 2, 2], np.eye(4))
CORD = LabelSet((Structure("cord", 1),))


class Held:
    """Voxels in memory."""

    fingerprint = location = "held"

    def __init__(self, data):
        self.data = np.asarray(data)

    def read(self):
        return Volume(self.data, GRID)


def test_soft_values_stay_and_label_values_become_zeros_and_ones():
    soft = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    hard = (soft > 0.5).astype(np.uint8)
    case = Case("a", "p", {}, {"soft": Label("soft", Held(soft)), "hard": Label("hard", Held(hard))})
    for name, expected in (("soft", soft), ("hard", hard)):
        found = LabelPredictions(name, CORD).of(case)
        assert np.array_equal(found.probabilities, expected[None].astype(np.float32))
        assert found.grid == GRID
    with pytest.raises(DataError, match="have no label 'other' to score") as caught:
        LabelPredictions("other", CORD).require([case])
    assert "soft, hard" in str(caught.value)


def test_nothing_is_measured_where_the_label_says_nothing():
    hard = np.ones((2, 2, 2), np.uint8)
    own, theirs = np.ones((2, 2, 2), np.uint8), np.ones((1, 2, 2, 2), np.uint8)
    own[0], theirs[:, :, 0] = 0, 0
    case = Case("a", "p", {}, {"hard": Label("sparse", Held(hard), validity=Held(own))})
    reference = Sample("a", np.zeros((0, 2, 2, 2), np.float32), GRID, hard[None])
    scored = LabelPredictions("hard", CORD)
    assert np.array_equal(scored.within(reference, case).validity, own[None])
    both = scored.within(Sample("a", reference.image, GRID, hard[None], theirs), case).validity
    assert np.array_equal(both, own[None] * theirs)
    plain = Case("a", "p", {}, {"hard": Label("hard", Held(hard))})
    assert scored.within(reference, plain) is reference


def test_a_table_of_training_cases_is_no_test():
    raw = setup.raw(steps=2)
    raw["stages"] = {
        "train": "core.train",
        "seen": {"type": "core.evaluate", "with": "train", "cases": "train"},
    }
    assert list(expand(type(setup.experiment()).model_validate(raw)).nodes) == ["train", "seen", "evaluate"]


def test_the_result_is_of_test_cases_wherever_the_other_table_stands(tmp_path):
    raw = setup.raw(steps=2)
    seen = {"type": "core.evaluate", "with": "train", "cases": "train"}
    raw["stages"] = {**raw["stages"], "seen": seen}
    trial = setup.run(type(setup.experiment()).model_validate(raw), tmp_path / "runs")
    tables = {
        name: read_rows(a.folder / "cases.csv") for name, a in trial.artefacts.items() if a.kind == "table"
    }
    assert list(tables) == ["evaluate", "seen"]
    cases = {name: {row.case for row in rows} for name, rows in tables.items()}
    assert not cases["evaluate"] & cases["seen"]
    assert {row.case for row in read_rows(trial.folder / "cases.csv")} == cases["evaluate"]
    assert trial.predictions is not None
    assert trial.predictions.parent == trial.artefacts["evaluate"].folder


def test_where_only_validation_is_measured_that_is_the_result(tmp_path):
    raw = setup.raw(steps=2)
    raw["stages"] = {
        "train": "core.train",
        "look": {"type": "core.evaluate", "with": "train", "cases": "validation"},
    }
    trial = setup.run(type(setup.experiment()).model_validate(raw), tmp_path / "runs")
    looked = read_rows(trial.artefacts["look"].folder / "cases.csv")
    assert looked
    assert [r.case for r in read_rows(trial.folder / "cases.csv")] == [r.case for r in looked]
