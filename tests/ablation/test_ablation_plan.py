"""From an ablation file to its trials, and every way in which it can be wrong before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from ablation_setup import THIRDS, write
from mriad.ablation.jobs import plan_jobs
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import make_plan
from mriad.errors import ExperimentError, MriadError
from mriad.launch.files import runs_root
from mriad.launch.trial import trial_id

if TYPE_CHECKING:
    from pathlib import Path


def plan(folder: Path, **over: Any):
    return make_plan(load_ablation(write(folder, **over)))


def refused(folder: Path, **over: Any) -> str:
    with pytest.raises(MriadError) as caught:
        plan(folder, **over)
    return str(caught.value)


def test_every_variant_fold_and_seed_once(tmp_path):
    found = plan(tmp_path, folds=THIRDS, seeds=[4, 7])
    keys = [(t.variant, t.fold, t.seed) for t in found.trials]
    assert len(keys) == len(set(keys)) == 2 * 3 * 2
    assert {k[0] for k in keys} == {"plain", "slow"}
    assert len({t.id for t in found.trials}) == 12
    assert found.ablation.name == "study"  # the file's name
    assert {t.experiment.seed for t in found.trials} == {4, 7}
    slow = next(t for t in found.trials if t.variant == "slow")
    assert slow.experiment.optimiser.lr == 1e-4
    assert slow.experiment.name == "slow"


def test_a_grid_multiplies_the_variants_it_names(tmp_path):
    found = plan(
        tmp_path,
        grid=[{"for": ["slow"], "budget.clip_norm": [1, 2], "predict.low_cut": [0.0, 0.1]}],
        seeds=[0],
    )
    assert set(found.variants) == {
        "plain",
        *(f"slow/budget.clip_norm={c}/predict.low_cut={p}" for c in (1, 2) for p in (0.0, 0.1)),
    }
    chosen = next(t for t in found.trials if t.variant.endswith("norm=2/predict.low_cut=0.1"))
    assert chosen.experiment.budget.clip_norm == 2
    assert chosen.experiment.predict.low_cut == 0.1
    assert chosen.experiment.optimiser.lr == 1e-4


def test_trials_of_a_grid_lie_where_records_are_looked_for(tmp_path):
    """A slash of a grid's variant is no folder: `mriad compare`, `runs` and `sync` look at `runs/*/run.json`."""
    found = plan(tmp_path, grid=[{"for": ["slow"], "budget.clip_norm": [1, 2]}])
    root = runs_root(tmp_path / "runs")
    folders = {trial.at(root).folder for trial in found.trials}
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {root.runs}


def test_room_is_kept_for_the_largest_trial(tmp_path):
    variants = {"plain": {}, "wide": {"resources.cpus": 3}, "two": {"resources.workers": 2}}
    base = {"streams": {"labelled": {"batch": 2}}, "seed": 5}
    found = plan(tmp_path, variants={**variants, "two": {**variants["two"], "seed": 6}}, base=base)
    assert (found.resources.workers, found.resources.cpus) == (2, 3)


def test_budget_and_resources_are_everybodys(tmp_path):
    found = plan(tmp_path, budget={"steps": 3}, resources={"cpus": 2})
    assert {t.experiment.budget.steps for t in found.trials} == {3}
    assert {t.experiment.resources.cpus for t in found.trials} == {2}


def test_a_control_repeats_with_other_seeds(tmp_path):
    found = plan(tmp_path, variants={"plain": {}, "again": {"same_as": "plain"}}, seeds=[0, 1])
    own = {t.experiment.seed for t in found.trials if t.variant == "plain"}
    other = {t.experiment.seed for t in found.trials if t.variant == "again"}
    assert len(own) == len(other) == 2
    assert not own & other
    assert {t.seed for t in found.trials} == {0, 1}  # paired by the ablation's seed
    assert len({t.id for t in found.trials}) == 4


@pytest.mark.parametrize("folds", [4, {"type": "data.k_fold", "k": 4}])
def test_short_and_long_forms_of_folds(tmp_path, folds):
    found = plan(tmp_path, folds=folds, base={"persons": 12})
    assert {t.fold for t in found.trials} == {0, 1, 2, 3}
    assert {t.experiment.data.split.type_name() for t in found.trials} == {"data.k_fold"}


class TestSharedStages:
    def base(self) -> dict[str, Any]:
        return {
            "stages": {
                "before": {"type": "core.train"},
                "train": {"type": "core.train", "from": "before"},
                "evaluate": {"type": "core.evaluate", "with": "train"},
            }
        }

    def test_what_two_variants_need_is_one_job(self, tmp_path):
        variants = {"plain": {}, "clipped": {"stages.train.optimiser": {"type": "shapes.adam", "lr": 1e-5}}}
        found = plan(tmp_path, base=self.base(), variants=variants)
        stages, jobs = plan_jobs(found)
        assert [job.node for job in stages] == ["before"]
        assert stages[0].trials == 2
        assert all(job.needs == (stages[0].id,) for job in jobs)

    def test_nothing_is_shared_where_all_differs(self, tmp_path):
        stages, jobs = plan_jobs(plan(tmp_path))
        assert stages == []
        assert all(job.needs == () for job in jobs)

    def test_a_metric_alone_shares_the_training(self, tmp_path):
        """Variants that differ in what is measured train once."""
        variants = {"plain": {}, "others": {"evaluate.both_empty": "best"}}
        stages, _ = plan_jobs(plan(tmp_path, variants=variants))
        assert [job.node for job in stages] == ["train"]

    def test_a_shared_stage_after_one_that_measures(self, tmp_path):
        base = self.base()
        base["stages"]["more"] = {"type": "core.train", "after": ["evaluate"]}
        variants = {"plain": {}, "cut": {"evaluate.both_empty": "best"}}
        stages, _ = plan_jobs(plan(tmp_path, base=base, variants=variants))
        assert {job.node for job in stages} >= {"before", "train"}


