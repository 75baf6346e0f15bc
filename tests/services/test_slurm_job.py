"""The SLURM script where there is no SLURM: its Ray part on this machine, as two nodes.

`srun`, `scontrol`, `apptainer` and `hostname` are stand-ins that start the command they are given; everything else
is the script as it is: two raylets, the token, the wait for all nodes, the check of the shared folder, requeueing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ablation_processes as processes
import pytest
from ablation_setup import THIRDS, write
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import make_plan
from mriad.ablation.run import AblationOptions, run_ablation

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.ray]

SCRIPT = Path(__file__).resolve().parents[2] / "services" / "cluster" / "slurm" / "ablate.sbatch"
BUDGET = {"steps": 400, "validate_every": 100, "checkpoint_every": 20}
STAND_INS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "apptainer": 'shift; while [[ $1 == --* ]]; do [[ $1 == --bind ]] && shift; shift; done; shift; exec "$@"',
    "hostname": 'echo "$ADDRESS"',
    "scontrol": 'case $1 in show) tr , "\\n" <<<"$3" ;; requeue) echo "$2" >>"$REQUEUED" ;; esac',
}


def _own_address() -> str:
    """This machine's address as Ray sees it, asked elsewhere: tests of this process set what Ray reads on import."""
    asked = [sys.executable, "-c", "import ray; print(ray.util.get_node_ip_address())"]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120).stdout.split()[-1]


class Slurm:
    """What the scheduler does: starts the script with a job's environment, signals it."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.file, self.runs, self.said = file, folder / "runs", folder / "job.txt"
        self.requeued = folder / "requeued"
        self.seen: dict[int, str] = {}
        programs = folder / "bin"
        programs.mkdir()
        for name, body in STAND_INS.items():
            (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (programs / name).chmod(0o755)
        (folder / "mriad.sif").touch()
        path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))},
            "PATH": os.pathsep.join(path),
            "MRIAD_IMAGE": str(folder / "mriad.sif"),
            "MRIAD_RUNS": str(self.runs),
            "REQUEUED": str(self.requeued),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "n1,n2",
            "SLURM_CPUS_PER_TASK": "1",
            "ADDRESS": _own_address(),  # Ray joins no second node on loopback
        }

    def start(self, restarts: int) -> subprocess.Popen[bytes]:
        with self.said.open("ab") as said:
            return subprocess.Popen(
                ["bash", str(SCRIPT), str(self.file)],
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**self.environment, "SLURM_RESTART_COUNT": str(restarts)},
            )

    def reach(self, process: subprocess.Popen[bytes], finished: int) -> dict[int, str]:
        """Wait until so many trials have ended and one more trains; all processes of the job."""

        def there() -> bool:
            assert process.poll() is None, self.said.read_text()
            return processes.midway(self.runs, finished, 5)

        processes.wait_until(there, 240, "the middle of the ablation")
        found = processes.descendants(process.pid)
        self.seen |= found
        return found

    def end(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(300)
        except subprocess.TimeoutExpired:
            self.seen |= processes.descendants(process.pid)
            process.kill()
            process.wait()
            pytest.fail(f"it did not end:\n{self.said.read_text()}")


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    made = Slurm(tmp_path, write(tmp_path, folds=THIRDS, base={"budget": BUDGET}))
    yield made
    processes.kill(made.seen)


def test_requeued_at_the_time_limit_and_preempted_it_ends_the_same(slurm: Slurm, tmp_path: Path) -> None:
    process = slurm.start(0)
    started = slurm.reach(process, 1)
    assert sum("raylet/raylet" in name.split()[0] for name in started.values() if name) == 2
    (token,) = slurm.runs.glob("ray_token_*")
    assert token.stat().st_mode & 0o777 == 0o600
    process.send_signal(signal.SIGUSR1)  # the time limit is near
    assert slurm.end(process) == 0, slurm.said.read_text()
    assert slurm.requeued.read_text().split() == [slurm.environment["SLURM_JOB_ID"]]
    processes.wait_until(lambda: not processes.living(started), 90, "the job's Ray is gone")
    assert not token.exists()
    before = {r["id"]: r["ended"] for r in processes.trials(slurm.runs) if r["status"] == "finished"}
    assert 1 <= len(before) < 6

    process = slurm.start(1)
    started = slurm.reach(process, len(before) + 1)
    processes.kill({**started, process.pid: processes.command_line(process.pid)})  # preempted, without grace
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()

    assert slurm.end(slurm.start(2)) == 0, slurm.said.read_text()
    plan = make_plan(load_ablation(slurm.file))
    straight = run_ablation(plan, AblationOptions("inline", runs=tmp_path / "straight", tracking="off"))
    records = processes.trials(slurm.runs)
    assert sorted(record["id"] for record in records) == sorted(trial.id for trial in plan.trials)
    assert {record["status"] for record in records} == {"finished"}
    assert processes.tables(slurm.runs) == processes.tables(tmp_path / "straight")
    assert {r["id"]: r["ended"] for r in records if r["id"] in before} == before
    for line in straight.verdict:
        assert line in slurm.said.read_text()

    assert not Path(f"/tmp/mriad-{slurm.environment['SLURM_JOB_ID']}").exists()
    synced = subprocess.run(
        [sys.executable, "-m", "mriad", "sync", "--runs", str(slurm.runs)],
        capture_output=True,
        text=True,
        check=False,
        env=slurm.environment,
    )
    assert "7 of 7 runs had something to send" in synced.stdout, synced.stdout + synced.stderr
