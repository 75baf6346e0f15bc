"""A trial from experiment to tracked result, in this process: what it leaves, and what is done anew."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from mriad.cli.train import print_results
from mriad.evaluation import read_rows, summarise
from mriad.launch.trial import overfitting
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

OVERLAP = {"type": "shapes.overlap"}
DICE = {"type": "eval.dice"}


def files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, without leases."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("lease-")
    }


def starts(log: setup.Log) -> list[str]:
    """Names of the stages that were run, not skipped."""
    return [line.split("'")[1] for line in log.lines if " starts in " in line or " resumes in " in line]


def skipped(log: setup.Log) -> list[str]:
    return [line.split("'")[1] for line in log.lines if "was done before, skipped" in line]


@pytest.fixture(scope="module")
def done(place: Path) -> tuple[Any, setup.Log]:
    """A finished trial, shared; tests leave it as it is."""
    log = setup.Log()
    return setup.run(setup.experiment(), place, log), log


class TestRecord:
    def test_it_says_who_what_with_what_and_how_it_went(self, done):
        trial, _ = done
        written = json.loads((trial.folder / "run.json").read_text())
        assert written["status"] == "finished"
        assert written["id"] == trial.id
        assert written["error"] is None
        assert written["experiment"] == setup.experiment().model_dump(mode="json")
        assert {"mriad", "torch", "numpy"} <= set(written["versions"])
        assert len(written["git"]["mriad"]["commit"]) == 40
        assert len(written["data"]["fingerprint"]) == 64
        assert written["data"]["cases"] == {"train": 3, "validation": 3, "test": 3}
        assert written["data"]["persons"] == 9
        assert written["launch"] == {"launcher": "inline", "workers": 1, "threads": 1, "gpus": 0.0}
        compute = written["compute"]
        assert compute["steps"] == 6
        assert compute["samples"] == 12  # 6 steps of a batch of 2
        assert compute["seconds"] > 0
        assert compute["peak_memory_bytes"] > 2**20
        assert written["tags"]["seed"] == "3"

    def test_the_resolved_experiment_can_be_run_again(self, done):
        from mriad.experiment.model import Experiment
        from mriad.launch.trial import trial_id

        trial, _ = done
        assert trial_id(Experiment.load(trial.folder / "experiment.yaml")) == trial.id

    def test_metrics_have_their_keys(self, done):
        trial, log = done
        values = setup.values(trial)
        assert {"train/loss", "val/overlap/box", "val/overlap", "test/overlap/box"} <= set(values)
        assert [step for step, _ in values["val/overlap/box"]] == [2, 4, 6]
        assert [step for step, _ in values["test/overlap/box"]] == [6]
        reported = [v["train/loss"] for _, v in log.rows if "train/loss" in v]
        assert reported == [value for _, value in values["train/loss"]]

    def test_the_table_is_what_is_printed_and_what_is_tracked(self, done, capsys):
        trial, _ = done
        with (trial.folder / "cases.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == 3  # test cases, one structure, one metric
        mean = sum(float(row["value"]) for row in table) / 3
        (summary,) = trial.summary
        assert [summary] == summarise(read_rows(trial.folder / "cases.csv"))
        assert summary.mean == pytest.approx(mean, abs=1e-12)
        assert setup.values(trial)["test/overlap/box"] == [(6, summary.with_worst)]
        print_results(trial)
        printed = capsys.readouterr().out
        assert summary.text() in printed
        assert f"{mean:.3f} ±" in printed

    def test_figures_and_predictions_are_there(self, done):
        trial, log = done
        drawn = {path.name for path in RunRecord(trial.folder).figures()}
        assert "curves.png" in drawn
        worst = min(read_rows(trial.folder / "cases.csv"), key=lambda row: row.value)
        assert f"overlay_worst_{worst.case}.png" in drawn
        assert not [line for line in log.lines if "not drawn" in line]
        kept = trial.artefacts["evaluate"].folder / "predictions"
        assert len(list(kept.glob("*.nii.gz"))) == 3


class TestAgain:
    def test_a_finished_trial_is_skipped_whole_and_nothing_changes(self, done, place):
        trial, _ = done
        stages, metrics = files(place / "stages"), (trial.folder / "metrics.jsonl").read_bytes()
        log = setup.Log()
        again = setup.run(setup.experiment(), place, log)
        assert skipped(log) == ["train", "evaluate"]
        assert not starts(log)
        assert not log.rows
        assert files(place / "stages") == stages
        assert (trial.folder / "metrics.jsonl").read_bytes() == metrics
        assert again.folder == trial.folder
        assert again.summary == trial.summary

    def test_another_seed_is_another_trial(self, done, place):
        trial, _ = done
        log = setup.Log()
        other = setup.run(setup.experiment(seed=4), place, log)
        assert other.id != trial.id
        assert other.folder != trial.folder
        assert starts(log) == ["train", "evaluate"]
        assert setup.difference(setup.weights(other), setup.weights(trial)) > 1e-4

    def test_a_second_metric_evaluates_again_and_trains_nothing(self, done, place):
        trial, _ = done
        log = setup.Log()
        more = setup.run(setup.experiment(evaluate={"metrics": [OVERLAP, DICE]}), place, log)
        assert (skipped(log), starts(log)) == (["train"], ["evaluate"])
        assert {s.metric for s in more.summary} == {"overlap", "dice"}
        assert more.artefacts["train"].folder == trial.artefacts["train"].folder
        dice, overlap = (next(s for s in more.summary if s.metric == m) for m in ("dice", "overlap"))
        assert dice.mean == pytest.approx(overlap.mean, abs=1e-6)  # two implementations of one formula

    def test_where_it_runs_is_no_part_of_what_it_is(self, done, place):
        log = setup.Log()
        setup.run(setup.experiment(resources={"cpus": 2}, description="for people"), place, log)
        assert "train" in skipped(log)


class TestData:
    """Cases in files: what a change of them leads to."""

    @pytest.fixture
    def given(self, tmp_path):
        return setup.written(tmp_path / "data")

    def test_new_test_data_evaluates_again_and_trains_nothing(self, given, tmp_path):
        setup.run(given, tmp_path / "runs")
        first = (tmp_path / "data" / "p00.nii.gz").read_bytes()
        setup.write_case(tmp_path / "data", 0, noise=2.0)  # person 0 is a test case
        assert (tmp_path / "data" / "p00.nii.gz").read_bytes() != first
        log = setup.Log()
        again = setup.run(given, tmp_path / "runs", log)
        assert (skipped(log), starts(log)) == (["train"], ["evaluate"])
        assert RunRecord(again.folder).read()["status"] == "finished"

        setup.write_case(tmp_path / "data", 2, noise=2.0)  # person 2 trains
        log = setup.Log()
        setup.run(given, tmp_path / "runs", log)
        assert starts(log) == ["train", "evaluate"]


def test_overfitting_trains_and_validates_on_the_same_cases(tmp_path):
    trial = setup.run(overfitting(setup.experiment(), 1), tmp_path / "runs")
    summary = trial.artefacts["train"].summary
    assert (summary["train_cases"], summary["validation_cases"]) == (1, 1)
    assert trial.experiment.name == "supervised.overfit"
    assert set(trial.artefacts) == {"train"}
    assert trial.summary == []


def test_a_runs_root_behind_a_link_works_twice(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        trial = setup.run(setup.experiment(), tmp_path / "link")
    assert RunRecord(trial.folder).read()["links"]["predictions"].startswith("stages/")


def test_a_child_that_is_taken_up_by_hand_stays_one(tmp_path):
    parent = RunRecord.start(tmp_path / "parent", id="p" * 64, name="study", kind="ablation")
    first = RunRecord.start(
        tmp_path / "child", id="c" * 64, name="soft", kind="trial", parent=parent, tags={"fold": "1"}
    )
    before = first.read()
    after = RunRecord.start(tmp_path / "child", id="c" * 64, name="soft", tags={"seed": "2"}).read()
    for key in ("parent", "study", "kind"):
        assert after[key] == before[key], key
    assert after["tags"] == {"fold": "1", "seed": "2"}
