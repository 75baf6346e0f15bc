"""The runs root, atomic files, and the place of a cluster's results."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest
from mriad.errors import LaunchError, StorageError
from mriad.launch.files import atomic_write_json, atomic_write_text, folder_size, read_json, runs_root
from mriad.launch.place import check_place
from mriad.launch.relay import append_line, end_line, read_lines


def test_the_root_is_the_option_then_the_variable_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)
    assert runs_root().path == tmp_path / "mriad-runs"
    assert runs_root().relative
    monkeypatch.setenv("MRIAD_RUNS", "/data/runs")
    assert runs_root().path == Path("/data/runs")
    assert not runs_root().relative
    assert runs_root("here").path == tmp_path / "here"
    assert not (tmp_path / "mriad-runs").exists()


def test_folders_carry_twelve_digits(tmp_path: Path) -> None:
    root = runs_root(tmp_path)
    assert root.run("soft_all", "ab" * 32) == tmp_path / "runs" / "soft_all-abababababab"
    assert root.stage("train", "cd" * 32) == tmp_path / "stages" / "train-cdcdcdcdcdcd"


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    atomic_write_json(path, {"a": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="cannot write: the file would pass the size limit"):
            atomic_write_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]
    assert folder_size(path.parent) == path.stat().st_size


def test_permissions_of_secrets(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "token", "secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_object_reads_as_none(tmp_path: Path) -> None:
    for text in ("", "[1]", '{"a": ', "\0"):
        (tmp_path / "x.json").write_text(text)
        assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "missing") is None


def test_lines_survive_a_writer_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert read_lines(path, 0) == ([], 0)
    append_line(path, '{"a": 1}')
    with path.open("ab") as file:
        file.write(b'{"a": 2')
    lines, offset = read_lines(path, 0)
    assert (lines, offset) == ([{"a": 1}], 9)
    end_line(path)
    append_line(path, '{"a": 3}')
    assert read_lines(path, offset)[0] == [{"a": 3}]
    end_line(path)
    assert path.read_bytes().endswith(b'{"a": 3}\n')


def test_a_job_needs_an_absolute_root_and_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = runs_root("mriad-runs"), runs_root(tmp_path)
    sqlite, server = f"sqlite:///{tmp_path}/mlflow.db", "http://tracking:5000"
    check_place(relative, sqlite)
    check_place(absolute, server, in_job=True, nodes=4)
    with pytest.raises(
        LaunchError, match="a relative runs root cannot be used inside a cluster's job"
    ) as caught:
        check_place(relative, server, in_job=True)
    assert "--runs /shared/mriad-runs" in str(caught.value)
    with pytest.raises(LaunchError, match="SQLite tracking store cannot be used on a cluster of 2") as caught:
        check_place(absolute, sqlite, nodes=2)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
