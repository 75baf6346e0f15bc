"""The inline launcher, in this process and in local worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import launched_functions as functions
import pytest
import torch
from mriad.errors import DataError, LaunchError
from mriad.experiment.model import ResourcesSection
from mriad.launch import Lease, runs_root
from mriad.launch.inline import InlineLauncher
from mriad.launch.protocol import make_launcher


def launch(function, payload, folder: Path, reporter=None, **resources):
    return InlineLauncher().run(
        function,
        payload,
        resources=ResourcesSection(**resources),
        name="test",
        folder=folder,
        reporter=reporter or functions.Log(),
    )


def expected(steps: int) -> list[float]:
    value = 0.0
    for step in range(steps):
        value = 0.5 * value + sum(step + i for i in range(4)) / 4
    return [value] * 4


def test_runs_here_with_the_assigned_threads_and_gives_them_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    pid, _, threads = launch(functions.here, None, tmp_path, cpus=2)
    assert (pid, threads) == (os.getpid(), 2)
    assert torch.get_num_threads() == before
    used = json.loads((tmp_path / "launch.json").read_text())
    assert used["threads"] == 2
    assert used["workers"] == 1


def test_reports_and_resumes(tmp_path: Path) -> None:
    log = functions.Log()
    first = launch(functions.count, {"steps": 3}, tmp_path, log)
    second = launch(functions.count, {"steps": 5}, tmp_path, log)
    assert first["value"] == expected(3)
    assert (second["start"], second["value"]) == (3, expected(5))
    assert [step for step, _ in log.values] == [1, 2, 3, 4, 5]
    assert log.steps[-1] == (5, 5)


def test_two_local_processes_give_the_same_numbers(tmp_path: Path) -> None:
    log = functions.Log()
    result = launch(functions.count, {"steps": 3}, tmp_path, log, workers=2)
    assert result["world"] == 2
    assert result["value"] == expected(3)
    assert [step for step, _ in log.values] == [1, 2, 3]
    assert log.steps[-1] == (3, 3)
    assert log.messages[-1] == "counted from 0 to 3"


def test_a_refusal_in_one_process_arrives_whole_and_stops_the_others(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        launch(functions.refuse, "p1_T2w", tmp_path, workers=2)
    assert caught.value.where == {"case": "p1_T2w"}
    assert "mriad doctor" in str(caught.value)
    assert "in refuse" in str(caught.value.__cause__)


def test_a_killed_process_is_named_and_the_next_start_resumes(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="worker 1 of 2 died") as caught:
        launch(functions.count, {"steps": 4, "die_at": 2}, tmp_path, workers=2)
    assert "signal 9" in str(caught.value)
    assert "goes on from its last checkpoint" in str(caught.value)
    result = launch(functions.count, {"steps": 4, "die_at": 2}, tmp_path, workers=2)
    assert result["start"] == 2
    assert result["value"] == expected(4)


def test_workers_end_with_a_killed_driver(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import launched_functions as f\n"
        "from pathlib import Path\n"
        "from mriad.experiment.model import ResourcesSection\n"
        "from mriad.launch.inline import InlineLauncher\n"
        "InlineLauncher().run(f.count, {'steps': 10**6, 'sleep': 0.05}, name='x', reporter=f.Log(),\n"
        "    folder=Path(sys.argv[2]), resources=ResourcesSection(workers=2))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)])
    try:
        assert _until(lambda: (tmp_path / "reports.jsonl").exists())
        workers = _children(driver.pid)
        assert len(workers) == 2
    finally:
        driver.kill()
        driver.wait()
    assert _until(lambda: not any(_alive(pid) for pid in workers))


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from mriad.launch.lease import Lease\n"
            "with Lease(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(LaunchError, match="in use by another process") as caught:
            launch(functions.here, None, tmp_path)
        assert f"process {holder.pid} on " in str(caught.value)
    finally:
        holder.communicate()
    launch(functions.here, None, tmp_path)


def test_a_lease_held_by_the_caller_is_used(tmp_path: Path) -> None:
    with Lease(tmp_path):
        launch(functions.here, None, tmp_path)


def test_gpus_that_are_not_here(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(LaunchError, match=r"resources\.gpus=0"):
        launch(functions.here, None, tmp_path, gpus=1)


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(LaunchError, match="must be an absolute path"):
        launch(functions.here, None, Path("runs/x"))


def test_an_unknown_launcher(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="inline or ray"):
        make_launcher("slurm", runs_root(tmp_path))  # type: ignore[arg-type]


def _until(condition, seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _children(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in text.split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
