"""The local record: what it holds, and what it survives."""

from __future__ import annotations

import json
import math
import platform
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest
import torch
from mriad.errors import DataError, StorageError, TrackingError
from mriad.filehash import file_sha256
from mriad.tracking.provenance import describe_inputs, git_state
from mriad.tracking.record import JsonlReporter, Reporters, RunRecord, records

if TYPE_CHECKING:
    from pathlib import Path

ID = "ab" * 32


def start(folder: Path, **facts) -> RunRecord:
    return RunRecord.start(folder, **{"id": ID, "name": "soft", **facts})


def test_a_record_says_what_a_result_came_from(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"voxels")
    record = start(
        tmp_path / "run",
        experiment={"budget": {"steps": 3}},
        yaml="budget: {steps: 3}\n",
        data={"fingerprint": "cd" * 32},
        inputs=describe_inputs([scan]),
        launch={"launcher": "inline", "threads": 2},
        tags={"fold": "1"},
    )
    found = json.loads((record.folder / "run.json").read_text())
    assert found["status"] == "running"
    assert found["launch"]["threads"] == 2
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert "standard" in found["plugins"]
    assert found["inputs"] == [{"file": str(scan), "bytes": 6, "sha256": file_sha256(scan)}]
    assert found["data"]["fingerprint"] == "cd" * 32
    assert (record.folder / "experiment.yaml").read_text() == "budget: {steps: 3}\n"
    assert platform.node() not in (record.folder / "run.json").read_text()


def test_the_end_keeps_last_values_and_compute(tmp_path: Path) -> None:
    record = start(tmp_path)
    reporter = Reporters(JsonlReporter(record))
    reporter.log(1, {"train/loss": 2.0, "val/dice/cord": 0.5})
    reporter.log(2, {"train/loss": 1.0, "compute/seconds": 3.5})
    reporter.progress(2, 2)
    reporter.message("done")
    record.finish({"test/dice/cord": 0.75})
    found = record.read()
    assert found["status"] == "finished"
    assert found["summary"] == {"train/loss": 1.0, "val/dice/cord": 0.5, "test/dice/cord": 0.75}
    assert found["compute"] == {"seconds": 3.5}
    assert record.progress() == (2, 2)
    assert (tmp_path / "messages.txt").read_text().endswith("Z done\n")


def test_a_run_that_goes_on_repeats_steps_and_the_last_counts(tmp_path: Path) -> None:
    record = start(tmp_path)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 9.0)):
        record.append(step, {"train/loss": loss})
    again = start(tmp_path)
    for step, loss in ((3, 1.0), (4, 0.5)):
        again.append(step, {"train/loss": loss})
    assert again.history()["train/loss"] == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.5)]
    assert again.read()["starts"] == 2
    assert again.read()["started"] == record.read()["started"]


def test_values_that_json_lacks_come_back(tmp_path: Path) -> None:
    record = start(tmp_path)
    record.append(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    values = record.rows()[0][0].values
    assert math.isnan(values["a"])
    assert (values["b"], values["c"]) == (math.inf, -math.inf)
    record.finish()
    assert record.read()["summary"]["a"] is None


def test_the_reader_survives_a_killed_writer(tmp_path: Path) -> None:
    record = start(tmp_path)
    record.append(1, {"a": 1.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "step": 2, "val')
    assert [row.step for row in record.rows()[0]] == [1]
    again = start(tmp_path)
    again.append(3, {"a": 3.0})
    assert [row.step for row in again.rows()[0]] == [1, 3]
    offset = again.rows()[1]
    assert again.rows(offset) == ([], offset)


def test_an_error_is_kept_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), start(tmp_path):
        raise ZeroDivisionError("a bug")
    error = RunRecord(tmp_path).read()["error"]
    assert (error["type"], error["message"]) == ("ZeroDivisionError", "a bug")
    assert "test_record.py" in error["traceback"]
    assert RunRecord(tmp_path).read()["status"] == "failed"
    with pytest.raises(KeyboardInterrupt), start(tmp_path):
        raise KeyboardInterrupt
    assert RunRecord(tmp_path).read()["status"] == "interrupted"
    record = start(tmp_path)
    record.finish()
    with pytest.raises(DataError), record:
        raise DataError("after the end")
    assert RunRecord(tmp_path).read()["status"] == "finished"


def test_another_run_s_folder_is_refused(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(TrackingError, match="record of another run") as caught:
        start(tmp_path, id="cd" * 32)
    assert "choose another folder" in str(caught.value)
    with pytest.raises(TrackingError, match="holds no record"):
        RunRecord(tmp_path / "missing").read()


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    record = start(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            record.update(tags={"x": "y"})
        with pytest.raises(StorageError, match="cannot write"):
            record.append(1, {f"key{i}": 1.0 for i in range(100)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert record.read()["status"] == "running"
    assert record.rows()[0] == []


def test_children_share_their_parent_s_study(tmp_path: Path) -> None:
    parent = start(tmp_path / "runs" / "a", name="contrasts", kind="ablation")
    child = start(tmp_path / "runs" / "b", id="cd" * 32, name="soft", parent=parent)
    assert child.read()["study"] == "contrasts"
    assert child.read()["parent"] == {"id": ID, "name": "contrasts", "kind": "ablation"}
    assert [r.folder.name for r in records(tmp_path / "runs")] == ["b", "a"]
    assert list(records(tmp_path / "missing")) == []


def test_the_commit_of_a_repository_and_its_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert "experiment" not in git_state(tmp_path)
    git("init", "-q")
    assert "experiment" not in git_state(tmp_path)  # no commit yet
    (tmp_path / "x.yaml").write_text("a: 1\n")
    (tmp_path / ".gitignore").write_text("env/\n")
    git("add", ".")
    git("commit", "-q", "-m", "x")
    assert git_state(tmp_path)["experiment"] == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "x.yaml").write_text("a: 2\n")
    assert git_state(tmp_path)["experiment"]["changed"]
    (tmp_path / "env").mkdir()
    assert "experiment" not in git_state(tmp_path / "env")  # an installed copy is not the repository's code


def test_an_input_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        describe_inputs([tmp_path / "missing.nii"])
