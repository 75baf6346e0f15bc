"""What the evaluate stage writes beside values of cases: persons, slices and Parquet; what validation measures."""

from __future__ import annotations

import pandas as pd
import pytest
import trial_setup as setup
from mriad.errors import ExperimentError
from mriad.evaluation import read_rows
from mriad.training.worker import plan_of


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    metrics = [{"type": "shapes.overlap"}, "eval.volume_cv", {"type": "eval.slices", "metric": "eval.dice"}]
    evaluate = {"metrics": metrics, "at": {"levels": ["C2"]}, "both_empty": "best", "empty": "worst"}
    trial = setup.run(setup.experiment(evaluate=evaluate), tmp_path_factory.mktemp("rows"), setup.Log())
    return trial, read_rows(trial.folder / "cases.csv")


def test_persons_come_after_all_cases(rows):
    _, table = rows
    kinds = ["person" if not r.case else "part" if r.part else "case" for r in table]
    assert kinds == sorted(kinds, key=lambda k: k == "person")
    persons = [r for r in table if not r.case]
    assert [r.metric for r in persons] == ["volume_cv"] * 3
    assert {r.person for r in persons} == {r.person for r in table if r.case}
    # One contrast a person here: there is nothing to compare.
    assert {r.note for r in persons} <= {"incomplete: 1 contrast", "miss"}


def test_what_a_person_metric_needs_is_there(rows):
    _, table = rows
    assert sum(r.metric == "volume" for r in table) == 3
    assert {r.metric for r in table if r.part} == {"dice_2d"}


def test_parquet_goes_with_the_run(rows):
    trial, table = rows
    assert len(pd.read_parquet(trial.folder / "cases.parquet")) == len(table)


def test_validation_measures_what_can_judge(rows):
    trial, _ = rows
    keys = {key for key in setup.values(trial) if key.startswith("val/")}
    assert {"val/overlap", "val/overlap/box"} <= keys
    assert not [key for key in keys if "volume" in key or "2d" in key]


def test_a_first_metric_that_cannot_choose_a_checkpoint():
    experiment = setup.experiment(evaluate={"metrics": ["eval.volume", "shapes.overlap"]})
    with pytest.raises(
        ExperimentError, match=r"(?s)volume, cannot choose.*put overlap first.*stop_on: overlap"
    ):
        plan_of(experiment, 2, list(experiment.evaluate.metrics))
    chosen = setup.experiment(evaluate={"metrics": ["eval.volume", "shapes.overlap"], "stop_on": "overlap"})
    assert plan_of(chosen, 2, list(chosen.evaluate.metrics)).stop_on == "val/overlap"
    unable = setup.experiment(evaluate={"metrics": ["shapes.overlap"], "stop_on": "volume"})
    with pytest.raises(ExperimentError, match=r"(?s)'volume' is no metric.*could judge.*overlap"):
        plan_of(unable, 2, list(unable.evaluate.metrics))
