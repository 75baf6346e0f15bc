"""Searches that run: who wins, and what that means for the trials."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ablation_setup import THIRDS, write
from mriad.ablation.load import load_ablation
from mriad.ablation.model import Search
from mriad.ablation.plan import make_plan
from mriad.ablation.search import Tried
from mriad.ablation.space import Values
from mriad.ablation.suggest import suggest
from mriad.launch.files import read_json
from search_setup import SEARCH, notes, planned, records, run


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    plan = planned(folder, folds=THIRDS, seeds=[0, 1], variants={"plain": {}}, base={"budget": {"steps": 4}})
    messages: list[str] = []
    outcome = run(plan, folder / "runs", message=messages.append)
    return folder, plan, outcome, messages


def test_the_best_of_a_fold_enters_its_trials(searched):
    folder, _, outcome, messages = searched
    assert outcome.failed == []
    found = notes(folder / "runs")
    assert [note["fold"] for note in found] == [0, 1, 2]
    trials = [r for r in records(folder / "runs", "trial") if r["tags"]["variant"] == "plain"]
    assert len(trials) == 6
    for note in found:
        best = max(note["trials"], key=lambda t: (t["value"], -t["number"]))
        assert note["winner"] == best["number"]
        of_fold = [t for t in trials if t["tags"]["fold"] == str(note["fold"])]
        assert {t["experiment"]["optimiser"]["lr"] for t in of_fold} == {best["values"]["optimiser.lr"]}
        assert {t["experiment"]["tuned"] for t in of_fold} == {note["id"]}
        assert {t["tags"]["tuning_trials"] for t in of_fold} == {"3"}
    assert sum("search of plain fold" in line for line in messages) == 3


def test_trainings_of_a_search_are_children_and_test_nothing(searched):
    folder, _, outcome, _ = searched
    found = records(folder / "runs", "search")
    assert len(found) == 9
    parent = read_json(outcome.folder / "run.json")
    assert parent is not None
    for record in found:
        assert record["parent"]["id"] == parent["id"]
        assert record["tags"]["variant"] == "plain"
        assert float(record["tags"]["search/optimiser.lr"]) == record["experiment"]["optimiser"]["lr"]
        assert not any(key.startswith("test/") for key in record["summary"])
        assert record["compute"]["steps"] == 4
    stages = [json.loads(p.read_text()) for p in (folder / "runs").glob("runs/*-search-*/stages.json")]
    assert {row["name"] for rows in stages for row in rows} == {"train"}


def test_no_search_saw_a_test_person(searched):
    """By the voxels: each training of a search read the training and validation cases of its fold alone."""
    _, plan, _, _ = searched
    for search in plan.searches:
        split = search.experiment({}).data.split.build(
            search.experiment({}).data.dataset.build(), search.fold, 0
        )
        of_fold = [t for t in plan.trials if t.fold == search.fold]
        for trial in of_fold:
            tested = trial.experiment.data.split.build(
                trial.experiment.data.dataset.build(), trial.fold, trial.experiment.seed
            )["test"]
            assert not set(tested) & {*split["train"], *split["validation"]}


def test_the_winners_training_is_not_done_again_for_the_first_seed(searched):
    folder, plan, _, _ = searched
    first = plan.ablation.seeds[0]
    trials = [r for r in records(folder / "runs", "trial") if r["tags"]["variant"] == "plain"]
    for record in trials:
        place = next((folder / "runs" / "runs").glob(f"plain-{record['id'][:12]}"))
        skipped = "was done before" in (place / "messages.txt").read_text()
        assert skipped == (record["tags"]["seed"] == str(first))


def test_again_nothing_is_searched_and_the_same_wins(searched):
    folder, plan, outcome, _ = searched
    before = notes(folder / "runs")
    again = run(plan, folder / "runs")
    assert again.verdict == outcome.verdict
    assert notes(folder / "runs") == before
    assert {r["starts"] for kind in ("search", "trial") for r in records(folder / "runs", kind)} == {1}


def test_more_trials_go_on_where_fewer_ended(tmp_path):
    alone: dict[str, Any] = {"plain": {}}
    run(planned(tmp_path, {**SEARCH, "trials": 2}, variants=alone), tmp_path / "runs")
    path = write(tmp_path, search={**SEARCH, "trials": 3}, name="wider", variants=alone)
    run(make_plan(load_ablation(path)), tmp_path / "runs")
    found = records(tmp_path / "runs", "search")
    assert len(found) == 3
    assert {record["starts"] for record in found} == {1}
    (note,) = notes(tmp_path / "runs")
    assert len(note["trials"]) == 3


def test_asha_gives_up_and_goes_on_after_a_kill(tmp_path):
    """Half of the trainings are done, then the rest: the same winner as in one go."""
    base = {"budget": {"steps": 18, "validate_every": 2}}
    search = {**SEARCH, "trials": 5, "scheduler": "asha"}
    plan = planned(tmp_path, search, base=base, variants={"plain": {}})
    straight = run(plan, tmp_path / "straight")
    (note,) = notes(tmp_path / "straight")
    stopped = [t for t in note["trials"] if t["stopped"]]
    assert 1 <= len(stopped) < 5
    assert all(t["steps"] < 18 for t in stopped)
    assert all(t["steps"] == 18 for t in note["trials"] if not t["stopped"])
    assert not next(t for t in note["trials"] if t["number"] == note["winner"])["stopped"]

    class KilledError(BaseException):
        pass

    begun = 0
    from mriad.ablation import execute

    honest = execute.run_job

    def dies(*args: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 3:
            raise KilledError
        return honest(*args)

    execute.run_job = dies
    try:
        with pytest.raises(KilledError):
            run(plan, tmp_path / "cut")
    finally:
        execute.run_job = honest
    again = run(plan, tmp_path / "cut")
    (other,) = notes(tmp_path / "cut")
    seconds = [t.pop("seconds") for each in (note, other) for t in each["trials"]]
    assert len(seconds) == 10
    assert other == note
    assert again.verdict == straight.verdict
    assert {r["starts"] for r in records(tmp_path / "cut", "search")} == {1}


def test_values_that_diverge_lose_and_are_not_tried_again(tmp_path):
    search = {**SEARCH, "trials": 2, "space": {"optimiser.lr": {"choice": [1e-3, 1e30]}}}
    plan = planned(tmp_path, search, base={"budget": {"steps": 6}}, variants={"plain": {}})
    assert run(plan, tmp_path / "runs").failed == []
    run(plan, tmp_path / "runs")
    (note,) = notes(tmp_path / "runs")
    assert [t["diverged"] for t in sorted(note["trials"], key=lambda t: t["values"]["optimiser.lr"])] == [
        False,
        True,
    ]
    assert {r["starts"] for r in records(tmp_path / "runs", "search")} == {1}


def test_a_search_without_a_winner_fails_its_trials_by_name(tmp_path):
    search = {**SEARCH, "trials": 2, "space": {"optimiser.lr": {"choice": [1e29, 1e30]}}}
    outcome = run(planned(tmp_path, search, base={"budget": {"steps": 6}}), tmp_path / "runs")
    assert [end.name for end in outcome.failed] == ["plain fold 0 seed 0"]
    assert "its search found nothing" in outcome.failed[0].reason
    assert [line for line in outcome.verdict if line.startswith("slow: 0.")]
    assert "missing: plain" in outcome.verdict


def test_the_dry_run_counts_the_trainings(tmp_path):
    """Before, and after the searches: 2 trainings of each of 3 folds, then the trials alone."""
    import typer
    from mriad.cli.ablate import ablate
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(ablate)

    path = write(tmp_path, folds=THIRDS, search={**SEARCH, "trials": 2})

    def said() -> str:
        done = CliRunner().invoke(app, [str(path), "--runs", str(tmp_path / "runs"), "--dry-run"])
        assert done.exit_code == 0, done.output
        return done.output

    before = said()
    assert "study: 6 trials = 2 variants × 3 folds × 1 seeds" in before
    assert "search plain: 2 trainings × 3 folds by val/overlap (random); optimiser.lr loguniform" in before
    assert "6 trainings of searches to run, before the trials" in before
    assert "0 finished before, 6 to run" in before
    assert "the searches   " in before
    assert not (tmp_path / "runs" / "runs").exists()
    run(make_plan(load_ablation(path)), tmp_path / "runs")
    after = said()
    assert "0 trainings of searches to run" in after
    assert "6 finished before, 0 to run" in after


class TestOptuna:
    """Suggestions of Optuna's sampler; the extra is optional."""

    def test_suggestions_are_a_function_of_what_is_known(self):
        pytest.importorskip("optuna")
        space = Search.model_validate(
            {
                "for": "a",
                "trials": 2,
                "space": {
                    "x": {"uniform": [-1.0, 1.0]},
                    "n": {"randint": [1, 5]},
                    "c": {"choice": [[1, 2], {"k": 1}]},
                    "l": {"loguniform": [1e-4, 1.0]},
                },
            }
        ).space
        known = []
        for number in range(4):
            values = suggest(space, known, [], higher=True, seed=0, number=number)
            assert -1 <= values["x"] <= 1
            assert values["n"] in range(1, 5)
            assert values["c"] in ([1, 2], {"k": 1})
            assert values == suggest(space, known, [], higher=True, seed=0, number=number)
            known.append(Tried(number, values, float(number)))
        both = suggest(space, known, [known[0].values], higher=True, seed=0, number=4)
        assert set(both) == set(space)

    def test_it_finds_a_peak_better_than_chance_does(self):
        pytest.importorskip("optuna")
        space = {"x": Values(uniform=(0.0, 1.0))}
        known: list[Tried] = []
        for number in range(40):
            values = suggest(space, known, [], higher=True, seed=0, number=number)
            known.append(Tried(number, values, -((values["x"] - 0.3) ** 2)))
        late = [abs(t.values["x"] - 0.3) for t in known[20:]]
        assert np.median(late) < 0.15  # by chance about 0.25

    def test_waves_and_the_same_winner_after_a_stop(self, tmp_path):
        pytest.importorskip("optuna")
        search = {**SEARCH, "trials": 3, "algorithm": "optuna"}
        plan = planned(tmp_path, search, variants={"plain": {}})
        run(plan, tmp_path / "runs")
        (before,) = notes(tmp_path / "runs")
        assert len({t["values"]["optimiser.lr"] for t in before["trials"]}) == 3
        run(plan, tmp_path / "runs")
        assert notes(tmp_path / "runs") == [before]
        assert {r["starts"] for r in records(tmp_path / "runs", "search")} == {1}


@pytest.mark.ray
def test_tune_finds_what_one_process_finds(tmp_path):
    plan = planned(tmp_path, base={"budget": {"steps": 6, "validate_every": 2}})
    one = run(plan, tmp_path / "one")
    two = run(plan, tmp_path / "two", launcher="ray")
    for each in (found := [notes(tmp_path / "one")[0], notes(tmp_path / "two")[0]]):
        for trial in each["trials"]:
            trial.pop("seconds")
    assert found[0] == found[1]
    assert two.verdict == one.verdict
