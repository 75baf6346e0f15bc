"""Searches of an ablation: what is drawn, who is given up, who wins, and what that means for the trials."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ablation_setup import THIRDS, write
from mriad.ablation.halving import Halving, goes_on, rungs
from mriad.ablation.load import load_ablation
from mriad.ablation.model import Search
from mriad.ablation.plan import Plan, make_plan
from mriad.ablation.run import AblationOptions, run_ablation
from mriad.ablation.search import Tried
from mriad.ablation.space import Values, combinations, draws, to_check
from mriad.ablation.suggest import suggest
from mriad.errors import MriadError, StoppedEarlyError
from mriad.launch.files import read_json
from mriad.launch.relay import FileReporter, relay
from mriad.launch.trial import trial_id
from pydantic import ValidationError
from trial_setup import Log

if TYPE_CHECKING:
    from pathlib import Path

RATES = {"optimiser.lr": {"loguniform": [1e-4, 1e-1]}}
SEARCH = {"for": "plain", "space": RATES, "trials": 3}


def planned(folder: Path, search: Any = SEARCH, **over: Any) -> Plan:
    return make_plan(load_ablation(write(folder, search=search, **over)))


def refused(folder: Path, search: Any, **over: Any) -> str:
    with pytest.raises(MriadError) as caught:
        planned(folder, search, **over)
    return str(caught.value)


def run(plan: Plan, runs: Path, **over: Any):
    return run_ablation(
        plan, AblationOptions(**{"launcher": "inline", "runs": runs, "tracking": "off", **over})
    )


def records(runs: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("runs/*/run.json"))]
    return [record for record in found if record["kind"] == kind]


def notes(runs: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in runs.glob("searches/*/search.json")]
    return sorted(found, key=lambda note: note["fold"])


class TestSpace:
    @pytest.mark.parametrize(
        ("written", "name", "bounds"),
        [
            ({"uniform": [2.0, 5.0]}, "uniform", (2.0, 5.0)),
            ({"loguniform": [1e-4, 1e-1]}, "loguniform", (1e-4, 1e-1)),
            ({"randint": [3, 9]}, "randint", (3, 9)),
        ],
    )
    def test_draws_have_the_distribution_of_ray_tune(self, written, name, bounds):
        from ray import tune
        from scipy.stats import ks_2samp

        ours = [values["x"] for values in draws({"x": Values(uniform=(0, 1))}, 2, 0)]
        assert ours[0] != ours[1]
        values = Values.model_validate(written)
        rng = np.random.default_rng(0)
        ours = [values.draw(rng) for _ in range(2000)]
        theirs = getattr(tune, name)(*bounds).sample(size=2000, random_state=np.random.RandomState(1))
        assert ks_2samp(ours, theirs).pvalue > 0.01
        assert min(ours) >= bounds[0]
        assert max(ours) <= bounds[1]
        assert isinstance(ours[0], int) == (name == "randint")

    def test_a_choice_gives_each_as_often(self):
        values = Values(choice=["a", [1, 2], {"type": "x"}])
        rng = np.random.default_rng(0)
        found = [json.dumps(values.draw(rng)) for _ in range(3000)]
        assert sorted(found.count(text) // 100 for text in set(found)) == pytest.approx([10, 10, 10], abs=1)

    def test_the_nth_draw_knows_nothing_of_how_many_there_are(self):
        space = {"a": Values(uniform=(0, 1)), "b": Values(choice=[1, 2, 3])}
        assert list(draws(space, 20, 5))[:8] == list(draws(space, 8, 5))
        assert list(draws(space, 8, 5)) != list(draws(space, 8, 6))

    def test_no_combination_twice(self):
        space = {"a": Values(choice=[1, 2]), "b": Values(randint=(0, 3))}
        assert combinations(space) == 6
        assert len({json.dumps(values) for values in draws(space, 6, 0)}) == 6
        assert combinations({**space, "c": Values(uniform=(0, 1))}) is None

    def test_every_end_is_checked(self):
        space = {"a": Values(choice=[1, 2, 3]), "b": Values(uniform=(0.5, 1.5))}
        found = list(to_check(space))
        assert {values["a"] for values in found} == {1, 2, 3}
        assert {values["b"] for values in found} == {0.5, 1.5}

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ({}, "takes one of uniform, loguniform, randint and choice"),
            ({"uniform": [0, 1], "choice": [1, 2]}, "takes one of"),
            ({"uniform": [1, 0]}, "the lower first"),
            ({"uniform": [1, 1]}, "the lower first"),
            ({"uniform": [0, math.inf]}, "two numbers"),
            ({"loguniform": [0, 1]}, "above 0"),
            ({"choice": [1]}, "two values or more"),
            ({"choice": [1, 1]}, "all different"),
            ({"normal": [0, 1]}, "Extra inputs"),
            ({"uniform": [0, 1, 2]}, "at most 2"),
        ],
    )
    def test_what_is_no_range(self, written, expected):
        with pytest.raises(ValidationError, match=expected):
            Values.model_validate(written)


class TestHalving:
    def test_rungs_are_a_ninth_and_a_third(self):
        assert rungs(90) == (10, 30)
        assert rungs(20000) == (2222, 6666)
        assert rungs(2) == (1,)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_it_decides_as_ray_tune_does(self, tmp_path, mode):
        """Against `AsyncHyperBandScheduler`: forty trainings report in a mixed order."""
        from ray.tune.schedulers import AsyncHyperBandScheduler

        higher = mode == "max"
        theirs = AsyncHyperBandScheduler(
            time_attr="step", metric="m", mode=mode, grace_period=10, max_t=90, reduction_factor=3
        )
        rng = np.random.default_rng(0)
        trials = [type("Trial", (), {"trial_id": str(n)})() for n in range(40)]
        ours = [Halving(tmp_path, n, "m", higher, (10, 30), 90) for n in range(40)]
        best = [-math.inf if higher else math.inf] * 40
        alive = list(range(40))
        for trial in trials:
            theirs.on_trial_add(None, trial)
        stopped = 0
        for step in (5, 10, 20, 30, 60):
            for n in rng.permutation(alive):
                value = float(rng.normal())
                best[n] = max(best[n], value) if higher else min(best[n], value)
                expected = theirs.on_trial_result(None, trials[n], {"step": step, "m": best[n]}) == "STOP"
                found = False
                try:
                    ours[n].log(step, {"m": value})
                except StoppedEarlyError:
                    found = True
                assert found == expected, (step, n)
                if found:
                    alive.remove(n)
                    stopped += 1
        assert 20 < stopped < 40

    def test_what_was_decided_stays_decided(self, tmp_path):
        """A training that was killed and goes on is not judged anew by those that came after it."""
        Halving(tmp_path, 0, "m", True, (10,), 90).log(10, {"m": 0.1})
        Halving(tmp_path, 1, "m", True, (10,), 90).log(10, {"m": 0.9})
        Halving(tmp_path, 0, "m", True, (10,), 90).log(12, {"m": 0.1})
        for _ in range(2):
            with pytest.raises(StoppedEarlyError, match="not in the best third"):
                Halving(tmp_path, 2, "m", True, (10,), 90).log(10, {"m": 0.5})

    def test_nothing_is_given_up_at_its_end(self, tmp_path):
        Halving(tmp_path, 0, "m", True, (10,), 20).log(20, {"m": 0.9})
        Halving(tmp_path, 1, "m", True, (10,), 20).log(20, {"m": 0.1})

    def test_no_number_is_no_reason_to_go_on(self):
        assert goes_on(math.nan, [], True)
        assert goes_on(0.1, [math.nan], True)
        assert not goes_on(math.nan, [0.2], True)


def test_the_driver_ends_a_worker_that_reports_through_files(tmp_path):
    """Where a search gives up a training that runs in other processes."""

    class Stops(Log):
        def log(self, step: int, values: Any) -> None:
            raise StoppedEarlyError("enough")

    steps = 0

    def train() -> None:
        nonlocal steps
        with relay(tmp_path, Stops()):
            worker = FileReporter(tmp_path)
            for steps in range(2000):
                worker.log(steps, {"m": 1.0})
                time.sleep(0.01)

    with pytest.raises(StoppedEarlyError, match="enough"):
        train()
    assert 0 < steps < 1999


class TestRefused:
    @pytest.mark.parametrize(
        ("over", "expected"),
        [
            ({"for": "nobody"}, "the search names 'nobody'"),
            ({"for": "again"}, "names the control 'again'"),
            ({"for": "theirs"}, "its predictions were made elsewhere"),
            ({"for": []}, "at least 1"),
            ({"trials": 1}, "greater than or equal to 2"),
            ({"scheduler": "hyperband"}, "asha"),
            ({"algorithm": "grid"}, "optuna"),
            ({"space": {}}, "at least 1"),
            ({"space": {"optimiser.lr": {"loguniform": [0, 1]}}}, "above 0"),
            ({"space": {"optimiser.lr": [1, 2]}}, "search"),
            ({"space": {"optimiser.lr": {"choice": [1, 2]}}, "trials": 3}, "2 combinations, fewer than 3"),
            ({"space": {"budget.steps": {"randint": [1, 9]}}}, "'budget.steps' cannot be searched"),
            ({"space": {"data.labels": {"choice": ["soft", "hard"]}}}, "'data.labels' cannot be searched"),
            ({"space": {"stages.train.budget.steps": {"randint": [1, 9]}}}, "cannot be searched"),
            ({"space": {"seed": {"randint": [0, 9]}}}, "'seed' cannot be searched"),
            ({"sheduler": "asha"}, "sheduler: unknown key"),
        ],
    )
    def test_values_that_mean_nothing(self, tmp_path, over, expected):
        variants = {"plain": {}, "again": {"same_as": "plain"}, "theirs": {"predictions": "x"}}
        assert expected in refused(tmp_path, {**SEARCH, "trials": 2, **over}, variants=variants)

    def test_a_field_that_does_not_exist(self, tmp_path):
        told = refused(tmp_path, {**SEARCH, "space": {"optimiser.rate": {"uniform": [0.0, 1.0]}}})
        assert "optimiser.rate" in told
        assert "plain" in told

    def test_an_end_of_a_range_that_the_field_does_not_take(self, tmp_path):
        told = refused(tmp_path, {**SEARCH, "space": {"predict.low_cut": {"uniform": [0.5, 1.5]}}})
        assert "predict.low_cut: should be less than or equal to 1, not 1.5" in told

    def test_a_choice_whose_link_does_not_fit_the_head(self, tmp_path):
        told = refused(
            tmp_path,
            {
                **SEARCH,
                "trials": 2,
                "space": {"loss": {"choice": [{"type": "shapes.cross_entropy"}, {"type": "standard.mse"}]}},
            },
        )
        assert "reads outputs as" in told

    def test_a_metric_that_does_not_choose_the_checkpoint(self, tmp_path):
        told = refused(tmp_path, {**SEARCH, "metric": "val/assd"})
        assert "must look at what chooses the checkpoint" in told
        assert "val/overlap" in told

    def test_asha_without_a_validation_before_the_end(self, tmp_path):
        told = refused(tmp_path, {**SEARCH, "scheduler": "asha"})
        assert "validates at its end alone" in told
        assert "scheduler: none" in told

    def test_two_searches_of_one_variant(self, tmp_path):
        assert "two searches name 'plain'" in refused(tmp_path, [SEARCH, {**SEARCH, "trials": 5}])

    def test_a_field_both_in_a_grid_and_in_a_search(self, tmp_path):
        told = refused(tmp_path, SEARCH, grid=[{"for": ["plain"], "optimiser.lr": [1e-3, 2e-3]}])
        assert "optimiser.lr both in a grid and in a search" in told

    def test_optuna_that_is_not_installed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        told = refused(tmp_path, {**SEARCH, "algorithm": "optuna"})
        assert "not installed" in told
        assert "pip install 'optuna" in told

    def test_a_split_that_shows_the_search_a_test_person(self, tmp_path, monkeypatch):
        """Where a split depends on the seed, one search a fold would see persons whom other seeds test."""
        from mriad_shapes.configs import Thirds

        honest = Thirds.build
        monkeypatch.setattr(
            Thirds, "build", lambda self, index, fold, seed: honest(self, index, fold + seed, 0)
        )
        told = refused(tmp_path, SEARCH, folds=THIRDS, seeds=[0, 1])
        assert "would see persons whom its trials test" in told


class TestPlan:
    def test_every_searched_variant_and_fold_once(self, tmp_path):
        plan = planned(tmp_path, [{**SEARCH, "for": ["plain", "slow"]}], folds=THIRDS, seeds=[0, 1])
        assert [(s.variant, s.fold) for s in plan.searches] == [
            (v, f) for f in range(3) for v in ("plain", "slow")
        ]
        assert len({s.id for s in plan.searches}) == 6
        assert len(plan.trials) == 12
        assert not any(trial.is_tuned for trial in plan.trials)

    def test_a_grid_and_a_control_are_searched_by_themselves(self, tmp_path):
        variants = {"plain": {}, "again": {"same_as": "plain"}, "other": {"optimiser.lr": 0.5}}
        plan = planned(tmp_path, variants=variants, grid=[{"for": ["plain"], "budget.clip_norm": [1, 2]}])
        names = {s.variant for s in plan.searches}
        assert names == {"plain/budget.clip_norm=1", "plain/budget.clip_norm=2", "again"}
        control = next(s for s in plan.searches if s.variant == "again")
        assert control.experiment({}).seed > 1_000_000

    def test_the_search_is_part_of_the_identity(self, tmp_path):
        plan = planned(tmp_path)
        (search,) = plan.searches
        won = plan.tuned({search.id: Tried(1, {"optimiser.lr": 0.02}, 0.9)})
        (trial,) = [t for t in won.trials if t.variant == "plain"]
        assert trial.is_tuned
        assert trial.experiment.optimiser.lr == 0.02
        by_hand = trial.experiment.model_copy(update={"tuned": ""})
        assert trial_id(by_hand) != trial.id
        more = planned(tmp_path, {**SEARCH, "trials": 4}).searches[0]
        assert more.id != search.id
        assert more.place == search.place
        other = planned(tmp_path, {**SEARCH, "seed": 1}).searches[0]
        assert other.place != search.place
        assert won.marks() == plan.marks()
        # So that an ablation whose search means something else must have another name.
        changed = planned(tmp_path, {**SEARCH, "trials": 4}).marks()
        assert changed["plain"] != plan.marks()["plain"]
        assert changed["slow"] == plan.marks()["slow"]

    def test_experiments_without_a_search_keep_their_identity(self, tmp_path):
        trial = planned(tmp_path, []).trials[0]
        before = trial.experiment.model_dump(
            mode="json",
            exclude={
                "resources": True,
                "privacy": True,
                "description": True,
                "tuned": True,
                "data": {"store"},
            },
        )
        from mriad.identity import fingerprint

        assert fingerprint(before) == trial.id

    def test_the_winner_ran_to_its_end(self, tmp_path):
        search = planned(tmp_path).searches[0]
        found = [
            Tried(0, {}, 0.7),
            Tried(1, {}, 0.9, stopped=True),
            Tried(2, {}, diverged=True),
            Tried(3, {}, 0.8),
            Tried(4, {}, 0.8),
            Tried(5, {}, reason="no room"),
        ]
        assert search.winner(found) == found[3]
        told = search.told(found)
        assert "val/overlap 0.8; 6 trainings, 1 stopped early, 1 diverged, 1 failed" in told
        assert search.winner([found[1], found[2]]) is None


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
