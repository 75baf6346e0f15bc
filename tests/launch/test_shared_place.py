"""Is the runs root one folder for all nodes? Asked before anything starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mriad.errors import LaunchError
from mriad.launch import runs_root
from mriad.launch.place import check_shared, look


def test_nodes_that_share_it_are_content_and_nothing_is_left(tmp_path):
    asked = []

    def ask(mark: str, text: str) -> dict[str, str]:
        asked.append(mark)
        return {node: look(mark, text, 0) for node in ("n1", "n2")}

    check_shared(runs_root(tmp_path / "runs"), ask)
    assert Path(asked[0]).parent == tmp_path / "runs"
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_node_with_a_disk_of_its_own_is_named(tmp_path):
    """The same path on another node's disk: the folder is there, the file is not."""
    (tmp_path / "other").mkdir()

    def ask(mark: str, text: str) -> dict[str, str]:
        elsewhere = str(tmp_path / "other" / Path(mark).name)
        return {"n1 (10.0.0.1)": look(mark, text, 0), "n2 (10.0.0.2)": look(elsewhere, text, 0)}

    with pytest.raises(LaunchError, match="1 of 2 nodes do not share the runs root") as caught:
        check_shared(runs_root(tmp_path / "runs"), ask)
    said = str(caught.value)
    assert "n2 (10.0.0.2)" in said
    assert "a new file of the driver is not" in said
    assert "n1" not in said
    assert str(tmp_path / "runs") in said
    assert "mounted at the same path on every node" in said
    assert list((tmp_path / "runs").iterdir()) == []


def test_each_way_of_not_sharing_has_its_words(tmp_path):
    mark = tmp_path / ".shared-1"
    assert look(str(tmp_path / "nowhere" / "x"), "text", 0) == "no such folder"
    mark.write_text("somebody else's")
    assert look(str(mark), "text", 0) == "another file is in its place"
    mark.unlink()
    mark.mkdir()
    assert look(str(mark), "text", 0).startswith("cannot be read: ")


def test_a_folder_that_a_node_may_not_write(tmp_path, monkeypatch):
    mark = tmp_path / ".shared-1"
    mark.write_text("text")

    def refuse(self: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert look(str(mark), "text", 0) == "cannot be written: Permission denied"


def test_a_file_that_is_seen_late_is_waited_for(tmp_path, monkeypatch):
    mark, kept = tmp_path / ".shared-1", tmp_path / "kept"
    kept.write_text("text")
    slept = []

    def appear(seconds: float) -> None:
        slept.append(seconds)
        shutil.copy(kept, mark)

    monkeypatch.setattr("mriad.launch.place.time.sleep", appear)
    assert look(str(mark), "text", 5) == ""
    assert len(slept) == 1