class TestRefused:
    def test_two_combinations_of_one_name(self, tmp_path):
        told = refused(
            tmp_path,
            grid=[{"for": ["slow"], "budget.clip_norm": [1, 1.0]}, {"for": ["slow"], "seed": [1, "1"]}],
        )
        assert "two combinations of a grid have this name" in told

    def test_variants_measured_against_their_own_labels(self, tmp_path):
        told = refused(tmp_path, variants={"hard": {}, "soft": {"data.labels": "soft"}})
        assert "measured against different labels" in told
        assert "evaluate: {reference: NAME}" in told

    def test_components_of_a_grid_are_told_apart(self, tmp_path):
        options = [{"type": "shapes.adam", "lr": lr} for lr in (2e-3, 3e-3)]
        found = plan(tmp_path, grid=[{"for": ["slow"], "optimiser": options}])
        assert set(found.variants) == {
            "plain",
            *(f"slow/optimiser=shapes.adam,lr={lr}" for lr in (0.002, 0.003)),
        }

    def test_a_field_that_does_not_exist(self, tmp_path):
        told = refused(tmp_path, variants={"plain": {}, "typo": {"optimiser.learning": 1}})
        assert "typo" in told
        assert "optimiser.learning" in told
        assert "study.yaml:" in told
        assert "plain" not in told.split("typo")[0].split("variants")[0]

    def test_a_loss_whose_link_does_not_fit_the_head(self, tmp_path):
        told = refused(tmp_path, variants={"plain": {}, "odd": {"loss": {"type": "standard.mse"}}})
        assert "odd" in told
        assert "reads outputs as" in told

    def test_two_names_of_one_experiment(self, tmp_path):
        told = refused(tmp_path, variants={"plain": {}, "twin": {"optimiser.lr": 1e-3}})
        assert "the same experiment" in told
        assert "same_as: plain" in told

    def test_fewer_persons_than_folds(self, tmp_path):
        told = refused(tmp_path, folds=12, base={"persons": 9})
        assert "12 folds need 12 persons, but there are 9" in told

    def test_a_metric_that_nothing_measures(self, tmp_path):
        told = refused(tmp_path, compare={"type": "shapes.tally", "primary": "csa_std"})
        assert "csa_std not among evaluate.metrics (overlap)" in told

    def test_unknown_keys_with_a_hint(self, tmp_path):
        told = refused(tmp_path, sedes=[1])
        assert "sedes" in told
        assert "did you mean 'seeds'" in told

    @pytest.mark.parametrize(
        ("over", "expected"),
        [
            ({"seeds": [1, 1]}, "listed twice"),
            ({"variants": {}}, "at least 1"),
            ({"variants": {"a b": {}}}, "match"),
            ({"grid": [{"for": ["nobody"], "budget.steps": [1, 2]}]}, "the grid names 'nobody'"),
            ({"variants": {"plain": {}, "again": {"same_as": "nobody"}}}, "'nobody', which is no variant"),
            ({"variants": {"a": {"predictions": "x", "budget.steps": 1}}}, "either fields of the experiment"),
            ({"budget": {"stepps": 1}}, "stepps"),
            ({"folds": "thirds"}, "no split named 'thirds'"),
        ],
    )
    def test_values_that_mean_nothing(self, tmp_path, over, expected):
        assert expected in refused(tmp_path, **over)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ExperimentError, match="no such ablation file"):
            load_ablation(tmp_path / "nothing.yaml")

    def test_a_base_that_is_not_there(self, tmp_path):
        path = write(tmp_path)
        (tmp_path / "base.yaml").unlink()
        with pytest.raises(ExperimentError, match=r"base\.yaml"):
            make_plan(load_ablation(path))


def test_folds_count_persons_as_training_does(tmp_path):
    """Two names of one person are one fold of leave-one-out."""
    raw = setup.raw()["data"]
    same = {"dataset": {**raw["dataset"], "persons": 9}, "same_person": [["a00", "a01"]]}
    names = setup.experiment().data.dataset.build().persons
    same["same_person"] = [list(names[:2])]
    found = plan(tmp_path, folds="leave_one_out", base={"data": {**raw, **same}})
    assert {t.fold for t in found.trials} == set(range(8))


def test_a_description_is_no_part_of_a_trial(tmp_path):
    one = plan(tmp_path).trials[0]
    assert trial_id(one.experiment.model_copy(update={"description": "a typo less"})) == one.id


def test_the_plan_of_a_study_has_folders(tmp_path):
    found = plan(tmp_path)
    study = found.study(runs_root(tmp_path / "runs"))
    assert [t.status for t in study.trials] == ["waiting", "waiting"]
    assert study.missing == list(study.trials)
    assert study.finished == []
