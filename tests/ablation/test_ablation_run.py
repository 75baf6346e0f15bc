"""An ablation run on this machine without Ray: each trial once, resumed, extended, failing in part."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from ablation_setup import THIRDS, write
from mriad.ablation.job_runs import run_job
from mriad.ablation.jobs import Setting, plan_jobs
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import Plan, make_plan
from mriad.ablation.run import AblationOptions, run_ablation
from mriad.ablation.watch import View, Watch, Watched
from mriad.errors import ExperimentError, LaunchError
from mriad.launch.files import read_json
from mriad.launch.trial import trial_id
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

INLINE = {"launcher": "inline", "tracking": "off"}


def planned(folder: Path, **over: Any) -> Plan:
    return make_plan(load_ablation(write(folder, **{"folds": THIRDS, **over})))


def run(plan: Plan, runs: Path, **over: Any):
    return run_ablation(plan, AblationOptions(runs=runs, **{**INLINE, **over}))


def tables(runs: Path) -> dict[str, str]:
    """The table of every trial by its id."""
    return {
        json.loads((p.parent / "run.json").read_text())["id"]: p.read_text()
        for p in runs.glob("runs/*/cases.csv")
    }


def begun(runs: Path) -> dict[str, int]:
    """How often each trial was started, by folder."""
    found = (read_json(p) for p in runs.glob("runs/*/run.json"))
    return {r["id"]: r["starts"] for r in found if r and r["kind"] == "trial"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    plan = planned(folder)
    return plan, run(plan, folder / "runs"), folder


def test_each_trial_once_and_a_verdict(undisturbed):
    plan, outcome, folder = undisturbed
    assert outcome.failed == []
    assert begun(folder / "runs") == {t.id: 1 for t in plan.trials}
    assert [line.split(":")[0] for line in outcome.verdict] == ["plain", "slow"]
    assert all(line.endswith("of 9") for line in outcome.verdict)  # 3 folds of 3 persons
    record = RunRecord(outcome.folder).read()
    assert record["status"] == "finished"
    assert record["kind"] == "ablation"
    assert record["compute"]["steps"] == 6 * 2
    assert RunRecord(outcome.folder).last()["ablation/finished"] == 6


def test_trials_are_children_with_their_facts(undisturbed):
    plan, outcome, folder = undisturbed
    parent = RunRecord(outcome.folder).read()["id"]
    for trial in plan.study(_root(folder)).trials:
        record = trial.record()
        assert record["parent"]["id"] == parent
        assert record["study"] == "study"
        assert (record["tags"]["variant"], record["tags"]["fold"], record["tags"]["seed"]) == (
            trial.variant,
            str(trial.fold),
            str(trial.seed),
        )


def test_running_it_again_runs_nothing(undisturbed):
    plan, outcome, folder = undisturbed
    again = run(plan, folder / "runs")
    assert begun(folder / "runs") == {t.id: 1 for t in plan.trials}
    assert again.verdict == outcome.verdict


def test_a_variant_joins_later(tmp_path):
    first = planned(tmp_path, folds=None)
    run(first, tmp_path / "runs")
    variants = {"plain": {}, "slow": {"optimiser.lr": 1e-4}, "slower": {"optimiser.lr": 1e-5}}
    outcome = run(planned(tmp_path, folds=None, variants=variants), tmp_path / "runs")
    assert len(outcome.verdict) == 3
    assert set(begun(tmp_path / "runs").values()) == {1}


def test_a_name_taken_by_another_ablation(tmp_path):
    run(planned(tmp_path, folds=None), tmp_path / "runs")
    other = planned(tmp_path, folds=None, variants={"plain": {}, "slow": {"optimiser.lr": 5e-4}})
    with pytest.raises(ExperimentError, match="taken by a different ablation") as caught:
        run(other, tmp_path / "runs")
    assert "slow" in str(caught.value)


def test_one_failing_variant_leaves_the_others(tmp_path):
    variants = {"plain": {}, "broken": {"optimiser.lr": 1e30}}  # the loss is not finite after a step
    outcome = run(planned(tmp_path, variants=variants, base={"budget": {"steps": 6}}), tmp_path / "runs")
    assert len(outcome.failed) == 3
    assert all(end.name.startswith("broken") and "finite" in end.reason for end in outcome.failed)
    assert outcome.verdict[0].startswith("plain")
    assert outcome.verdict[0].endswith("of 9")
    assert "missing: broken, broken, broken" in outcome.verdict
    noted = read_json(outcome.folder / "missing.json")
    assert noted is not None
    assert len(noted["failed"]) == 3


def test_an_error_without_words_fails_one_trial_alone(tmp_path, monkeypatch):
    from mriad.launch import trial

    honest = trial.run_trial

    def mute(experiment: Any, options: Any) -> Any:
        if experiment.name == "slow":
            raise ValueError
        return honest(experiment, options)

    monkeypatch.setattr(trial, "run_trial", mute)
    outcome = run(planned(tmp_path, folds=None), tmp_path / "runs")
    assert [(end.name, end.reason) for end in outcome.failed] == [
        ("slow fold 0 seed 0", "ValueError: no message")
    ]


def test_gpus_that_are_not_here_are_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan = planned(tmp_path, folds=None, resources={"gpus": 1})
    with pytest.raises(LaunchError, match="the GPUs that are asked for are not here"):
        run(plan, tmp_path / "runs")
    assert not (tmp_path / "runs" / "runs").exists()


def test_nothing_finished_is_an_error_that_says_why(tmp_path):
    variants = {"a": {"optimiser.lr": 1e30}, "b": {"optimiser.lr": 1e31}}
    plan = planned(tmp_path, folds=None, variants=variants, base={"budget": {"steps": 6}})
    with pytest.raises(LaunchError, match="no trial finished") as caught:
        run(plan, tmp_path / "runs")
    assert "finite" in str(caught.value)


@pytest.mark.slow
def test_processes_give_the_same_tables(undisturbed, tmp_path):
    plan, _, folder = undisturbed
    run(plan, tmp_path / "runs", at_once=2)
    assert tables(tmp_path / "runs") == tables(folder / "runs")


def test_a_shared_stage_is_run_once_before_the_trials(tmp_path):
    stages = {
        "before": {"type": "core.train"},
        "train": {"type": "core.train", "from": "before"},
        "evaluate": {"type": "core.evaluate", "with": "train"},
    }
    variants = {"plain": {}, "clipped": {"stages.train.optimiser": {"type": "shapes.adam", "lr": 1e-5}}}
    plan = planned(tmp_path, folds=None, base={"stages": stages}, variants=variants)
    outcome = run(plan, tmp_path / "runs")
    assert outcome.failed == []
    shared = [r for p in (tmp_path / "runs" / "runs").glob("before-shared-*/run.json") if (r := read_json(p))]
    assert [(r["status"], r["kind"], r["tags"]["trials"]) for r in shared] == [("finished", "stage", "2")]
    assert len(list((tmp_path / "runs" / "stages").glob("before-*"))) == 1


class TestImportedPredictions:
    """A variant whose predictions were made elsewhere."""

    def study(self, folder: Path, seeds: list[int]) -> Plan:
        made = folder / "elsewhere"
        variants = {"plain": {}, "theirs": {"predictions": str(made)}}
        return planned(folder, variants=variants, seeds=seeds)

    def fill(self, plan: Plan, folder: Path, keep: float = 1.0) -> None:
        """The true labels, or a part of each, as somebody's predictions."""
        import nibabel as nib
        import numpy as np

        folder.mkdir(exist_ok=True)
        for case in plan.trials[0].experiment.data.dataset.build():
            label = case.labels["hard"].source.read()
            mask = np.asarray(label.data).copy()
            mask[: round((1 - keep) * mask.shape[0])] = 0
            nib.save(
                nib.Nifti1Image(mask.astype(np.uint8), np.reshape(label.grid.affine, (4, 4))),
                folder / f"{case.id}.nii.gz",
            )

    def means(self, outcome: Any) -> dict[str, float]:
        return {line.split(":")[0]: float(line.split()[1]) for line in outcome.verdict}

    def test_they_are_scored_like_the_rest_once_a_fold(self, tmp_path):
        plan = self.study(tmp_path, [0, 1])
        self.fill(plan, tmp_path / "elsewhere")
        outcome = run(plan, tmp_path / "runs")
        assert outcome.failed == []
        assert self.means(outcome)["theirs"] == 1.0
        assert len([t for t in plan.trials if t.fixed]) == 3
        assert "theirs: 1.000000 of 9" in outcome.verdict

    def test_new_files_are_measured_again(self, tmp_path):
        plan = self.study(tmp_path, [0])
        self.fill(plan, tmp_path / "elsewhere")
        run(plan, tmp_path / "runs")
        self.fill(plan, tmp_path / "elsewhere", keep=0.5)
        assert self.means(run(plan, tmp_path / "runs"))["theirs"] < 0.9

    def test_a_missing_case_fails_the_variant_by_name(self, tmp_path):
        plan = self.study(tmp_path, [0])
        self.fill(plan, tmp_path / "elsewhere")
        victim = plan.trials[0].experiment.data.split.build(
            plan.trials[0].experiment.data.dataset.build(), 0, 0
        )["test"][0]
        (tmp_path / "elsewhere" / f"{victim}.nii.gz").unlink()
        outcome = run(plan, tmp_path / "runs")
        assert [end.name for end in outcome.failed] == ["theirs fold 0 seed 0"]
        assert "1 of 3 cases have no imported prediction" in outcome.failed[0].reason

    def test_another_grid_is_refused(self, tmp_path):
        import nibabel as nib
        import numpy as np

        plan = self.study(tmp_path, [0])
        self.fill(plan, tmp_path / "elsewhere")
        for path in (tmp_path / "elsewhere").iterdir():
            nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
        outcome = run(plan, tmp_path / "runs")
        assert all("different grids" in end.reason for end in outcome.failed)
        assert len(outcome.failed) == 3


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(undisturbed, tmp_path):
    """kill -9 of the driver three times, then the same command: the same trials, once each, the same numbers."""
    _, _, folder = undisturbed
    command = [sys.executable, "-m", "mriad", "ablate", str(folder / "study.yaml"), "--launcher", "inline"]
    command += ["--tracking", "off", "--runs", str(tmp_path / "runs")]
    for after_s in (4.0, 6.0, 5.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        setup.age_leases(tmp_path / "runs")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "runs") == tables(folder / "runs")


