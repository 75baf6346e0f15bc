"""The local record of a run. It is the truth; what a tracking store shows is its projection.

A run's folder holds `run.json` (who, what, with what, how it went), `experiment.yaml` (resolved),
`metrics.jsonl` (one line a report), `cases.csv` (one row a value and case) and `figures/`.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mriad.errors import MriadError, TrackingError
from mriad.launch.files import atomic_write_json, atomic_write_text, make_folder, read_json
from mriad.launch.relay import append_line, end_line, read_lines
from mriad.tracking.provenance import git_state, plugin_versions, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FORMAT = 1
RUN, EXPERIMENT, METRICS, CASES, FIGURES = (
    "run.json",
    "experiment.yaml",
    "metrics.jsonl",
    "cases.csv",
    "figures",
)
NAMED, PUBLIC = "named", "public"
"""Folders below `figures/` where names are hidden: pictures with true names, never sent, and with public ones."""
_SENT = (".png", ".html", ".zip")
"""Endings of what belongs to a run below `figures/`; folders there stay on this machine."""
_PROGRESS_S = 1.0


@dataclass(frozen=True)
class MetricRow:
    """One line of `metrics.jsonl`."""

    time: float
    """Seconds since 1970."""
    step: int
    values: Mapping[str, float]


class RunRecord:
    """Reads and writes a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        id: str,
        name: str,
        kind: str = "run",
        experiment: Mapping[str, Any] | None = None,
        yaml: str = "",
        parent: RunRecord | None = None,
        study: str = "",
        tags: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        inputs: list[dict[str, Any]] | None = None,
        launch: Mapping[str, Any] | None = None,
        place: Path | None = None,
    ) -> RunRecord:
        """Begin a run's record, or take up that of the same run after an interruption.

        Args:
            folder: created.
            id: the run's fingerprint; the same run is found by it in any tracking store.
            name: for people.
            kind: "run", "ablation", "trial", "stage", "predict", ….
            experiment: resolved, in JSON form; becomes the parameters that can be compared.
            yaml: the same as `experiment.yaml`.
            parent: the run that this one belongs to.
            study: what runs are grouped under; default: the parent's, else the name.
            tags: short facts to filter by: variant, fold, seed, domain.
            data: at least {"fingerprint": …} of the data that is used.
            inputs: files with hashes, see `provenance.describe_inputs`.
            launch: see `Launcher.describe`; holds the threads.
            place: the experiment file's folder, for its git commit.

        Raises:
            TrackingError: the folder holds another run's record.
            StorageError: the place is full or cannot be written.
        """
        record = cls(make_folder(folder))
        known = read_json(folder / RUN) or {}
        if known.get("id", id) != id:
            raise TrackingError(
                "the folder holds the record of another run",
                where={"folder": folder, "its id": known["id"], "expected": id},
                remedy="choose another folder, or remove this one with `mriad runs prune`",
            )
        above = parent.read() if parent is not None else {}
        belongs = {"id": above["id"], "name": above["name"], "kind": above["kind"]} if above else None
        if belongs is None and known.get("parent"):
            # Taken up by hand (`mriad resume`): it stays the child that it was.
            belongs, kind = known["parent"], known["kind"]
            study, tags = study or known["study"], {**known["tags"], **(tags or {})}
        now = time.time()
        written = {
            "format": FORMAT,
            "id": id,
            "name": name,
            "kind": kind,
            "study": study or above.get("study", "") or name,
            "parent": belongs,
            "status": "running",
            "started": known.get("started", now),
            "starts": known.get("starts", 0) + 1,
            "ended": None,
            "error": None,
            "tags": dict(tags or {}),
            "launch": dict(launch or {}),
            "versions": versions(),
            "plugins": plugin_versions(),
            "git": git_state(place),
            "data": dict(data or {}),
            "inputs": inputs or [],
            "compute": known.get("compute", {}),
            "summary": {},
            "experiment": dict(experiment or {}),
        }
        end_line(folder / METRICS)
        if yaml:
            atomic_write_text(folder / EXPERIMENT, yaml)
        atomic_write_json(folder / RUN, written)
        return record

    def read(self) -> dict[str, Any]:
        """Return the content of `run.json`.

        Raises:
            TrackingError: missing or damaged.
        """
        found = read_json(self.folder / RUN)
        if found is None:
            raise TrackingError(
                "the folder holds no record of a run",
                where={"folder": self.folder, "expected": RUN},
                remedy="`mriad runs list` shows where records are",
            )
        return found

    def update(self, **sections: Any) -> None:
        """Replace top-level entries of `run.json`, atomically. NaN and infinity become null."""
        with self._lock:
            atomic_write_json(self.folder / RUN, _finite(self.read() | sections))

    def finish(self, summary: Mapping[str, float] | None = None) -> None:
        """End the run well.

        Args:
            summary: its figures by key; default: the last value of each key in `metrics.jsonl`. What begins
                with `compute/` becomes the record's compute: steps, samples, seconds, peak_memory_bytes.
        """
        values = self.last() | dict(summary or {})
        compute = {key.removeprefix("compute/"): v for key, v in values.items() if key.startswith("compute/")}
        kept = {key: v for key, v in values.items() if not key.startswith("compute/")}
        self.update(status="finished", ended=time.time(), summary=kept, compute=compute, error=None)

    def fail(self, error: BaseException) -> None:
        """End the run with an error; Ctrl-C is an interruption."""
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        trace = "" if isinstance(error, MriadError) else "".join(traceback.format_exception(error))
        told = {"type": type(error).__name__, "message": str(error), "traceback": trace}
        self.update(status=status, ended=time.time(), error=told)

    def add_model(self, path: Path) -> None:
        """Name a model file that belongs to the run; it is sent to the tracking store when the run has ended."""
        known = self.read().get("models", [])
        self.update(models=sorted({*known, str(path.absolute())}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Note an error; a run that ended well calls `finish` itself."""
        if error is not None:
            self.note_failure(error)

    def note_failure(self, error: BaseException) -> None:
        """`fail`, unless the run's end is noted already; never raises, so that the first error is seen."""
        with contextlib.suppress(MriadError):
            if self.read()["status"] == "running":
                self.fail(error)

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line of metrics.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        line = {"time": time.time(), "step": step, "values": {key: _plain(v) for key, v in values.items()}}
        append_line(self.folder / METRICS, json.dumps(line, ensure_ascii=False, allow_nan=False))

    def rows(self, offset: int = 0) -> tuple[list[MetricRow], int]:
        """Return the whole lines after byte `offset` and the offset behind them; damaged lines are skipped."""
        lines, offset = read_lines(self.folder / METRICS, offset)
        found = []
        for line in lines:
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                values = {str(key): _number(value) for key, value in line["values"].items()}
                found.append(MetricRow(float(line["time"]), int(line["step"]), values))
        return found, offset

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) by key, in order of steps.

        A run that went on from a checkpoint repeats some steps: the last value counts.
        """
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for row in self.rows()[0]:
            for key, value in row.values.items():
                found[key][row.step] = value
        return {key: sorted(points.items()) for key, points in found.items()}

    def last(self) -> dict[str, float]:
        """The value of each key at its last step."""
        return {key: points[-1][1] for key, points in self.history().items()}

    def figures(self) -> list[Path]:
        """Pictures of the run, its pages of one file and archives, by name."""
        found = (self.folder / FIGURES).glob("*")
        return sorted(path for path in found if path.suffix in _SENT)

    def public_figures(self) -> list[Path]:
        """What may be sent: all but `named/`, where pictures that name cases are when names are hidden."""
        public = (self.folder / FIGURES / PUBLIC).glob("*")
        return self.figures() + sorted(path for path in public if path.suffix in _SENT)

    def progress(self) -> tuple[int, int] | None:
        """(step, steps) as last reported, or None."""
        found = read_json(self.folder / "progress.json") or {}
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return int(found["step"]), int(found["steps"])
        return None


class JsonlReporter:
    """A `Reporter` that writes the local record, the truth: one short write a report, nothing waits for a network."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._said = 0.0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values to `metrics.jsonl`."""
        self._record.append(step, values)

    def progress(self, step: int, steps: int) -> None:
        """Keep the latest step for `mriad runs list`, once a second."""
        now = time.monotonic()
        if now - self._said < _PROGRESS_S and step < steps:
            return
        self._said = now
        with contextlib.suppress(MriadError):  # progress may be lost, a step may not
            atomic_write_json(
                self._record.folder / "progress.json", {"step": step, "steps": steps}, durable=False
            )

    def message(self, text: str) -> None:
        """Append the line to `messages.txt`, with the time (UTC)."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        append_line(self._record.folder / "messages.txt", f"{stamp} {text}")


class Reporters:
    """Several reporters as one: the record, and a person's terminal."""

    def __init__(self, *reporters: Any) -> None:
        self._reporters = reporters

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell all."""
        for reporter in self._reporters:
            reporter.log(step, values)

    def progress(self, step: int, steps: int) -> None:
        """Tell all."""
        for reporter in self._reporters:
            reporter.progress(step, steps)

    def message(self, text: str) -> None:
        """Tell all."""
        for reporter in self._reporters:
            reporter.message(text)


def records(runs: Path) -> Iterator[RunRecord]:
    """Yield the records below a folder of runs, newest first."""
    if not runs.is_dir():
        return
    found = []
    for folder in runs.iterdir():
        known = read_json(folder / RUN) if folder.is_dir() else None
        if known is not None:
            found.append((float(known.get("started") or 0.0), folder))
    for _, folder in sorted(found, reverse=True):
        yield RunRecord(folder)


def _plain(value: float) -> float | str | None:
    """JSON has no NaN and no infinity: null, and the words that `float` reads."""
    number = float(value)
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else str(number)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
