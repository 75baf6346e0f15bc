"""From the record to an MLflow store: everything, once, and never in a run's way."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mriad.errors import TrackingError
from mriad.launch import runs_root
from mriad.tracking.address import public, tracking_uri
from mriad.tracking.mlflow_store import MlflowStore, flatten
from mriad.tracking.record import JsonlReporter, RunRecord
from mriad.tracking.sender import Sender, is_sent, send, sync

if TYPE_CHECKING:
    from collections.abc import Iterator

_ids = iter(range(10**6))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One store for all tests: MLflow takes seconds to make one."""
    return tracking_uri(
        runs_root(tmp_path_factory.mktemp("runs")), f"{tmp_path_factory.mktemp('t')}/mlflow.db"
    )


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return start(tmp_path / "run")


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A server's address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def start(folder: Path, id: str = "", **facts: Any) -> RunRecord:
    given = {
        "name": "soft",
        "experiment": {"budget": {"steps": 3}, "augment": [{"type": "standard.flip"}]},
        "yaml": "budget: {steps: 3}\n",
        "tags": {"variant": "soft", "fold": "1"},
        "data": {"fingerprint": "cd" * 32, "name": "phantom"},
    }
    return RunRecord.start(folder, id=id or f"{next(_ids):064x}", **{**given, **facts})


