"""`mriad train` against an MLflow server over HTTP, which goes away in mid-run; `mriad sync` sends the rest later."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import trial_setup as setup
import yaml
from mriad.cli import main
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


class Server:
    """An MLflow server on loopback in a process group of its own; it can go and come back with what it stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.txt").open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        until = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.txt").read_text()
            assert time.monotonic() < until, "the tracking server did not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200)
        return False

    def kill(self) -> None:
        """SIGKILL to the group that was started here: nothing is said to those who are connected."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def train(
    tmp_path: Path, server: Server, name: str, steps: int, *more: str, pause: float = 0
) -> tuple[int, RunRecord]:
    """Train with every batch `pause` seconds late."""
    path = tmp_path / f"{name}.yaml"
    budget = {"steps": steps, "validate_every": 20, "checkpoint_every": 20}
    augment = [{"type": "shapes.pause", "seconds": pause}] if pause else []
    path.write_text(yaml.safe_dump(setup.raw("mean_teacher", budget=budget, name=name, augment=augment)))
    runs = tmp_path / "runs"
    with pytest.raises(SystemExit) as caught:
        main(["train", str(path), "--runs", str(runs), "--tracking", server.uri, *more])
    (folder,) = (runs / "runs").glob(f"{name}-*")
    return int(caught.value.code or 0), RunRecord(folder)


def tracked(server: Server, record: RunRecord) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The one run of a record on the server, with the history of every key."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    known = record.read()
    experiment = client.get_experiment_by_name(known["study"])
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mriad.id` = '{known['id']}'")
    histories = {
        key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
    }
    return run, histories


def same(record: RunRecord, histories: dict[str, list[tuple[int, float]]]) -> None:
    local = record.history()
    assert histories.keys() == local.keys()
    for key, points in local.items():
        assert dict(histories[key]) == pytest.approx(dict(points), nan_ok=True), key


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(tmp_path)
    killed: list[float] = []

    def kill_in_mid_run() -> None:
        until = time.monotonic() + 240
        while time.monotonic() < until:
            for note in (tmp_path / "runs" / "runs").glob("cut-*/sent.json"):
                with contextlib.suppress(OSError, ValueError):  # being written
                    if any(store["offset"] > 0 for store in json.loads(note.read_text()).values()):
                        server.kill()
                        killed.append(time.time())
                        return
            time.sleep(0.02)

    try:
        server.start()
        # All of a run arrives, pictures and table included.
        code, whole = train(tmp_path, server, "whole", 20)
        assert code == 0
        run, histories = tracked(server, whole)
        assert run.info.status == "FINISHED"
        same(whole, histories)
        from mlflow import MlflowClient

        files = {a.path for a in MlflowClient(server.uri).list_artifacts(run.info.run_id)}
        assert {"experiment.yaml", "run.json", "cases.csv"} <= files
        said = capsys.readouterr()
        assert "cannot be reached" not in said.err
        assert "View run" not in said.out  # MLflow's own lines
        assert f"next: mriad ui --tracking {server.uri}" in said.err

        watcher = threading.Thread(target=kill_in_mid_run)
        watcher.start()
        # Some seconds long: a sender that starts slowly still sends in mid-run.
        code, cut = train(tmp_path, server, "cut", 160, pause=0.03)
        watcher.join()
        said = capsys.readouterr()
        assert code == 0  # tracking takes no run down
        assert killed
        known = cut.read()
        assert known["status"] == "finished"
        rows, size = cut.rows()
        assert rows[-1].time > killed[0]  # it died in mid-run
        assert (said.out + said.err).count("cannot be reached") == 1
        assert "mriad sync" in said.out + said.err
        (note,) = json.loads((cut.folder / "sent.json").read_text()).values()
        assert 0 < note["offset"] < size

        server.start()
        _, partial = tracked(server, cut)
        assert sum(map(len, partial.values())) < sum(map(len, cut.history().values()))
        for attempt in ("1 of 2 runs had something to send", "0 of 2 runs had something to send"):
            with pytest.raises(SystemExit) as caught:
                main(["sync", "--tracking", server.uri, "--runs", str(tmp_path / "runs")])
            assert not caught.value.code
            assert attempt in capsys.readouterr().out
            run, histories = tracked(server, cut)
            assert run.info.status == "FINISHED"
            same(cut, histories)
    finally:
        server.kill()
