"""Bad input through the whole stack: a message that says what, where and what to do; a record that says it failed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
import trial_setup as setup
from mriad.errors import (
    CheckpointError,
    ExperimentError,
    LaunchError,
    NonFiniteError,
    SplitError,
    StorageError,
)
from mriad.experiment.model import Experiment
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path


def record(runs: Path) -> dict:
    (folder,) = (runs / "runs").iterdir()
    return RunRecord(folder).read()


def test_a_person_in_two_splits(tmp_path):
    given = setup.written(tmp_path / "data")
    split = {"train": [f"p{n:02d}" for n in range(6)], "validation": ["p05"], "test": ["p07", "p08"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    data = given.model_dump(mode="json")["data"]
    data["split"] = {"type": "data.file", "path": str(tmp_path / "split.json"), "others": "leave_out"}
    with pytest.raises(SplitError) as caught:
        setup.run(setup.experiment(data=data), tmp_path / "runs")
    assert "p05" in str(caught.value)


def test_a_loss_whose_link_does_not_fit_the_head(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(setup.raw(predict={"head": {"type": "standard.identity"}})))
    with pytest.raises(ExperimentError) as caught:
        Experiment.load(file)
    said = str(caught.value)
    assert "loss 'shapes.cross_entropy' reads outputs as softmax" in said
    assert "predict.head 'standard.identity' as raw" in said


def test_a_loss_that_is_not_finite_names_its_cases_and_keeps_the_checkpoint(tmp_path):
    given = setup.experiment(optimiser={"type": "shapes.adam", "lr": 1e30}, steps=6)
    with pytest.raises(NonFiniteError) as caught:
        setup.run(given, tmp_path / "runs")
    said = str(caught.value)
    assert "labelled" in said
    assert any(f"a{n:02d}" in said for n in range(9))
    assert caught.value.where["stage"] == "train"
    kept = record(tmp_path / "runs")
    assert kept["status"] == "failed"
    assert kept["error"]["type"] == "NonFiniteError"
    assert "a0" in kept["error"]["message"]
    (stage,) = (tmp_path / "runs" / "stages").iterdir()
    assert not (stage / "done.json").exists()
    last = torch.load(stage / "checkpoints" / "last.pt", weights_only=True)
    assert last["progress"]["step"] >= 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished trial, and one of a wider network, in one place."""
    place = tmp_path_factory.mktemp("tampered") / "runs"
    wide = setup.experiment(steps=2, model={"type": "shapes.tiny_net", "width": 6, "norm": "batch"})
    return place, setup.run(setup.experiment(steps=2), place), setup.run(wide, place)


class TestTampered:
    """Folders of stages whose content was changed."""

    @pytest.fixture
    def changed(self, finished, tmp_path):
        """A copy to change: runs root, training stage, training stage of the wider network."""
        place, narrow, wide = finished
        shutil.copytree(place, tmp_path / "runs")
        folders = [t.artefacts["train"].folder.parent.relative_to(place) for t in (narrow, wide)]
        return tmp_path / "runs", *(tmp_path / "runs" / folder for folder in folders)

    def again(self, runs):
        return setup.run(setup.experiment(steps=2), runs)

    def test_a_checkpoint_of_another_architecture(self, changed):
        runs, stage, wide = changed
        shutil.copyfile(wide / "checkpoints" / "last.pt", stage / "checkpoints" / "last.pt")
        (stage / "done.json").unlink()
        with pytest.raises(CheckpointError) as caught:
            self.again(runs)
        said = str(caught.value)
        assert "first.weight" in said
        assert caught.value.where["stage"] == "train"
        assert str(stage) in said
        assert not (stage / "done.json").exists()

    def test_a_checkpoint_that_carries_code(self, changed, tmp_path):
        runs, stage, _ = changed
        (stage / "done.json").unlink()
        torch.save({"learner": Trap(tmp_path / "sprung")}, stage / "checkpoints" / "last.pt")
        with pytest.raises(CheckpointError, match="holds code"):
            self.again(runs)
        assert not (tmp_path / "sprung").exists()

    def test_a_checkpoint_that_was_cut_short(self, changed):
        runs, stage, _ = changed
        (stage / "done.json").unlink()
        last = stage / "checkpoints" / "last.pt"
        last.write_bytes(last.read_bytes()[:5000])
        with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
            self.again(runs)

    def test_a_predictor_of_another_architecture(self, changed):
        runs, stage, wide = changed
        shutil.copyfile(wide / "predictor" / "weights.pt", stage / "predictor" / "weights.pt")
        for folder in (runs / "stages").glob("evaluate-*"):
            shutil.rmtree(folder)
        with pytest.raises(CheckpointError, match="architecture") as caught:
            self.again(runs)
        assert caught.value.where["stage"] == "evaluate"

    def test_a_record_that_is_damaged(self, changed):
        runs, stage, _ = changed
        (stage / "done.json").write_text('{"format": 1,')
        with pytest.raises(Exception, match="record of a finished stage is damaged") as caught:
            self.again(runs)
        assert f"remove the folder {stage}" in str(caught.value)


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class TestPlace:
    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("here")
        with pytest.raises(StorageError, match="not below a folder") as caught:
            setup.run(setup.experiment(), tmp_path / "file" / "runs")
        assert f"{tmp_path / 'file'} is a file" in str(caught.value)
        assert (tmp_path / "file").read_text() == "here"

    # The record of a run takes 4 KiB, a checkpoint of this network 16 KiB.
    @pytest.mark.parametrize(("limit", "file"), [(3000, "run.json"), (10_000, "last.pt")])
    def test_a_full_disk_leaves_nothing_half_written(self, tmp_path, limit, file):
        given, runs = setup.raw(), tmp_path / "runs"
        process = setup.start({"experiment": given, "runs": str(runs), "limit": limit}, tmp_path)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 3, said
        assert said.startswith("StorageError: cannot write: the file would pass the size limit")
        assert "mriad runs prune" in said
        left = [path for path in runs.rglob("*") if path.is_file()]
        assert not [path for path in left if ".part" in path.name or path.name.startswith(".")]
        assert not [path for path in left if path.name in ("last.pt", "best.pt", "done.json")]
        for path in left:
            if path.suffix == ".json":
                json.loads(path.read_text())
            if path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
        if file != "run.json":
            assert record(runs)["status"] == "failed"
        finished = setup.run(Experiment.model_validate(given), runs)
        straight = setup.run(Experiment.model_validate(given), tmp_path / "straight")
        assert setup.difference(setup.weights(finished), setup.weights(straight)) == 0
        assert setup.values(finished) == setup.values(straight)
        assert record(runs)["status"] == "finished"
        assert record(runs)["error"] is None

    def test_a_second_process_is_refused_while_the_first_lives(self, tmp_path):
        given, runs = setup.raw(steps=100_000), tmp_path / "runs"
        first = setup.start({"experiment": given, "runs": str(runs)}, tmp_path)
        try:
            setup.wait_for(runs, "stages/*/checkpoints/last.pt", 1, first, 60)
            with pytest.raises(LaunchError, match="in use by another process") as caught:
                setup.run(Experiment.model_validate(given), runs)
            assert f"process {first.pid} on" in str(caught.value)
            assert "wait until it has ended" in str(caught.value)
            assert record(runs)["status"] == "running"  # the first one's record is left alone
            assert first.poll() is None
        finally:
            first.kill()
            first.wait()
