"""Trials under Ray: the same numbers as inline, whatever dies on the way. One embedded Ray serves this module."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
from mriad.experiment.model import Experiment, ResourcesSection
from mriad.launch import runs_root
from mriad.launch.lease import live_owner
from mriad.launch.ray_launcher import RayLauncher
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ray

# Checkpoints lie between validations, in the middle of epochs.
LONG = {"steps": 160, "validate_every": 40, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayLauncher]:
    with RayLauncher(runs_root(tmp_path_factory.mktemp("ray") / "runs")) as launcher:
        launcher.start(ResourcesSection(workers=2))
        yield launcher


def slow(*shapes: str) -> list[Any]:
    return [pytest.param(shape, marks=pytest.mark.slow) for shape in shapes]


@pytest.mark.parametrize(
    "shape", ["mean_teacher", "domain_norms", *slow("supervised", "alternating", "cross_pseudo")]
)
def test_one_worker_gives_the_same_numbers_as_inline(
    launcher: RayLauncher, tmp_path: Path, shape: str
) -> None:
    given, log, inline_log = setup.experiment(shape), setup.Log(), setup.Log()
    there = setup.run(given, tmp_path / "ray", log, launcher)
    here = setup.run(given, tmp_path / "inline", inline_log)
    assert setup.difference(setup.weights(there), setup.weights(here)) == 0
    assert setup.difference(setup.state(there), setup.state(here)) == 0
    assert setup.values(there) == setup.values(here)
    assert there.id == here.id
    assert there.summary == here.summary
    assert [step for step, _ in log.rows] == [step for step, _ in inline_log.rows]
    written = RunRecord(there.folder).read()
    assert written["launch"]["launcher"] == "ray"
    assert written["compute"]["steps"] == 6


@pytest.mark.parametrize(
    "shape", ["domain_norms", *slow("supervised", "alternating", "mean_teacher", "cross_pseudo")]
)
def test_two_workers_match_one_with_the_joint_batch(
    launcher: RayLauncher, tmp_path: Path, shape: str
) -> None:
    joint = setup.run(setup.experiment(shape), tmp_path / "one")
    two = setup.run(setup.experiment(shape, resources={"workers": 2}), tmp_path / "two", launcher=launcher)
    assert RunRecord(two.folder).read()["launch"]["workers"] == 2
    assert setup.difference(setup.weights(two), setup.weights(joint)) <= 1e-5
    assert two.id == joint.id  # how many work is no part of what is made
    found = setup.values(two)
    for key, points in setup.values(joint).items():
        assert dict(found[key]) == pytest.approx(dict(points), abs=1e-5), key


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_ends_in_a_run_like_an_undisturbed_one(
    launcher: RayLauncher, tmp_path: Path, workers: int
) -> None:
    given = setup.experiment("mean_teacher", budget=LONG, resources={"workers": workers})
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if list((tmp_path / "killed").glob("stages/*/checkpoints/last.pt")):
                found = [pid for pid, name in descendants(os.getpid()).items() if "RayTrainWorker" in name]
                if len(found) >= workers:
                    killed.append(found[-1])
                    os.kill(found[-1], signal.SIGKILL)
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=kill_one)
    watcher.start()
    log = setup.Log()
    try:
        there = setup.run(given, tmp_path / "killed", log, launcher)
    finally:
        watcher.join()
    assert killed
    assert "a worker died; start 2 goes on from the last checkpoint" in log.lines
    (said,) = [line for line in log.lines if line.startswith("resumed at step")]
    assert 0 < int(said.split()[3]) < 160
    straight = setup.run(given, tmp_path / "straight", launcher=launcher if workers == 2 else "inline")
    assert setup.difference(setup.weights(there), setup.weights(straight)) == 0
    assert setup.difference(setup.state(there), setup.state(straight)) == 0
    assert setup.values(there) == setup.values(straight)


@pytest.mark.slow
def test_a_killed_driver_goes_on_by_the_same_command_and_leaves_no_ray(tmp_path: Path) -> None:
    given, runs = setup.raw("cross_pseudo", budget={**LONG, "steps": 1000}), tmp_path / "runs"
    job = {"experiment": given, "runs": str(runs), "launcher": "ray"}
    process = setup.start(job, tmp_path)
    started: dict[int, str] = {}
    try:
        setup.wait_for(runs, "stages/*/checkpoints/last.pt", 1, process, 120)
        started = descendants(process.pid)
        assert any("raylet" in name for name in started.values())
    finally:
        process.kill()
        process.wait()
    killed = time.monotonic()
    try:
        assert not list(runs.glob("stages/*/done.json"))
        (folder,) = (runs / "runs").iterdir()
        while live_owner(folder) and time.monotonic() < killed + 60:  # a dead owner's lease ages
            time.sleep(0.5)
        again = setup.start(job, tmp_path)
        said, _ = again.communicate(timeout=240)
        assert again.returncode == 0, said
        # Two agents of Ray try for a minute to tell a control process, which died with the driver, of its death.
        while living(started) and time.monotonic() < killed + 150:
            time.sleep(0.5)
        assert living(started) == {}
    finally:
        for pid in living(started):
            os.kill(pid, signal.SIGKILL)
    assert (folder / "messages.txt").read_text().count("resumed at step") == 1
    there = setup.run(Experiment.model_validate(given), runs)  # skipped whole: reads what was made
    straight = setup.run(Experiment.model_validate(given), tmp_path / "straight")
    assert setup.difference(setup.weights(there), setup.weights(straight)) == 0
    assert setup.difference(setup.state(there), setup.state(straight)) == 0
    assert setup.values(there) == setup.values(straight)


@pytest.mark.slow
def test_a_killed_raylet_ends_with_a_message_and_the_run_goes_on(tmp_path: Path) -> None:
    given, runs, vital = setup.raw(budget={**LONG, "steps": 240}), tmp_path / "runs", "raylet/raylet"
    job = {"experiment": given, "runs": str(runs), "launcher": "ray"}
    process = setup.start(job, tmp_path)
    started: dict[int, str] = {}
    try:
        setup.wait_for(runs, "stages/*/checkpoints/last.pt", 1, process, 120)
        started = descendants(process.pid)
        (target,) = [pid for pid, name in started.items() if vital in name.split(" ")[0]]
        os.kill(target, signal.SIGKILL)
        said, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
        for pid in living(started):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode == 3, said
    message = said[said.index("LaunchError") :]
    assert "the embedded Ray has died" in message
    assert vital.split("/")[1] in message
    assert "goes on from the last checkpoint" in message
    (folder,) = (runs / "runs").iterdir()
    assert RunRecord(folder).read()["status"] == "failed"
    setup.age_leases(runs)  # of a worker that was killed here
    log = setup.Log()
    there = setup.run(Experiment.model_validate(given), runs, log)
    assert any(line.startswith("resumed at step") for line in log.lines)
    assert there.artefacts["train"].summary["steps"] == 240


def test_nothing_of_ray_is_left(launcher: RayLauncher) -> None:
    started = descendants(os.getpid())
    assert any("raylet" in name for name in started.values())
    launcher.close()
    assert living(started) == {}


def descendants(pid: int) -> dict[int, str]:
    """Command lines of the processes below one."""
    found: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one may end meanwhile
        for task in list(Path(f"/proc/{pid}/task").iterdir()):
            for child in map(int, (task / "children").read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= descendants(child)
    return found


def living(processes: dict[int, str]) -> dict[int, str]:
    """Those that still run: no zombies, and no other program that was given the number."""
    found = {}
    for pid, name in processes.items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if state != "Z" and ("ray" in now or now == name):
                found[pid] = name
    return found
