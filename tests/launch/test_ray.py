"""The Ray launcher. All tests that start Ray are in this file and share one embedded instance."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import launched_functions as functions
import pytest
from mriad.errors import DataError, LaunchError
from mriad.experiment.model import ResourcesSection
from mriad.launch import runs_root
from mriad.launch.inline import InlineLauncher
from mriad.launch.ray_launcher import RayLauncher
from mriad.launch.ray_settings import ray_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ray


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def launcher(root: Path) -> Iterator[RayLauncher]:
    with RayLauncher(runs_root(root), tracking="sqlite:////x/mlflow.db") as launcher:
        launcher.start(ResourcesSection(workers=2))
        yield launcher


def launch(launcher, function, payload, folder: Path, reporter=None, **resources):
    return launcher.run(
        function,
        payload,
        resources=ResourcesSection(**resources),
        name="test",
        folder=folder,
        reporter=reporter or functions.Log(),
    )


def test_one_worker_gives_what_inline_gives(launcher: RayLauncher, tmp_path: Path) -> None:
    inline, ray = functions.Log(), functions.Log()
    here = launch(InlineLauncher(), functions.count, {"steps": 4}, tmp_path / "inline", inline)
    there = launch(launcher, functions.count, {"steps": 4}, tmp_path / "ray", ray)
    assert there == here  # folder and threads included
    assert ray.values == inline.values
    assert ray.steps[-1] == (4, 4)
    assert ray.messages == ["counted from 0 to 4"]
    used = json.loads((tmp_path / "ray" / "launch.json").read_text())
    assert (used["launcher"], used["threads"]) == ("ray", 1)
    assert not (tmp_path / "ray" / "ray").exists()


def test_two_workers_give_what_inline_gives(launcher: RayLauncher, tmp_path: Path) -> None:
    log = functions.Log()
    here = launch(InlineLauncher(), functions.count, {"steps": 4}, tmp_path / "inline")
    there = launch(launcher, functions.count, {"steps": 4}, tmp_path / "ray", log, workers=2)
    assert there["world"] == 2
    assert there["value"] == here["value"]
    assert [step for step, _ in log.values] == [1, 2, 3, 4]


@pytest.mark.slow
def test_an_error_in_the_worker_is_raised_here_at_once(launcher: RayLauncher, tmp_path: Path) -> None:
    log = functions.Log()
    with pytest.raises(ZeroDivisionError, match="on rank 0") as caught:
        launch(launcher, functions.stumble, None, tmp_path, log)
    assert "in stumble" in str(caught.value.__cause__)
    assert not log.messages  # no second start


@pytest.mark.slow
def test_bad_input_on_one_of_two_workers_is_raised_as_it_was(launcher: RayLauncher, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image and label differ") as caught:
        launch(launcher, functions.refuse, "p1_T2w", tmp_path, workers=2)
    assert caught.value.where == {"case": "p1_T2w"}
    assert caught.value.remedy == "mriad doctor"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_started_again_and_finishes(
    launcher: RayLauncher, tmp_path: Path, workers: int
) -> None:
    log = functions.Log()
    straight = launch(InlineLauncher(), functions.count, {"steps": 6}, tmp_path / "inline")
    payload = {"steps": 6, "die_at": 3}
    result = launch(launcher, functions.count, payload, tmp_path / "ray", log, workers=workers)
    assert result["start"] in (2, 3)  # with two workers rank 1 may die while rank 0 is still saving
    assert result["value"] == straight["value"]
    assert log.messages[0] == "a worker died; start 2 goes on from the last checkpoint"


@pytest.mark.slow
def test_workers_that_always_die_end_the_run(
    launcher: RayLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "max_failures", 0)
    with pytest.raises(LaunchError, match="workers died 1 times") as caught:
        launch(launcher, functions.count, {"steps": 3, "die_at": 2}, tmp_path)
    assert "goes on from its last checkpoint" in str(caught.value)


def test_more_gpus_than_there_are(launcher: RayLauncher) -> None:
    import ray

    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    other = RayLauncher(launcher.root)
    said: list[str] = []
    other._message = said.append
    other.start(ResourcesSection(gpus=1))  # joins the instance of this process: it might grow
    assert said == ["1 GPU asked for, 0 in the cluster: waiting for more nodes"]


def test_the_token_is_private_and_the_node_on_loopback(launcher: RayLauncher) -> None:
    import ray

    assert stat.S_IMODE(launcher.root.ray_token.stat().st_mode) == 0o600
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_nothing_is_left_running(launcher: RayLauncher) -> None:
    launcher.start(ResourcesSection(workers=2))  # up already, unless this test is run alone
    started = _descendants(os.getpid())
    assert any("raylet" in name for name in started.values())
    launcher.close()
    assert {pid: name for pid, name in started.items() if _alive(pid)} == {}


def test_a_cluster_that_is_not_there(
    launcher: RayLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.close()  # a Ray of this process would be used
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        began = time.monotonic()
        with pytest.raises(LaunchError, match="the Ray cluster cannot be joined") as caught:
            RayLauncher(runs_root(tmp_path)).start(ResourcesSection())
    assert time.monotonic() - began < 20
    assert address in str(caught.value)
    assert "unset it for an embedded Ray" in str(caught.value)


def test_a_cluster_s_nodes_are_not_put_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, kept in (("10.0.0.7:6379", False), ("ray://head:10001", False), ("127.0.0.1:6379", True)):
        monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        ray_environment(None, address)
        assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in os.environ) is kept


def test_the_environment_leaves_what_a_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", raising=False)
    ray_environment()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"


def _descendants(pid: int) -> dict[int, str]:
    """All below `pid`, by a walk of its own; threads and processes may end while it looks."""
    found: dict[int, str] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
                found |= _descendants(child)
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