def test_new_data_run_every_trial_again(tmp_path):
    """Trials of old labels beside trials of new ones would be one verdict about two data sets."""
    files = tmp_path / "data"
    files.mkdir()
    setup.written(files)
    data = {
        "dataset": {"type": "data.manifest", "path": str(files)},
        "labels": {"kind": "hard"},
        "split": THIRDS,
    }
    plan = planned(tmp_path, folds=None, base={"data": data})
    run(plan, tmp_path / "runs")
    before = tables(tmp_path / "runs")
    for person in range(9):
        setup.write_case(files, person + 20)
        for ending in ("", "_label"):
            (files / f"p{person + 20:02d}{ending}.nii.gz").replace(files / f"p{person:02d}{ending}.nii.gz")
    outcome = run(planned(tmp_path, folds=None, base={"data": data}), tmp_path / "runs")
    assert outcome.failed == []
    after = tables(tmp_path / "runs")
    assert before.keys() == after.keys()
    assert all(before[key] != after[key] for key in before)
    assert set(begun(tmp_path / "runs").values()) == {2}


def test_a_worker_with_other_code_says_so(tmp_path):
    """A field that only the worker's version knows would make another trial, which nobody waits for."""
    plan = planned(tmp_path, folds=None)
    job = replace(plan_jobs(plan)[1][0], id="0" * 64)
    ended = run_job(job, Setting(str(tmp_path / "runs"), "study", str(tmp_path / "parent")))
    assert "versions of mriad or of a plugin differ" in ended.reason


