"""`mriad runs`, `mriad sync` and `mriad ui`, as a person uses them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from mriad.cli import main
from mriad.launch import Lease, runs_root
from mriad.tracking.privacy import public_names
from mriad.tracking.record import JsonlReporter, RunRecord
from mriad.vocabulary import Case

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.launch.files import RunsRoot


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunsRoot:
    monkeypatch.setenv("MRIAD_RUNS", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return runs_root()


def run_of(root: RunsRoot, name: str, digit: str, stages: tuple[str, ...] = (), days: float = 0) -> RunRecord:
    """A run with stages of 1000 bytes each, started some days ago."""
    identity = digit * 64
    record = RunRecord.start(root.run(name, identity), id=identity, name=name)
    rows = [{"name": "train", "kind": "predictor", "fingerprint": mark * 64} for mark in stages]
    (record.folder / "stages.json").write_text(json.dumps(rows))
    for mark in stages:
        folder = root.stage("train", mark * 64)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_bytes(b"x" * 1000)
    record.update(started=time.time() - days * 86400)
    return record


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def names(root: RunsRoot) -> set[str]:
    return {p.name for part in (root.runs, root.stages) if part.is_dir() for p in part.iterdir()}


def test_list_shows_each_run_and_what_is_next(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_of(root, "soft", "a", ("1",), days=3)
    done.append(1, {"val/dice/cord": 0.8, "compute/steps": 120})
    done.finish({"test/dice/cord": 0.9123, "test/dice/cord/misses": 0})
    killed = run_of(root, "hard", "b", ("1", "2"))
    JsonlReporter(killed).progress(7, 7)
    killed.append(7, {"train/loss": 0.25})
    assert call("runs", "list") == 0
    out, err = capsys.readouterr()
    _, hard, soft = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert hard[:4] == ["hard-bbbbbbbbbbbb", "stopped", "0 min", "7/7"]
    assert hard[5] == "train/loss 0.25"
    assert soft[:4] == ["soft-aaaaaaaaaaaa", "finished", "3 days", "120"]
    assert soft[5] == "test/dice/cord 0.9123"
    assert "mriad resume RUN" in err
    assert call("runs", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["stopped", "finished"]
    assert rows[1]["stages"] == ["train-111111111111"]
    assert rows[1]["bytes"] > 1000


def test_a_held_run_is_running(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    record = run_of(root, "soft", "a")
    with Lease(record.folder):
        call("runs", "list")
        assert "running" in capsys.readouterr().out
        assert call("runs", "prune", "--yes") == 0
        assert call("runs", "prune", "soft-aaaaaaaaaaaa", "--yes") == 1
        assert "is running" in capsys.readouterr().err
    assert record.folder.exists()


def test_an_empty_place(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs", "list") == 0
    assert call("runs", "size") == 0
    assert call("runs", "prune") == 0
    assert call("sync") == 0
    assert "no runs in" in capsys.readouterr().out
    assert call("ui", "--no-browser") == 1
    assert "nothing has been tracked here yet" in capsys.readouterr().err


def test_size_adds_up(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(root, "soft", "a", ("1", "2"))
    (root.path / "store").mkdir()
    (root.path / "store" / "x").write_bytes(b"x" * 5 * 1024**2)
    assert call("runs", "size") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["5.0", "MiB", "store"]
    assert any(line.split() == ["2.0", "KiB", "stages"] for line in lines)
    assert "in all" in lines[-1]


def test_prune_removes_what_did_not_finish_and_stages_of_nobody(
    root: RunsRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(root, "kept", "a", ("1",)).finish()
    run_of(root, "failed", "b", ("1", "2")).fail(ValueError("a bug"))
    run_of(root, "killed", "c", ("3",))
    root.stage("fit", "4" * 64).mkdir()
    before = names(root)
    assert call("runs", "prune", "--dry-run") == 0
    out = capsys.readouterr().out
    assert names(root) == before
    for gone in ("failed-bbb", "killed-ccc", "train-222", "train-333", "fit-444"):
        assert gone in out
    assert "train-111" not in out
    assert call("runs", "prune", "--yes") == 0
    assert names(root) == {"kept-aaaaaaaaaaaa", "train-111111111111"}
    assert call("runs", "prune") == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_prune_asks(root: RunsRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(root, "failed", "b").fail(ValueError("a bug"))
    monkeypatch.setattr("typer.confirm", lambda text, abort: (_ for _ in ()).throw(SystemExit(1)))
    assert call("runs", "prune") == 1
    assert names(root) == {"failed-bbbbbbbbbbbb"}


def test_prune_by_age_and_by_name(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    for name, digit, days in (("old", "a", 40), ("new", "b", 1), ("other", "c", 1)):
        run_of(root, name, digit, (digit,), days=days).finish()
    assert call("runs", "prune", "--older-than", "30", "--yes") == 0
    assert {name.split("-")[0] for name in names(root)} == {"new", "other", "train"}
    assert call("runs", "prune", "nothing", "--yes") == 1
    assert "there is no run 'nothing'" in capsys.readouterr().err
    assert call("runs", "prune", "other-cccccccccccc", "--yes") == 0
    assert names(root) == {"new-bbbbbbbbbbbb", "train-bbbbbbbbbbbb"}


def test_sync_sends_all_once(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    for name, digit in (("soft", "a"), ("hard", "b")):
        record = run_of(root, name, digit)
        record.append(1, {"train/loss": 1.0})
        record.finish()
    assert call("sync", "soft-aaaaaaaaaaaa") == 0
    assert "1 of 1 runs had something to send" in capsys.readouterr().out
    assert call("sync") == 0
    assert "1 of 2 runs had something to send" in capsys.readouterr().out
    assert call("sync", "nobody") == 1
    assert "there is no run 'nobody'" in capsys.readouterr().err


def test_sync_to_a_server_that_is_not_there(
    root: RunsRoot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run_of(root, "soft", "a").finish()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert call("sync", "--tracking", f"http://127.0.0.1:{taken.getsockname()[1]}") == 1
    err = capsys.readouterr().err
    assert "tracking store cannot be opened" in err
    assert "nothing is lost" in err


def test_ui_refuses_a_taken_port(root: RunsRoot, capsys: pytest.CaptureFixture[str]) -> None:
    root.tracking.mkdir()
    (root.tracking / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert call("ui", "--no-browser", "--port", str(taken.getsockname()[1])) == 1
    assert "is taken" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ui_serves_on_loopback_and_leaves_nothing(root: RunsRoot, number: signal.Signals) -> None:
    run_of(root, "soft", "a").finish()
    call("sync")
    command = [sys.executable, "-c", "from mriad.cli import main; main()", "ui", "--no-browser"]
    ui = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert ui.stdout is not None
    ui.stdout.readline()
    url = ui.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{url}/health") as answer:
        assert answer.status == 200
    ui.send_signal(number)
    out, _ = ui.communicate(timeout=120)
    assert out.endswith("ended\n")
    assert ui.returncode == 0
    with pytest.raises(OSError, match="refused"):
        direct.open(f"{url}/health")


class TestWhois:
    def test_it_names_the_person(self, root, capsys):
        public = public_names(root, [Case("scan-7", "anna", {})])
        assert call("runs", "whois", public.of("anna")) == 0
        assert call("runs", "whois", public.of("scan-7")) == 0
        assert capsys.readouterr().out.split() == ["anna", "scan-7"]

    def test_an_unknown_name_says_where_it_looked(self, root, capsys):
        assert call("runs", "whois", "p-0000000000") == 1
        told = capsys.readouterr().err
        assert str(root.path) in told
        assert "--runs" in told
