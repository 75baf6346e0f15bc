"""kill -9 of a trial's process, of the driver and of the whole embedded Ray: the same command ends with the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ablation_processes as processes
import pytest
from ablation_setup import PACED, THIRDS, write
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import Plan, make_plan
from mriad.ablation.run import AblationOptions, Outcome, run_ablation
from mriad.launch.lease import live_owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PATIENCE_S = 240


@dataclass(frozen=True)
class Straight:
    """What nobody disturbed, in one process."""

    plan: Plan
    outcome: Outcome
    file: Path
    tables: dict[str, str]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder = tmp_path_factory.mktemp("straight")
    file = write(folder, folds=THIRDS, base=PACED)
    plan = make_plan(load_ablation(file))
    outcome = run_ablation(plan, AblationOptions("inline", runs=folder / "runs", tracking="off"))
    return Straight(plan, outcome, file, processes.tables(folder / "runs"))


@dataclass
class Command:
    """`mriad ablate` in a process of its own, its output in a file."""

    file: Path
    runs: Path

    def __post_init__(self) -> None:
        self.said = self.runs.with_suffix(".txt")
        self.seen: dict[int, str] = {}

    def start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "mriad", "ablate", str(self.file)]
        with self.said.open("ab") as said:
            return subprocess.Popen(
                [*words, "--runs", str(self.runs), "--tracking", "off"],
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=self.runs.parent,
            )

    def reach_midway(self, process: subprocess.Popen[bytes]) -> dict[int, str]:
        """Wait until some trials have ended and others train; return all that the command has started."""

        def there() -> bool:
            assert process.poll() is None, self.said.read_text()
            # In its steps, not on its way into or out of them: what dies there was started once more.
            return processes.midway(self.runs, least=1, most=3) and bool(processes.trainers(self.runs))

        processes.wait_until(there, PATIENCE_S, "the middle of the ablation")
        found = processes.descendants(process.pid)
        self.seen |= found
        return found

    def training(self, pid: int) -> dict[int, str]:
        """Tune's processes: Ray shows what they run in their command line."""
        found = processes.descendants(pid)
        return {p: n for p, n in found.items() if n.startswith("ray::ImplicitFunc")}

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the command; its exit code."""
        try:
            code = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.seen |= processes.descendants(process.pid)
            process.kill()
            process.wait()
            pytest.fail(f"it did not end:\n{self.said.read_text()}")
        return code


@pytest.fixture
def command(straight: Straight, tmp_path: Path) -> Iterator[Command]:
    given = Command(straight.file, tmp_path / "runs")
    yield given
    processes.kill(given.seen)  # whatever a failed test left


def same_as(straight: Straight, runs: Path, said: str) -> list[dict[str, Any]]:
    """Exactly the trials that were asked for, once each, with the numbers of the undisturbed run."""
    records = processes.trials(runs)
    assert sorted(record["id"] for record in records) == sorted(trial.id for trial in straight.plan.trials)
    assert {record["status"] for record in records} == {"finished"}
    assert processes.tables(runs) == straight.tables
    assert len(straight.tables) == 6
    for line in straight.outcome.verdict:
        assert line in said
    return records


def test_a_killed_trial_is_started_again_within_the_run(straight: Straight, command: Command) -> None:
    process = command.start()
    command.reach_midway(process)

    def victims() -> dict[int, str]:
        assert process.poll() is None, command.said.read_text()
        return processes.trainers(command.runs)

    victim, trial = next(
        iter(processes.wait_until(victims, 60, "a trial in the middle of its steps").items())
    )
    processes.kill({victim: command.training(process.pid)[victim]})
    assert command.end(process) == 0, command.said.read_text()
    records = same_as(straight, command.runs, command.said.read_text())
    assert [record["id"] for record in records if record["starts"] == 2] == [trial]


def test_a_killed_driver_goes_on_by_the_same_command(straight: Straight, command: Command) -> None:
    process = command.start()
    started = command.reach_midway(process)
    assert any("raylet" in name for name in started.values())
    process.kill()
    process.wait()
    finished = {r["id"]: r["ended"] for r in processes.trials(command.runs) if r["status"] == "finished"}
    assert 1 <= len(finished) < 6
    assert command.end(command.start()) == 0, command.said.read_text()
    records = same_as(straight, command.runs, command.said.read_text())
    again = {r["id"]: r["ended"] for r in records if r["id"] in finished}
    assert again == finished  # what had ended was not touched
    assert max(record["starts"] for record in records) == 2
    # Two agents of Ray try for a minute to tell a control process, which died with the driver, of its death.
    processes.wait_until(lambda: not processes.living(started), 150, "the first Ray is gone")


def test_a_killed_raylet_ends_the_command_by_a_message(straight: Straight, command: Command) -> None:
    """Half of Ray is gone: its control service answers, and nothing can run. It must not wait for ever."""
    process = command.start()
    started = command.reach_midway(process)
    raylets = {pid: name for pid, name in started.items() if "raylet/raylet" in name.split()[0]}
    assert len(raylets) == 1
    processes.kill(raylets)
    assert command.end(process) == 1
    said = command.said.read_text()
    assert "the embedded Ray has died" in said
    assert "run the same command again" in said
    assert command.end(command.start()) == 0, command.said.read_text()
    same_as(straight, command.runs, command.said.read_text())
    processes.wait_until(lambda: not processes.living(started), 150, "the first Ray is gone")


def test_a_killed_ray_ends_the_command_and_the_same_goes_on(straight: Straight, command: Command) -> None:
    process = command.start()
    started = command.reach_midway(process)
    assert any("gcs_server" in name for name in started.values())
    processes.kill(started)
    assert command.end(process) != 0
    assert "the embedded Ray has died" in command.said.read_text()
    # Who was killed left leases; the same command waits until they are stale.
    assert [folder for folder in (command.runs / "runs").iterdir() if live_owner(folder)]
    assert command.end(command.start()) == 0, command.said.read_text()
    same_as(straight, command.runs, command.said.read_text())
    assert not processes.living(started)