def test_where_samples_are_kept_is_no_part_of_a_trial(tmp_path):
    plan = planned(tmp_path, folds=None)
    data = plan.trials[0].experiment.data
    other = plan.trials[0].experiment.model_copy(
        update={"data": data.model_copy(update={"store": "elsewhere"})}
    )
    assert trial_id(other) == plan.trials[0].id


class TestWatch:
    def job(self, folder: Path, name: str, **record: Any) -> Watched:
        place = folder / name.replace(" ", "_")
        place.mkdir(parents=True)
        if record:
            (place / "run.json").write_text(json.dumps(record))
        return Watched(name, place, name)

    def view(self, folder: Path) -> tuple[View, Watch]:
        jobs = [
            self.job(
                folder, "a fold 0", status="finished", summary={"test/dice/cord": 0.9}, started=0, ended=61
            ),
            self.job(folder, "a fold 1", status="finished", summary={"test/dice/cord": 0.8}),
            self.job(folder, "b fold 0", status="finished", summary={"test/dice/cord": 0.7}),
            self.job(folder, "b fold 1", status="failed", error={"message": "no room\nmore"}),
            self.job(folder, "c fold 0", status="running"),
            self.job(folder, "c fold 1"),
        ]
        (jobs[4].folder / "progress.json").write_text(json.dumps({"step": 3, "steps": 9}))
        watch = Watch(jobs, None, "test/dice")  # type: ignore[arg-type]
        return watch.look(), watch

    def test_counts_running_and_best(self, tmp_path):
        view, _ = self.view(tmp_path)
        assert dict(view.counts) == {"finished": 3, "running": 1, "failed": 0, "waiting": 2}
        assert view.running == ["c fold 0  3/9"]
        assert view.line().startswith("3 of 6 finished, 1 running")
        assert "best: a test/dice 0.85 (mean of 2)" in view.line()

    def test_what_failed_before_waits_until_it_is_started_again(self, tmp_path):
        job = self.job(tmp_path, "b fold 1", status="failed", starts=1, error={"message": "no room"})
        watch = Watch([job], None)  # type: ignore[arg-type]
        assert dict(watch.look().counts)["waiting"] == 1
        (job.folder / "run.json").write_text(json.dumps({"status": "finished", "starts": 2, "summary": {}}))
        assert dict(watch.look().counts)["finished"] == 1

    def test_what_ends_is_told_once_with_its_figure(self, tmp_path):
        _, watch = self.view(tmp_path)
        (tmp_path / "c_fold_0" / "run.json").write_text(
            json.dumps(
                {"status": "finished", "summary": {"test/dice/cord": 0.95}, "started": 10, "ended": 75}
            )
        )
        assert watch.look().ended == [("c fold 0", "finished", "test/dice 0.95 in 1:05")]
        assert watch.look().ended == []


def _root(folder: Path):
    from mriad.launch.files import runs_root

    return runs_root(folder / "runs")
