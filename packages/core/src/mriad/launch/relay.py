"""How reports travel from rank 0 to the driver: files in the run's folder, which survive both.

`reports.jsonl` is appended to by the worker and read on by the driver, which keeps how far it has read in
`reports.read`. What a worker said after its driver died is so delivered by the next driver. `progress.json`
holds the latest step only. Where the driver's reporter raises, `reports.stop` tells the worker to end.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from mriad.atomic import storing
from mriad.errors import LaunchError
from mriad.launch.files import atomic_write_text, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mriad.training.protocols import Reporter

REPORTS, READ, PROGRESS, STOP = "reports.jsonl", "reports.read", "progress.json", "reports.stop"
_PROGRESS_S = 0.25  # a person sees no more than four updates a second
_POLL_S = 0.2


class FileReporter:
    """The worker's end: a `Reporter` that writes lines.

    Raises:
        StorageError: from `log` and `message`, the place is full.
        LaunchError: from `log`, the driver's reporter has raised; its error is the one that the driver shows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)
        self._path = folder / REPORTS
        self._said = 0.0
        end_line(self._path)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values."""
        if (self._folder / STOP).exists():
            raise LaunchError("the driver has ended this run", where={"folder": self._folder})
        self._append({"step": step, "values": {key: float(value) for key, value in values.items()}})

    def message(self, text: str) -> None:
        """Append the line."""
        self._append({"message": text})

    def progress(self, step: int, steps: int) -> None:
        """Keep the latest step, a few times a second."""
        now = time.monotonic()
        if now - self._said < _PROGRESS_S and step < steps:
            return
        self._said = now
        with contextlib.suppress(OSError):  # progress may be lost, a step may not
            beside = self._folder / f".{PROGRESS}.part"
            beside.write_text(json.dumps([step, steps]))
            beside.replace(self._folder / PROGRESS)

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self._path, json.dumps(line))


def append_line(path: Path, line: str) -> None:
    """Append one line by one write, so that a reader sees it whole or not yet.

    Raises:
        StorageError: the place is full or cannot be written.
    """
    with storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            data = line.encode() + b"\n"
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, data[written:])
        finally:
            os.close(descriptor)


def end_line(path: Path) -> None:
    """End a last line that a killed writer left half-written, so that the next one starts afresh."""
    if not path.exists():
        return
    with storing(path), path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def read_lines(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the whole JSON objects after byte `offset`, and the offset behind them.

    A last line without an end is left for the next call; a damaged line is skipped.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= offset:
                return [], offset
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    found = []
    for line in data[:end].splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found, offset + end


@contextlib.contextmanager
def relay(folder: Path, reporter: Reporter) -> Iterator[None]:
    """The driver's end: in the block a thread forwards to `reporter`; at its end all is delivered.

    What `reporter` raises ends the worker at its next report, and is raised here.
    """
    make_folder(folder)
    (folder / STOP).unlink(missing_ok=True)
    reader = _Reader(folder, reporter)
    stop = threading.Event()
    faults: list[BaseException] = []

    def forward() -> None:
        try:
            while not stop.wait(_POLL_S):
                reader.forward()
        except BaseException as err:  # raised again in the caller's thread
            faults.append(err)
            atomic_write_text(folder / STOP, "", durable=False)

    thread = threading.Thread(target=forward, name="mriad-relay", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        stop.set()
        thread.join()
        if faults:
            raise faults[0] from error  # the worker ended because of it
        raise
    finally:
        stop.set()
        thread.join()
        if not faults:
            reader.forward()
    if faults:
        raise faults[0]


class _Reader:
    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._progress = ""
        try:
            self._offset = int((folder / READ).read_text())
        except (OSError, ValueError):
            self._offset = 0

    def forward(self) -> None:
        lines, offset = read_lines(self._folder / REPORTS, self._offset)
        for line in lines:
            if "message" in line:
                self._reporter.message(str(line["message"]))
            elif "values" in line:
                self._reporter.log(int(line["step"]), line["values"])
        if offset != self._offset:
            self._offset = offset
            atomic_write_text(self._folder / READ, str(offset), durable=False)
        with contextlib.suppress(OSError, ValueError):
            text = (self._folder / PROGRESS).read_text()
            if text != self._progress:
                self._progress = text
                step, steps = json.loads(text)
                self._reporter.progress(step, steps)
