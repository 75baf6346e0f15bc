"""From the local record to the tracking store: by a thread of its own while a run goes on, by `mriad sync` later.

`sent.json` in the run's folder says for each store how far its metrics were sent, which facts and files,
and in which state the run was. Metrics carry the record's own times, so that what was sent twice (a process
killed between sending and noting) is stored once.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mriad.errors import MriadError
from mriad.experiment.dump import plain_yaml
from mriad.identity import fingerprint
from mriad.launch.files import atomic_write_json, read_json
from mriad.tracking.address import public
from mriad.tracking.mlflow_store import MlflowStore, tags_of
from mriad.tracking.privacy import read_names
from mriad.tracking.record import CASES, EXPERIMENT, FIGURES, RUN, MetricRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mriad.tracking.privacy import PublicNames
    from mriad.tracking.record import RunRecord

SENT = "sent.json"
PERIOD_S = 2.0
LAST_TRY_S = 30.0
"""How long the end of a run waits for what is still to be sent."""
_LONGEST_PAUSE_S = 60.0
_TELLING = ("error", "data", "inputs", "launch", "tags", "links")
"""Sections of `run.json` that may name cases."""


@dataclass
class Sent:
    """What one store has of one run."""

    run_id: str = ""
    offset: int = 0
    """Bytes of `metrics.jsonl`."""
    steps: dict[str, int] = field(default_factory=dict)
    """Last step of each key: a run that went on from a checkpoint repeats some."""
    facts: str = ""
    files: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    status: str = ""


def send(record: RunRecord, store: MlflowStore) -> bool:
    """Send what the store does not have yet; return whether there was anything.

    Raises:
        TrackingError: the store cannot be reached; what had been sent is noted.
        StorageError: the note cannot be written.
    """
    names = read_names(record.folder)
    known = _public(record.read(), names)
    sent = _read(record, store)
    if sent.run_id and not store.is_run_of(sent.run_id, known["id"]):
        sent = Sent()  # the run was deleted there, or the database is another one
    before = fingerprint(vars(sent))
    if not sent.run_id:
        sent.run_id = store.run_for(known)
        _note(record, store, sent)
    # Launch, tags and the error may be filled in later; parameters are sent with them, which changes nothing.
    facts = fingerprint({"tags": tags_of(known), "experiment": known["experiment"]})
    if facts != sent.facts:
        store.send_facts(sent.run_id, known)
        sent.facts = facts
        _note(record, store, sent)
    _send_metrics(record, store, sent)
    if known["status"] != "running":
        _send_files(record, store, sent, names, known)
        _send_models(record, store, sent, known.get("models", []))
    state = f"{known['status']} {known['starts']}"
    if state != sent.status:
        if known["status"] == "running":
            if sent.status:
                store.resume(sent.run_id)
        else:
            store.end(sent.run_id, known)
        sent.status = state
    if fingerprint(vars(sent)) == before:
        return False
    _note(record, store, sent)
    return True


def _send_metrics(record: RunRecord, store: MlflowStore, sent: Sent) -> None:
    rows, offset = record.rows(sent.offset)
    new = []
    for row in rows:
        values = {key: v for key, v in row.values.items() if row.step > sent.steps.get(key, -1)}
        for key in values:
            sent.steps[key] = row.step
        if values:
            new.append(MetricRow(row.time, row.step, values))
    if new:
        store.send_metrics(sent.run_id, new)
    if offset != sent.offset:
        sent.offset = offset
        _note(record, store, sent)


def _send_files(
    record: RunRecord, store: MlflowStore, sent: Sent, names: PublicNames, known: dict[str, Any]
) -> None:
    wanted = [(record.folder / name, "") for name in (EXPERIMENT, RUN, CASES)]
    wanted += [(path, FIGURES) for path in record.public_figures()]
    for path, folder in wanted:
        if not path.is_file():
            continue
        state = path.stat()
        stamp = f"{state.st_size}-{state.st_mtime_ns}"
        name = f"{folder}/{path.name}" if folder else path.name
        if sent.files.get(name) != stamp:
            with _as_public(path, names, known) as shown:
                store.send_file(sent.run_id, shown, folder)
            sent.files[name] = stamp
            _note(record, store, sent)


@contextlib.contextmanager
def _as_public(path: Path, names: PublicNames, known: dict[str, Any]) -> Iterator[Path]:
    """The file itself, or a copy for the time of the block in which names are public ones."""
    if not names or path.name not in (CASES, EXPERIMENT, RUN):
        yield path  # figures are drawn with public names
        return
    if path.name == CASES:
        text = names.table(path.read_text("utf-8"))
    elif path.name == EXPERIMENT:
        text = plain_yaml(known["experiment"])
    else:
        text = json.dumps(known, indent=2, ensure_ascii=False)
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / path.name
        shown.write_text(text, "utf-8")
        yield shown


def _public(known: dict[str, Any], names: PublicNames) -> dict[str, Any]:
    """The content of `run.json` with public names."""
    shown = {key: names.value(value) if key in _TELLING else value for key, value in known.items()}
    return {**shown, "experiment": names.value(known["experiment"], short=True)}


def _send_models(record: RunRecord, store: MlflowStore, sent: Sent, models: list[str]) -> None:
    for path in map(Path, models):
        if path.is_file() and str(path) not in sent.models:
            sent.models[str(path)] = store.send_model(sent.run_id, path)
            sent.status = ""  # MLflow has marked the run as finished, which may not be so
            _note(record, store, sent)


def _read(record: RunRecord, store: MlflowStore) -> Sent:
    found = (read_json(record.folder / SENT) or {}).get(public(store.uri), {})
    with contextlib.suppress(TypeError):
        return Sent(**found)
    return Sent()


def _note(record: RunRecord, store: MlflowStore, sent: Sent) -> None:
    path = record.folder / SENT
    atomic_write_json(path, (read_json(path) or {}) | {public(store.uri): vars(sent)}, durable=False)


def is_sent(record: RunRecord, uri: str) -> bool:
    """Whether the store has all of an ended run, as far as `sent.json` knows."""
    known, found = record.read(), _read(record, MlflowStore(uri))
    metrics = record.folder / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    return found.status == f"{known['status']} {known['starts']}" and found.offset >= size


class Sender:
    """Sends a run's record while it goes on. Use as a context manager around the run.

    No call of a reporter waits for it: it reads the record's files. A store that cannot be reached is said
    once; tries go on at growing intervals, and `mriad sync` sends what is left.

    Args:
        record: the run.
        uri: the store.
        warn: takes the one line for a person; called from the sender's thread.
        period_s: seconds between looks at the record.
    """

    def __init__(
        self, record: RunRecord, uri: str, warn: Callable[[str], None], period_s: float = PERIOD_S
    ) -> None:
        self._record = record
        self._store = MlflowStore(uri)
        self._warn = warn
        self._period_s = period_s
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._send_on, name="mriad-sender", daemon=True)

    def __enter__(self) -> Self:
        # Here, not in the thread: large imports beside others can go wrong, and would hold up the run's steps.
        self._store.load()
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Send what is left, the error of the block included; a store that is not there is not waited for."""
        if error is not None:
            self._record.note_failure(error)
        self._stop.set()
        self._thread.join(LAST_TRY_S)
        if self._thread.is_alive():
            self._complain("it answers too slowly")

    @property
    def delivered(self) -> bool:
        """Whether the last try went through."""
        return not self._failing

    def _send_on(self) -> None:
        pause, stopping = 0.0, False
        while not stopping:
            stopping = self._stop.wait(pause)
            if stopping and self._failing:
                return
            try:
                send(self._record, self._store)
                self._failing, pause = False, self._period_s
            except MriadError as err:
                self._complain(str(err.where.get("reason", err.what)))
                pause = min(max(2 * pause, self._period_s), _LONGEST_PAUSE_S)
            except Exception as err:  # tracking never takes a run down
                self._complain(f"{type(err).__name__}: {err}")
                pause = _LONGEST_PAUSE_S

    def _complain(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            self._warn(
                f"the tracking store {public(self._store.uri)} cannot be reached ({reason}); the run goes on, its "
                f"record is kept in {self._record.folder}, and `mriad sync` sends it later"
            )


def sync(
    found: list[RunRecord],
    uri: str,
    *,
    skip: Callable[[Path], bool] = lambda folder: False,
    told: Callable[[str], None] = lambda text: None,
) -> int:
    """Send all records that a store does not have in full; return how many had something to send.

    Args:
        found: the records.
        uri: the store.
        skip: whether a run's folder is left out, because a live process sends it itself.
        told: takes a line a run.

    Raises:
        TrackingError: the store cannot be reached; what was sent stays noted.
    """
    store = MlflowStore(uri)
    store.open()
    count, began = 0, time.monotonic()
    for record in found:
        if skip(record.folder):
            told(f"{record.folder.name}: running, it sends itself")
        elif send(record, store):
            count += 1
            told(f"{record.folder.name}: sent ({time.monotonic() - began:.0f} s)")
    return count
