"""Searches that meet what they, or other searches, did before: failed trainings, and equal ones."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from mriad.ablation import execute
from mriad.ablation.jobs import Ended, rounds, search_jobs
from mriad.launch.files import runs_root
from search_setup import SEARCH, notes, planned, records, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.ablation.jobs import Job

ALONE: dict[str, Any] = {"plain": {}}
TWO = {**SEARCH, "trials": 2}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("plan"), TWO, variants=ALONE)


@pytest.fixture(scope="module")
def best(plan, tmp_path_factory):
    """The number of the training that wins where none fails."""
    runs = tmp_path_factory.mktemp("straight")
    run(plan, runs)
    return notes(runs)[0]["winner"]


class TestATrainingThatHadFailed:
    """The better of two trainings fails in the first run and is done by the second."""

    @pytest.fixture
    def fails(self, best, monkeypatch):
        """Let the best training fail, and all trials too where it is told so."""
        honest = execute.run_job

        def begin(trials: bool = False) -> None:
            def run_job(job: Any, *rest: Any) -> Ended:
                fails = trials if job.search is None else job.search.number == best
                return Ended(job.id, job.name, "no room") if fails else honest(job, *rest)

            monkeypatch.setattr(execute, "run_job", run_job)

        return begin

    def test_does_not_change_the_winner_of_trials_that_were_tested(
        self, plan, best, fails, monkeypatch, tmp_path
    ):
        runs = tmp_path / "runs"
        fails()
        first = run(plan, runs)
        (before,) = notes(runs)
        assert before["winner"] not in (None, best)
        trials = records(runs, "trial")
        monkeypatch.undo()
        said: list[str] = []
        again = run(plan, runs, message=said.append)
        assert records(runs, "trial") == trials
        assert again.verdict == first.verdict
        (after,) = notes(runs)
        assert (after["winner"], after["better, but late"]) == (before["winner"], best)
        assert len([t for t in after["trials"] if t["reason"]]) == 0
        (late,) = [line for line in said if "had failed when the winner was chosen" in line]
        assert f"training {best} (optimiser.lr=" in late
        assert f"training {before['winner']} (optimiser.lr=" in late
        assert "The winner stays" in late
        chosen = after["trials"][before["winner"]]["values"]["optimiser.lr"]
        assert any(line.startswith(f"search of plain fold 0: optimiser.lr={chosen} ") for line in said)
        # The remedy, as it is told.
        from mriad.cli.runs import app
        from typer.testing import CliRunner

        command = shlex.split(late.partition("mriad runs ")[2])
        assert CliRunner().invoke(app, [*command, "--yes"]).exit_code == 0
        said.clear()
        run(plan, runs, message=said.append)
        (third,) = notes(runs)
        assert (third["winner"], third["better, but late"]) == (best, None)
        assert not any("had failed" in line for line in said)
        (trial,) = records(runs, "trial")
        assert trial["experiment"]["optimiser"]["lr"] == third["trials"][best]["values"]["optimiser.lr"]

    def test_wins_where_no_trial_was_tested(self, plan, best, fails, monkeypatch, tmp_path):
        """A full disk fails trainings and trials alike: nothing is known of the test yet."""
        from mriad.errors import LaunchError

        fails(trials=True)
        with pytest.raises(LaunchError, match="no trial finished"):
            run(plan, tmp_path / "runs")
        monkeypatch.undo()
        run(plan, tmp_path / "runs")
        (note,) = notes(tmp_path / "runs")
        assert (note["winner"], note["better, but late"]) == (best, None)

    def test_leaves_nothing_open_for_the_dry_run(self, plan, fails, tmp_path):
        from mriad.ablation.searching import as_far_as_known

        fails()
        run(plan, tmp_path / "runs")
        known, lacking = as_far_as_known(plan, runs_root(tmp_path / "runs"))
        assert lacking == 1
        assert all(trial.is_tuned for trial in known.trials)


class TestEqualTrainings:
    """Searches of two variants that differ in how tests are counted, which no training reads."""

    VARIANTS: ClassVar[dict[str, Any]] = {"plain": {}, "strict": {"evaluate.empty": "worst"}}
    BOTH: ClassVar[dict[str, Any]] = {**TWO, "for": ["plain", "strict"]}

    @pytest.fixture
    def at_once(self, monkeypatch):
        """The trainings that are begun together."""
        from mriad.ablation import run as running

        found: list[list[str]] = []
        honest = running.run_all

        def run_all(jobs: Sequence[Job], *rest: Any) -> list[Ended]:
            found.append([job.training for job in jobs if job.training])
            return honest(jobs, *rest)

        monkeypatch.setattr(running, "run_all", run_all)
        return found

    def test_are_not_begun_together(self, tmp_path, at_once):
        """The second would wait for the first with its place, and its GPU, in hand."""
        plan = planned(tmp_path, self.BOTH, variants=self.VARIANTS)
        assert run(plan, tmp_path / "runs").failed == []
        begun = [trainings for trainings in at_once if trainings]
        assert [len(trainings) for trainings in begun] == [2, 2]
        assert set(begun[0]) == set(begun[1])
        assert all(len(set(trainings)) == 2 for trainings in begun)
        told = [
            path.read_text() for path in (tmp_path / "runs" / "runs").glob("strict-search-*/messages.txt")
        ]
        assert len(told) == 2
        assert all("was done before" in text for text in told)
        one, other = notes(tmp_path / "runs")
        assert one["winner"] == other["winner"]
        for found in (one, other):
            for trial in found["trials"]:
                del trial["seconds"]
        assert one["trials"] == other["trials"]

    def test_the_judge_of_the_second_hears_of_every_validation(self, tmp_path):
        """What the first search gives up, the second does not train on with an empty rung beside it."""
        base = {"budget": {"steps": 9, "validate_every": 1}}
        search = {**self.BOTH, "trials": 4, "scheduler": "asha"}
        plan = planned(tmp_path, search, variants=self.VARIANTS, base=base)
        run(plan, tmp_path / "runs")
        one, other = notes(tmp_path / "runs")
        assert any(trial["stopped"] for trial in one["trials"])
        for found in (one, other):
            for trial in found["trials"]:
                del trial["seconds"]
        assert one["trials"] == other["trials"]
        rungs = [
            sorted((path.parent.name, path.name, path.read_text()) for path in folder.glob("rung-*/*.json"))
            for folder in (tmp_path / "runs" / "searches").iterdir()
        ]
        assert len(rungs) == 2
        assert rungs[0] == rungs[1] != []

    def test_come_one_after_the_other_however_many_there_are(self, tmp_path):
        plan = planned(
            tmp_path,
            {**TWO, "for": ["plain", "strict", "other"]},
            variants={**self.VARIANTS, "other": {"evaluate.both_empty": "best"}},
        )
        root = runs_root(tmp_path / "runs")
        drawn = [(s, n, values) for s in plan.searches for n, values in enumerate(s.draws())]
        stages, jobs = search_jobs(drawn, root)
        assert stages == []
        found = rounds(jobs)
        assert [[job.variant for job in each] for each in found] == [
            ["plain"] * 2,
            ["strict"] * 2,
            ["other"] * 2,
        ]
        assert not any(job.twin for job in found[0])
        assert all("plain-search-" in job.twin for job in found[1])
        assert all("strict-search-" in job.twin for job in found[2])
        assert rounds([]) == []
