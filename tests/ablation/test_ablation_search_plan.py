"""Searches before they start: what is refused, how many there are, and what they mean for a trial's identity."""

from __future__ import annotations

import pytest
from ablation_setup import THIRDS
from mriad.ablation.search import Tried
from mriad.launch.trial import trial_id
from search_setup import SEARCH, planned, refused


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
                "data": {"store", "validate_on"},
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
