"""A trial that is killed goes on where it was, and ends as if nothing had been; with and without a tracking store."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import trial_setup as setup
from mriad.experiment.model import Experiment
from mriad.launch import runs_root
from mriad.tracking.address import tracking_uri
from mriad.tracking.record import RunRecord, records

if TYPE_CHECKING:
    from pathlib import Path

# Checkpoints lie between validations, in the middle of epochs of two steps: sums and streams must come back too.
LONG = {"steps": 121, "validate_every": 25, "checkpoint_every": 3}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_mid_way_and_run_again_ends_like_an_undisturbed_run(tmp_path: Path, workers: int) -> None:
    given = setup.raw("mean_teacher", budget=LONG, resources={"workers": workers})
    runs = tmp_path / "runs"
    process = setup.start({"experiment": given, "runs": str(runs)}, tmp_path)
    setup.wait_for(runs, "stages/*/checkpoints/last.pt", 1, process, 60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(runs.glob("stages/*/done.json"))  # it was mid-way
    assert [r.read()["status"] for r in records(runs / "runs")] == ["running"]
    setup.age_leases(runs)

    log = setup.Log()
    again = setup.run(Experiment.model_validate(given), runs, log)
    straight = setup.run(Experiment.model_validate(given), tmp_path / "straight")
    assert any(line.startswith("stage 'train' resumes in") for line in log.lines)
    (said,) = [line for line in log.lines if line.startswith("resumed at step")]
    assert 0 < int(said.split()[3]) < 121
    assert setup.difference(setup.weights(again), setup.weights(straight)) == 0
    assert setup.difference(setup.state(again), setup.state(straight)) == 0
    assert setup.values(again) == setup.values(straight)
    assert again.summary == straight.summary
    assert RunRecord(again.folder).read()["starts"] == 2
    compute = RunRecord(again.folder).read()["compute"]
    assert (compute["steps"], compute["samples"]) == (121, 121 * 4)


def test_a_store_that_cannot_be_reached_gets_everything_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mriad.tracking.sender import sync

    log = setup.Log()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        trial = setup.run(setup.experiment(), tmp_path / "runs", log, tracking=nowhere)
    record = RunRecord(trial.folder)
    assert record.read()["status"] == "finished"
    (warning,) = [line for line in log.lines if "tracking store" in line]
    assert nowhere in warning
    assert "`mriad sync` sends it later" in warning
    assert warning in (trial.folder / "messages.txt").read_text()

    uri = tracking_uri(runs_root(tmp_path / "runs"))
    assert sync(list(records(tmp_path / "runs" / "runs")), uri) == 1
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    study = client.get_experiment_by_name("supervised")
    (found,) = client.search_runs([study.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["budget.steps"] == "6"
    assert found.data.metrics["test/overlap/box"] == trial.summary[0].with_worst
    for key, points in setup.values(trial).items():
        sent = client.get_metric_history(found.info.run_id, key)
        assert sorted((m.step, m.value) for m in sent) == points
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert {"run.json", "experiment.yaml", "cases.csv", "figures"} <= names
    assert sync([record], uri) == 0  # nothing is sent twice


def test_the_default_store_holds_what_the_record_holds(tmp_path: Path) -> None:
    assert "MLFLOW_TRACKING_URI" not in os.environ
    log = setup.Log()
    trial = setup.run(setup.experiment(steps=2), tmp_path / "runs", log, tracking="")
    assert not [line for line in log.lines if "tracking store" in line]
    assert (tmp_path / "runs" / "tracking" / "mlflow.db").is_file()
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracking_uri(runs_root(tmp_path / "runs")))
    (found,) = client.search_runs([client.get_experiment_by_name("supervised").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/overlap/box"] == trial.summary[0].with_worst


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """Ctrl-C ends with exit code 130 and the line that resumes."""
    import mriad.launch.trial
    from mriad.cli import main

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mriad.launch.trial, "run_trial", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["train", "standard:quickstart", "--runs", str(tmp_path)])
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert "the last checkpoint are kept" in said
    assert f"next: mriad resume {tmp_path}/runs/quickstart-" in said
