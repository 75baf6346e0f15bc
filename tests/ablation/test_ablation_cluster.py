"""The headline use: a head with token authentication, `ray job submit … -- mriad ablate`, a tracking server.

Everything listens on loopback, lies in a temporary folder and is ended by process number.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ablation_processes as processes
import pytest
from ablation_setup import PACED, THIRDS, write
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import make_plan
from mriad.ablation.run import AblationOptions, run_ablation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PROGRAMS = Path(sys.executable).parent
PATIENCE_S = 300


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(
    command: Sequence[str], said: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A service in a process group of its own; it and all it started are gone afterwards, by number."""
    with said.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        started = {**processes.descendants(process.pid), process.pid: processes.command_line(process.pid)}
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with contextlib.suppress(AssertionError):
            processes.wait_until(lambda: not processes.living(started), 10, "all of it is gone")
        processes.kill(started)
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).read()
    except urllib.error.HTTPError:
        return True  # it asks for the token
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Cluster:
    """A head and a tracking server on this machine."""

    head: int
    api: str
    tracking: str
    environment: dict[str, str]

    def call(self, *words: str, check: bool = True, **environment: str) -> str:
        """`ray job …` as a user types it, in the environment that the documentation names."""
        done = subprocess.run(
            [str(PROGRAMS / "ray"), "job", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={**self.environment, "RAY_API_SERVER_ADDRESS": self.api, **environment},
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        return said

    def drivers(self) -> dict[int, str]:
        """`mriad ablate` among the head's processes; not the shell that runs it."""
        found = processes.descendants(self.head)
        return {
            pid: name
            for pid, name in found.items()
            if " ablate " in name and "python" in name.split()[0] and "-c" not in name.split()[1:2]
        }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    # A socket's path holds about a hundred characters, and Ray's own part of it takes most.
    short = Path(tempfile.mkdtemp(prefix="mriad-"))
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("RAY_ADDRESS", "MLFLOW_"))},
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",  # jobs find `mriad` on the head's PATH
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray looks for an outside address of this machine
    }
    gcs, dashboard, client, metrics, listen, grpc, runtime, served = free_ports(8)
    head = [str(PROGRAMS / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    head += ["--node-ip-address", "127.0.0.1", "--port", str(gcs), "--temp-dir", str(short)]
    head += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)]
    head += ["--num-cpus", "2", "--object-store-memory", str(100 * 2**20)]
    head += ["--ray-client-server-port", str(client), "--metrics-export-port", str(metrics)]
    head += ["--dashboard-agent-listen-port", str(listen), "--dashboard-agent-grpc-port", str(grpc)]
    head += ["--runtime-env-agent-port", str(runtime)]
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(served)]
    server += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    server += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    try:
        with (
            running(server, folder / "server.txt", quiet),
            running(head, folder / "head.txt", environment) as process,
        ):
            made = Cluster(
                process.pid, f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{served}", environment
            )
            processes.wait_until(lambda: answers(f"{made.tracking}/health"), 120, "the tracking server")
            processes.wait_until(lambda: answers(f"{made.api}/api/version"), 120, "the head's dashboard")
            yield made
            started = processes.descendants(process.pid)
        assert not processes.living(started)
    finally:
        shutil.rmtree(short, ignore_errors=True)


def test_without_the_token_nothing_is_run(cluster: Cluster) -> None:
    said = cluster.call("list", check=False, RAY_AUTH_TOKEN_PATH="", RAY_AUTH_TOKEN="not-it")
    assert "401" in said or "403" in said or "nvalid" in said
    assert "SubmissionInfo" not in said


def test_submitted_killed_submitted_again(cluster: Cluster, tmp_path: Path) -> None:
    work, runs = tmp_path / "work", tmp_path / "runs"
    work.mkdir()
    file = write(work, folds=THIRDS, base=PACED)
    submit = ["submit", "--working-dir", str(work)]
    ablate = ["mriad", "ablate", "study.yaml", "--runs", str(runs), "--tracking", cluster.tracking]

    cluster.call(*submit, "--no-wait", "--submission-id", "first", "--", *ablate)

    asked = [time.monotonic()]

    def there() -> bool:
        if time.monotonic() > asked[0] + 20:  # asking takes seconds, in which the middle could pass by unseen
            assert "failed" not in (said := status(cluster, "first")), said
            asked[0] = time.monotonic()
        return processes.midway(runs, least=1, most=3) and bool(processes.trainers(runs))

    processes.wait_until(there, PATIENCE_S, "the middle of the ablation")
    drivers = cluster.drivers()
    assert len(drivers) == 1, drivers
    processes.kill(drivers)
    processes.wait_until(lambda: "failed" in status(cluster, "first"), 90, "the job has failed")
    finished = {r["id"]: r["ended"] for r in processes.trials(runs) if r["status"] == "finished"}
    assert 1 <= len(finished) < 6

    said = cluster.call(*submit, "--submission-id", "second", "--", *ablate)
    assert "succeeded" in said

    plan = make_plan(load_ablation(file))
    straight = run_ablation(plan, AblationOptions("inline", runs=tmp_path / "straight", tracking="off"))
    records = processes.trials(runs)
    assert sorted(record["id"] for record in records) == sorted(trial.id for trial in plan.trials)
    assert {record["status"] for record in records} == {"finished"}
    assert processes.tables(runs) == processes.tables(tmp_path / "straight")
    assert {r["id"]: r["ended"] for r in records if r["id"] in finished} == finished
    for line in straight.verdict:
        assert line in said
        assert line in cluster.call("logs", "second")
    for record in records:
        assert record["launch"]["launcher"] == "inline"  # in Tune's own process: one worker, no GPU
    read_back(cluster, plan.id, {trial.id: trial.variant for trial in plan.trials}, straight.study)


def status(cluster: Cluster, name: str) -> str:
    return cluster.call("status", name).lower()


def read_back(cluster: Cluster, parent_id: str, trials: dict[str, str], study: Any) -> None:
    """One parent, six children once each, with the numbers of the undisturbed run."""
    from mlflow import MlflowClient

    client = MlflowClient(cluster.tracking)
    (experiment,) = [e for e in client.search_experiments() if e.name == "study"]
    found = client.search_runs([experiment.experiment_id])
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId")]
    (parent,) = [run for run in found if run not in children]
    assert parent.data.tags["mriad.id"] == parent_id
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["mriad.id"]: run.data.tags["variant"] for run in children} == trials
    assert len(children) == len(trials) == 6
    assert Counter(run.info.status for run in children) == {"FINISHED": 6}
    assert parent.data.metrics["ablation/finished"] == 6
    expected = {trial.id: trial.record()["summary"] for trial in study.finished}
    for run in children:
        for key, value in expected[run.data.tags["mriad.id"]].items():
            if key.startswith("test/"):
                assert run.data.metrics[key] == pytest.approx(value), json.dumps(run.data.metrics)
