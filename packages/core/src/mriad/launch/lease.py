"""A lease on a run folder: one process writes it, and a dead owner's lease can be taken over.

The lease is the file `lease-<n>.json` with the highest n. To take a folder is to create the next number,
which `O_EXCL` lets exactly one process do, on shared file systems too. The owner refreshes the file's
modification time. Its age is measured against a file that was just written in the same folder, so clocks of
two machines need not agree. Numbers never fall: whoever created a number and then finds a higher one has
lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from mriad.atomic import storing
from mriad.errors import LaunchError, MriadError
from mriad.launch.files import atomic_write_json, make_folder, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"^lease-(\d{6})\.json$")
STALE_AFTER_S = 30.0
"""Seconds without a heartbeat after which an owner counts as dead."""


class Lease:
    """Hold a folder for the time of a `with` block.

    Args:
        folder: the folder to guard; created.
        stale_after_s: an owner without a heartbeat for so long is dead, and its lease is taken over.
        token: names the owner; several processes that work for one owner share it (see `beat_for`).

    Raises:
        LaunchError: on entry, a live owner has the folder; the message names it.
    """

    def __init__(self, folder: Path, stale_after_s: float = STALE_AFTER_S, token: str = "") -> None:
        self.folder = folder
        self.stale_after_s = stale_after_s
        self.token = token or secrets.token_hex(8)
        self.taken_over = False
        """Whether an owner had died and left the folder."""
        self._path: Path | None = None
        self._heart: Heartbeat | None = None

    @property
    def path(self) -> Path:
        """The lease file while it is held."""
        if self._path is None:
            raise LaunchError(f"the lease on {self.folder} is not held")
        return self._path

    def __enter__(self) -> Self:
        make_folder(self.folder)
        with storing(self.folder):
            self._path = self._take()
        self._heart = Heartbeat(self._path, self.token, self.stale_after_s / 6)
        _held[_key(self.folder)] = self
        return self

    def __exit__(self, *_: object) -> None:
        _held.pop(_key(self.folder), None)
        if self._heart is not None:
            self._heart.stop()
        if self._path is not None and _read(self._path).get("token") == self.token:
            # Marked, not removed: numbers must not start again below one that a slow process has seen.
            with contextlib.suppress(MriadError):
                atomic_write_json(self._path, {"released": True}, durable=False)
        self._path = self._heart = None

    def check(self) -> None:
        """Make sure that the folder is still ours; a process that slept through its lease must not write.

        Raises:
            LaunchError: another process has taken the folder over.
        """
        check_holds(self.path, self.token)

    def _take(self) -> Path:
        for _ in range(20):  # each failed try means that somebody else has just taken or left the folder
            latest = _latest(self.folder)
            number = 0
            if latest is not None:
                number = int(_NAME.match(latest.name).group(1))  # type: ignore[union-attr]
                owner, age = _read(latest), _age(latest)
                free = age is None or owner.get("released") is True
                if not free and age is not None and age <= self.stale_after_s:
                    raise _occupied(self.folder, owner, age)
                self.taken_over = not free
            mine = self.folder / f"lease-{number + 1:06d}.json"
            try:
                descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                continue
            with os.fdopen(descriptor, "w") as file:
                json.dump(
                    {
                        "host": socket.gethostname(),
                        "pid": os.getpid(),
                        "since": time.time(),
                        "token": self.token,
                    },
                    file,
                )
            if _latest(self.folder) == mine:
                for old in _all(self.folder)[:-1]:
                    old.unlink(missing_ok=True)
                return mine
            mine.unlink(missing_ok=True)
        raise LaunchError(
            f"several processes compete for {self.folder}", remedy="start one of them, or wait for the other"
        )


class Heartbeat:
    """A thread that keeps a lease file fresh as long as it carries `token`."""

    def __init__(self, path: Path, token: str, period_s: float) -> None:
        self._path, self._token, self._period = path, token, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mriad-lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self._period):
            # A file system that answers late or not at all must not end the run: `check` decides.
            with contextlib.suppress(OSError):
                if _read(self._path).get("token") == self._token:
                    os.utime(self._path)

    def stop(self) -> None:
        """Stop beating; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()


_held: dict[str, Lease] = {}  # leases of this process, by folder


@contextlib.contextmanager
def leased(folder: Path) -> Iterator[Lease]:
    """Yield this process's lease on `folder`, or take one for the time of the block.

    A stage that guards its folder may so call a launcher that guards it too.
    """
    existing = _held.get(_key(folder))
    if existing is not None:
        yield existing
        return
    with Lease(folder) as lease:
        yield lease


@contextlib.contextmanager
def beat_for(path: Path, token: str, stale_after_s: float = STALE_AFTER_S) -> Iterator[None]:
    """Keep another process's lease alive: a worker beats for its driver, which it may outlive by seconds."""
    heart = Heartbeat(path, token, stale_after_s / 6)
    try:
        yield
    finally:
        heart.stop()


def live_owner(folder: Path, stale_after_s: float = STALE_AFTER_S) -> str:
    """Say which process holds `folder` now, such as "process 4711 on node7"; "" where none does."""
    try:
        latest = _latest(folder)
        if latest is None or _read(latest).get("released"):
            return ""
        age = _age(latest)
    except OSError:
        return ""
    return _describe(_read(latest)) if age is not None and age <= stale_after_s else ""


def check_holds(path: Path, token: str) -> None:
    """Raise LaunchError unless `path` is the folder's latest lease and carries `token`."""
    latest = _latest(path.parent)
    if latest != path or _read(path).get("token") != token:
        owner = _read(latest) if latest is not None else {}
        raise LaunchError(
            f"this process lost its lease on {path.parent}",
            where={"now": _describe(owner) if owner else "released"},
            remedy="it was asleep too long, or another process started the same run: stop one of the two",
        )


def _key(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100 - a link stays what it is called


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _NAME.match(p.name))


def _latest(folder: Path) -> Path | None:
    found = _all(folder)
    return found[-1] if found else None


def _read(path: Path) -> dict[str, Any]:
    """The owner; empty where the file is gone, or was just created and its owner has not written yet."""
    return read_json(path) or {}


def _age(path: Path) -> float | None:
    """Seconds since the last heartbeat by the file system's own clock; None where the file is gone."""
    probe = path.with_name(f".lease-probe-{secrets.token_hex(4)}")
    try:
        probe.write_bytes(b"")
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _describe(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _occupied(folder: Path, owner: dict[str, Any], age: float) -> LaunchError:
    since = owner.get("since")
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since)) if since else "unknown"
    return LaunchError(
        f"{folder.name} is in use by another process",
        where={
            "folder": folder,
            "owner": _describe(owner),
            "since": began,
            "last sign": f"{max(age, 0):.0f} s ago",
        },
        remedy="wait until it has ended, or stop it; a dead owner's lease is taken over "
        f"{STALE_AFTER_S:.0f} s after its last sign",
    )
