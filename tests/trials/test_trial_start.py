"""Stages that start from other stages' weights, through the whole stack."""

from __future__ import annotations

import shutil

import pytest
import trial_setup as setup
import yaml
from mriad.cli import main
from mriad.errors import CheckpointError
from mriad.model_file import export_model, import_model
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.tracking.record import RunRecord


def chained(key_map=None, first=None, steps=2, **second):
    """Two training stages, the second from the weights of the first."""
    mapped = {"key_map": key_map} if key_map else {}
    return setup.experiment(
        steps=steps,
        stages={
            "first": {"type": "core.train", **(first or {})},
            "train": {"type": "core.train", "from": "first", **mapped, **second},
        },
    )


def test_a_stage_takes_over_all_weights_of_the_stage_before(tmp_path):
    log = setup.Log()
    trial = setup.run(chained(optimiser={"lr": 1e-12}), tmp_path / "runs", log)
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 7 of 7 tensors" in said
    first = setup.torch.load(trial.artefacts["first"].folder / "weights.pt", weights_only=True)["network"]
    second = setup.weights(trial)
    assert all((second[f"network.{k}"] - first[k]).abs().max() < 1e-6 for k in first if "running" not in k)


def test_a_map_of_names_takes_over_what_it_covers(tmp_path):
    log = setup.Log()
    setup.run(chained(key_map={"first": "first"}), tmp_path / "runs", log)
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 1 of 7 tensors" in said


def test_a_map_that_matches_nothing_is_an_error_that_names_both_sides(tmp_path):
    given = chained(key_map={"encoder.": "first."})
    with pytest.raises(CheckpointError, match="cannot start from these weights") as caught:
        setup.run(given, tmp_path / "runs")
    said = str(caught.value)
    assert "stage     train" in said or caught.value.where["stage"] == "train"
    assert caught.value.where["matched"] == 0
    assert "first.weight" in said
    assert "key_map" in said
    (folder,) = (tmp_path / "runs" / "runs").iterdir()
    record = RunRecord(folder).read()
    assert record["status"] == "failed"
    assert record["error"]["type"] == "CheckpointError"
    assert "cannot start from these weights" in record["error"]["message"]


def test_weights_of_another_width_are_an_error_with_both_shapes(tmp_path):
    with pytest.raises(CheckpointError, match="cannot start") as caught:
        setup.run(chained(model={"width": 6}), tmp_path / "runs")
    assert "first.weight (4, 1, 3, 3, 3) ≠ (6, 1, 3, 3, 3)" in str(caught.value)


def test_a_stage_of_bare_weights_starts_another(tmp_path):
    """A learner that translates makes weights, not a predictor; its encoder starts a segmenter."""
    given = setup.experiment(
        "alternating",
        steps=2,
        stages={
            "translate": {"type": "core.train"},
            "train": {
                "type": "core.train",
                "from": "translate",
                "key_map": {"encoder.": "first."},
                "learner": {"type": "shapes.supervised"},
                "streams": {"labelled": {"batch": 2, "domain": "a"}},
            },
        },
    )
    log = setup.Log()
    trial = setup.run(given, tmp_path / "runs", log)
    assert {name: made.kind for name, made in trial.artefacts.items()} == {
        "translate": "weights",
        "train": "predictor",
    }
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "network: 2 of 4 tensors" in said


def from_model(model, **more):
    return setup.experiment(steps=1, stages={"train": {"type": "core.train", "from": str(model)}}, **more)


def mark(model):
    return fingerprints(expand(from_model(model)))["train"]


@pytest.fixture
def trained(runs, tmp_path):
    """A trial, and its model exported and imported as `cord`."""
    trial = setup.run(setup.experiment(steps=1), runs)
    file = export_model(trial.predictor, tmp_path / "exported", licence="MIT")
    import_model(file, runs=runs, name="cord")
    return trial, file


def test_a_start_is_identified_by_what_is_in_it_not_by_its_place(trained, tmp_path):
    trial, file = trained
    copy = tmp_path / "copy"
    shutil.copytree(trial.predictor, copy)
    assert mark(trial.predictor) == mark(copy) == mark(trial.folder)
    assert mark("cord") == mark(file) == mark(shutil.copy(file, tmp_path / "renamed.mriad.safetensors"))
    before = mark(copy)
    content = bytearray((copy / "weights.pt").read_bytes())
    content[-1] ^= 1
    (copy / "weights.pt").write_bytes(content)
    assert mark(copy) != before
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(trial.predictor / "weights.pt", bare)
    first = mark(bare)
    (bare / "weights.pt").write_bytes(content)
    assert mark(bare) != first


def test_training_starts_from_an_imported_model_by_name(trained, runs):
    log = setup.Log()
    setup.run(from_model("cord"), runs, log)
    (said,) = [line for line in log.lines if line.startswith("started from")]
    assert "models/cord/" in said
    assert "network: 7 of 7 tensors" in said


def train_by_command(tmp_path, *more):
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(setup.raw(steps=1, name="by-command")))
    with pytest.raises(SystemExit) as caught:
        main(["train", str(path), "--tracking", "off", *more])
    return int(caught.value.code or 0)


def test_the_command_starts_every_training_stage_from_a_model(trained, tmp_path, monkeypatch):
    other = tmp_path / "other"  # the name is looked up where the runs are
    import_model(trained[1], runs=other, name="spine")
    assert train_by_command(tmp_path, "--from", "spine", "--runs", str(other)) == 0
    (run,) = (other / "runs").glob("by-command-*")
    written = yaml.safe_load((run / "experiment.yaml").read_text())
    assert written["stages"]["train"]["from"] == str(next((other / "models" / "spine").glob("*.safetensors")))
    monkeypatch.chdir(tmp_path)
    assert train_by_command(tmp_path, "--from", "exported.mriad.safetensors", "--runs", str(other)) == 0
    assert len(list((other / "stages").glob("train-*"))) == 1  # the same weights: that stage is done already


def test_the_command_refuses_a_model_that_is_none(runs, tmp_path, capsys):
    assert train_by_command(tmp_path, "--from", "nothing") == 1
    assert "there is no model 'nothing'" in capsys.readouterr().err