def client(uri: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


def tracked(uri: str, record: RunRecord) -> Any:
    """The one run of a record in the store."""
    known = record.read()
    experiment = client(uri).get_experiment_by_name(known["study"])
    found = client(uri).search_runs([experiment.experiment_id], f"tags.`mriad.id` = '{known['id']}'")
    assert len(found) == 1
    return found[0]


def points(uri: str, record: RunRecord, key: str) -> list[tuple[int, float]]:
    run = tracked(uri, record)
    return sorted((m.step, m.value) for m in client(uri).get_metric_history(run.info.run_id, key))


def test_everything_arrives_under_the_same_names(uri: str, record: RunRecord) -> None:
    for step in (1, 2, 3):
        record.append(step, {"train/loss": 1 / step, "val/dice/cord": 0.5})
    (record.folder / "cases.csv").write_text("case,value\np1,0.5\n")
    (record.folder / "figures").mkdir()
    (record.folder / "figures" / "curves.png").write_bytes(b"\x89PNG")
    record.finish({"test/dice/cord": 0.5})
    assert send(record, MlflowStore(uri))
    run = tracked(uri, record)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "soft"
    assert run.data.params == {"budget.steps": "3", "augment.0.type": "standard.flip"}
    assert points(uri, record, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.tags["variant"] == "soft"
    assert run.data.tags["version.torch"] == record.read()["versions"]["torch"]
    assert run.data.tags["data.fingerprint"] == "cd" * 32
    assert run.inputs.dataset_inputs[0].dataset.digest == ("cd" * 32)[:36]
    files = {a.path for a in client(uri).list_artifacts(run.info.run_id)}
    assert files == {"experiment.yaml", "run.json", "cases.csv", "figures"}
    place = Path(client(uri).get_experiment(run.info.experiment_id).artifact_location.removeprefix("file://"))
    assert place == Path(uri.removeprefix("sqlite:///")).parent / "artifacts"
    assert is_sent(record, uri)


def test_sending_again_changes_nothing_even_when_the_note_was_lost(uri: str, record: RunRecord) -> None:
    for step in range(1, 30):
        record.append(step, {"train/loss": float(step)})
    record.finish()
    assert send(record, MlflowStore(uri))
    assert not send(record, MlflowStore(uri))
    before = points(uri, record, "train/loss")
    (record.folder / "sent.json").unlink()  # killed between sending and noting
    send(record, MlflowStore(uri))
    assert points(uri, record, "train/loss") == before == [(s, float(s)) for s in range(1, 30)]


def test_steps_repeated_after_a_restart_are_sent_once(uri: str, record: RunRecord) -> None:
    store = MlflowStore(uri)
    for step in (1, 2, 3):
        record.append(step, {"train/loss": float(step)})
    record.fail(KeyboardInterrupt())
    send(record, store)
    assert tracked(uri, record).info.status == "KILLED"
    again = start(record.folder, id=record.read()["id"])
    for step in (3, 4):  # from the checkpoint at step 2
        again.append(step, {"train/loss": float(step)})
    send(again, store)
    assert tracked(uri, record).info.status == "RUNNING"
    again.finish()
    send(again, store)
    assert tracked(uri, record).info.status == "FINISHED"
    assert points(uri, record, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_children_hang_under_their_parent_in_any_order(uri: str, tmp_path: Path) -> None:
    parent = start(tmp_path / "parent", name="contrasts", kind="ablation", study="study of contrasts")
    child = start(tmp_path / "child", parent=parent)
    for record in (child, parent):  # the child first
        record.finish()
        send(record, MlflowStore(uri))
    above = tracked(uri, parent)
    assert tracked(uri, child).data.tags["mlflow.parentRunId"] == above.info.run_id
    assert above.data.tags["mriad.kind"] == "ablation"
    assert above.info.run_name == "contrasts"


def test_a_run_deleted_in_the_ui_is_sent_anew(uri: str, record: RunRecord) -> None:
    record.append(1, {"train/loss": 1.0})
    record.finish()
    send(record, MlflowStore(uri))
    client(uri).delete_run(tracked(uri, record).info.run_id)
    assert send(record, MlflowStore(uri))
    assert points(uri, record, "train/loss") == [(1, 1.0)]


def test_a_failure_is_told(uri: str, record: RunRecord) -> None:
    with pytest.raises(ValueError, match="a bug"), record, Sender(record, uri, pytest.fail):
        raise ValueError("a bug")
    run = tracked(uri, record)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "a bug"


def test_a_run_under_load_is_never_held_up(uri: str, record: RunRecord) -> None:
    reporter = JsonlReporter(record)
    MlflowStore(uri).open()
    took = []
    with Sender(record, uri, pytest.fail, period_s=0.05):
        for step in range(1, 1501):
            began = time.perf_counter()
            reporter.log(step, {f"train/{i}": float(step) for i in range(4)})
            took.append(time.perf_counter() - began)
        record.finish()
    assert sorted(took)[len(took) // 2] < 0.002
    assert len(points(uri, record, "train/3")) == 1500


def test_a_slow_store_is_not_waited_for(record: RunRecord, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the store takes 0.3 s; the run's 200 reports do not notice."""
    slow = MlflowStore.send_metrics

    def wait(self: MlflowStore, *arguments: Any) -> None:
        time.sleep(0.3)
        slow(self, *arguments)

    monkeypatch.setattr(MlflowStore, "send_metrics", wait)
    reporter = JsonlReporter(record)
    with Sender(record, uri, pytest.fail, period_s=0.01):
        began = time.perf_counter()
        for step in range(1, 201):
            reporter.log(step, {"train/loss": float(step)})
        took = time.perf_counter() - began
        record.finish()
    assert took < 0.3
    assert len(points(uri, record, "train/loss")) == 200


def test_an_unreachable_server_is_said_once_and_sync_delivers_later(
    record: RunRecord, uri: str, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    reporter = JsonlReporter(record)
    with Sender(record, nowhere, said.append, period_s=0.05) as sender:
        for step in range(1, 21):
            reporter.log(step, {"train/loss": float(step)})
            time.sleep(0.02)
        until = time.monotonic() + 30
        while not said and time.monotonic() < until:
            time.sleep(0.02)
        record.finish()
    assert not sender.delivered
    assert len(said) == 1
    assert nowhere in said[0]
    assert str(record.folder) in said[0]
    assert "`mriad sync` sends it later" in said[0]
    assert not is_sent(record, nowhere)
    with pytest.raises(TrackingError, match="tracking store cannot be opened") as caught:
        sync([record], nowhere)
    assert "nothing is lost" in str(caught.value)
    told: list[str] = []
    assert sync([record], uri, told=told.append) == 1
    assert sync([record], uri, told=told.append) == 0
    assert points(uri, record, "train/loss") == [(s, float(s)) for s in range(1, 21)]
    assert told[0].startswith("run: sent")


def test_a_store_whose_place_cannot_be_written(record: RunRecord, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    with Sender(record, f"sqlite:///{tmp_path}/file/mlflow.db", said.append, period_s=0.05):
        record.append(1, {"train/loss": 1.0})
    assert len(said) == 1
    assert "is a file" in said[0] or "below a folder" in said[0]
    assert len(record.rows()[0]) == 1


def test_live_runs_are_left_to_their_own_sender(uri: str, record: RunRecord) -> None:
    told: list[str] = []
    assert sync([record], uri, skip=lambda folder: True, told=told.append) == 0
    assert told == ["run: running, it sends itself"]


def test_an_experiment_becomes_parameters_within_limits() -> None:
    found = flatten(
        {
            "model": {"features": [32, 64], "deep": True, "none": None, "empty": {}},
            "data": {"preprocessing": [{"type": "data.orient"}, {"type": "data.crop", "size": [1, 2]}]},
            "odd (left)": "ä" * 7000,
            "//x/": 1e-4,
        }
    )
    assert found["model.features"] == "[32, 64]"
    assert found["model.deep"] == "true"
    assert found["model.none"] == "null"
    assert found["model.empty"] == "{}"
    assert found["data.preprocessing.1.type"] == "data.crop"
    assert found["data.preprocessing.1.size"] == "[1, 2]"
    assert len(found["odd _left_"]) == 6000
    assert found["odd _left_"].endswith("…")
    assert found["x"] == "0.0001"


def test_which_store_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    root = runs_root("mriad-runs")
    assert tracking_uri(root) == f"sqlite:///{tmp_path}/mriad-runs/tracking/mlflow.db"
    assert tracking_uri(root, "my.db") == f"sqlite:///{tmp_path}/my.db"
    assert tracking_uri(root, "sqlite:///my.db") == f"sqlite:///{tmp_path}/my.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(root) == "http://tracking:5000"
    assert tracking_uri(root, "postgresql+psycopg2://u:p@db/x") == "postgresql+psycopg2://u:p@db/x"
    with pytest.raises(TrackingError, match="no tracking store") as caught:
        tracking_uri(root, "./mlruns")
    assert "unset MLFLOW_TRACKING_URI" in str(caught.value)
    assert public("http://me:secret@host:1/x") == "http://host:1/x"


def test_a_password_is_kept_out_of_files_and_messages(record: RunRecord, nowhere: str) -> None:
    said: list[str] = []
    address = nowhere.replace("http://", "http://me:secret@")
    with Sender(record, address, said.append, period_s=0.05):
        until = time.monotonic() + 30
        while not said and time.monotonic() < until:
            time.sleep(0.02)
    assert "secret" not in said[0]
    for path in record.folder.iterdir():
        assert "secret" not in path.read_text()


def test_telemetry_is_off(uri: str) -> None:
    MlflowStore(uri).open()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_the_note_is_readable(uri: str, record: RunRecord) -> None:
    record.append(1, {"a": 1.0})
    send(record, MlflowStore(uri))
    note = json.loads((record.folder / "sent.json").read_text())[uri]
    assert note["offset"] == (record.folder / "metrics.jsonl").stat().st_size
    assert note["steps"] == {"a": 1}
