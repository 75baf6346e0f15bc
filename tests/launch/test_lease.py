"""A run folder has one owner; a dead one's place is taken."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING

import mriad.launch.lease
import pytest
from mriad.errors import LaunchError, StorageError
from mriad.launch.lease import Heartbeat, Lease, beat_for, leased

if TYPE_CHECKING:
    from pathlib import Path


def forge(folder: Path, number: int = 1, age_s: float = 0.0, token: str = "theirs") -> Path:
    """What another process's lease looks like."""
    path = folder / f"lease-{number:06d}.json"
    owner = {"host": "node7", "pid": 4711, "since": 1.7e9, "token": token}
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_taken_and_given_back(tmp_path: Path) -> None:
    for _ in range(3):
        with Lease(tmp_path / "new" / "folder") as lease:
            lease.check()
            assert not lease.taken_over
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1


def test_a_live_owner_is_named(tmp_path: Path) -> None:
    forge(tmp_path)
    with pytest.raises(LaunchError) as caught, Lease(tmp_path):
        pass
    text = str(caught.value)
    assert "in use by another process" in text
    assert "process 4711 on node7" in text
    assert "2023-11-1" in text  # since when
    assert "wait until it has ended, or stop it" in text


def test_a_stale_lease_is_taken_over_and_its_owner_learns_of_it(tmp_path: Path) -> None:
    with Lease(tmp_path) as sleeper:
        os.utime(sleeper.path, (time.time() - 60,) * 2)
        with Lease(tmp_path, token="new") as lease:
            assert lease.taken_over
            with pytest.raises(LaunchError, match="lost its lease"):
                sleeper.check()
            lease.check()
        with pytest.raises(LaunchError, match="lost its lease"):
            sleeper.check()


def test_one_of_many_takes_a_stale_lease(tmp_path: Path) -> None:
    forge(tmp_path, number=3, age_s=60)
    start, outcomes, release = threading.Barrier(8), [], threading.Event()

    def compete() -> None:
        start.wait()
        try:
            with Lease(tmp_path):
                outcomes.append("won")
                release.wait(10)
        except LaunchError:
            outcomes.append("lost")

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(outcomes) < 8 and time.monotonic() < until:
        time.sleep(0.01)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["won"]


def test_a_slow_taker_behind_a_newer_lease_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It judged number 1 stale and fell asleep; 2 came and went, 3 holds the folder, 1 and 2 are gone."""
    stale, real = forge(tmp_path, age_s=60), mriad.launch.lease._latest

    def look(folder: Path) -> Path | None:
        if stale.exists() and not (tmp_path / "lease-000003.json").exists():
            return stale
        return real(folder)

    def age(path: Path) -> float:
        forge(tmp_path, number=3, token="third")
        stale.unlink(missing_ok=True)
        monkeypatch.undo()
        return 60.0

    monkeypatch.setattr(mriad.launch.lease, "_latest", look)
    monkeypatch.setattr(mriad.launch.lease, "_age", age)
    with pytest.raises(LaunchError, match="in use"), Lease(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["lease-000003.json"]


def test_the_heartbeat_keeps_a_lease_fresh(tmp_path: Path) -> None:
    path = forge(tmp_path, age_s=60, token="shared")
    with beat_for(path, "shared", stale_after_s=0.06):
        until = time.monotonic() + 5
        while time.time() - path.stat().st_mtime > 30 and time.monotonic() < until:
            time.sleep(0.01)
    assert time.time() - path.stat().st_mtime < 30
    with pytest.raises(LaunchError, match="in use"), Lease(tmp_path):
        pass


def test_nobody_beats_for_another_s_lease(tmp_path: Path) -> None:
    path = forge(tmp_path, age_s=60)
    heart = Heartbeat(path, "mine", period_s=0.01)
    time.sleep(0.1)
    heart.stop()
    assert time.time() - path.stat().st_mtime > 30


def test_within_a_process_a_held_lease_is_shared(tmp_path: Path) -> None:
    with Lease(tmp_path) as outer:
        with leased(tmp_path) as inner:
            assert inner is outer
        outer.check()
    with leased(tmp_path) as own:
        assert own is not outer


def test_an_empty_file_is_an_owner_that_has_not_signed_yet(tmp_path: Path) -> None:
    (tmp_path / "lease-000001.json").touch()
    with pytest.raises(LaunchError, match="in use"), Lease(tmp_path):
        pass


def test_a_place_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not below a folder"), Lease(tmp_path / "file" / "run"):
        pass
