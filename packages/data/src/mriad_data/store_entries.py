"""What lies in a `data.store` folder: entries with their size and last use, what may go, and removing it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mriad.launch.files import folder_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

RECORD = "sample.json"
FORMATS = (1, 2)
"""Of the entries that this version writes and reads, plain and compressed; others are neither read nor counted as
damaged."""
DAY_S = 86_400.0
RECENT_S = DAY_S
"""What was used since then may belong to a run that goes on, and stays unless a person says otherwise."""
LEFT_S = 3600.0
"""A temporary folder that is older belongs to a writer that was killed."""

State = Literal["good", "other version", "damaged"]


@dataclass(frozen=True)
class Entry:
    """One stored sample."""

    folder: Path
    bytes: int
    used: float
    """When a run last used it (epoch seconds); marked at most once an hour."""
    state: State
    version: int | None
    """Format that it was written in."""
    case: str = ""
    """The case that it was made for first; others with the same voxels share it."""
    contrast: str = ""
    shape: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return self.folder.name

    def age(self, now: float) -> float:
        """Seconds since the last use."""
        return max(0.0, now - self.used)


def file_name(array: str, facts: Mapping[str, Any]) -> str:
    """Name of an array's file in its entry; the ending says how it was written."""
    return f"{array}.{facts.get('codec', 'npy')}"


def entries(folder: Path) -> Iterator[Entry]:
    """Every entry of a store, by key. Reads records, no voxels; entries that vanish meanwhile are left out."""
    for shard in sorted(folder.glob("[0-9a-f][0-9a-f]")):
        with contextlib.suppress(OSError):
            for place in sorted(p for p in shard.iterdir() if not p.name.startswith(".")):
                found = _entry(place)
                if found is not None:
                    yield found


def _entry(place: Path) -> Entry | None:
    record = place / RECORD
    try:
        used = record.stat().st_mtime
    except OSError:
        try:
            used = place.stat().st_mtime
        except OSError:
            return None
    raw: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = json.loads(record.read_text(encoding="utf-8"))
        raw = read if isinstance(read, dict) else {}
    version = raw.get("format") if isinstance(raw.get("format"), int) else None
    size = folder_size(place)
    if version is not None and version not in FORMATS:
        return Entry(place, size, used, "other version", version)
    try:
        whole = all(
            os.stat(place / file_name(name, facts)).st_size == facts["bytes"]  # noqa: PTH116
            for name, facts in raw["arrays"].items()
            if "bytes" in facts
        )
        case, contrast, shape = str(raw["case"]), str(raw["contrast"]), tuple(map(int, raw["grid"]["shape"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Entry(place, size, used, "damaged", version)
    return Entry(place, size, used, "good" if whole else "damaged", version, case, contrast, shape)


def choose(
    found: Iterable[Entry],
    max_bytes: float | None = None,
    unused_s: float | None = None,
    now: float | None = None,
) -> list[Entry]:
    """Which entries may go, the most useless first.

    Args:
        found: all of a store.
        max_bytes: choose only until the rest is not larger; None: no limit.
        unused_s: nothing that was used in the last so many seconds; default `RECENT_S`.
        now: epoch seconds; default: the clock's.

    With neither `max_bytes` nor `unused_s`, only damaged entries and those of another version.
    """
    known = list(found)
    moment = time.time() if now is None else now
    limit = RECENT_S if unused_s is None else unused_s
    may = [e for e in known if e.age(moment) >= limit or e.state == "damaged"]
    may.sort(key=lambda e: (e.state == "good", e.used))
    if max_bytes is None:
        return may if unused_s is not None else [e for e in may if e.state != "good"]
    total, chosen = sum(e.bytes for e in known), []
    for entry in may:
        if total <= max_bytes:
            break
        chosen.append(entry)
        total -= entry.bytes
    return chosen


def remove(entry: Entry) -> int:
    """Remove an entry unless it was used since it was looked at; return the bytes that became free.

    It is renamed first, so it is gone at once or not at all. A process that has its arrays mapped keeps them: the
    system frees their space when the last one closes them.
    """
    record = entry.folder / RECORD
    aside = entry.folder.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{entry.key}")
    try:
        if record.exists() and record.stat().st_mtime > entry.used:
            return 0
        entry.folder.rename(aside)
    except OSError:  # another process was faster, or the folder is read-only
        return 0
    shutil.rmtree(aside, ignore_errors=True)
    return entry.bytes


def leftovers(folder: Path, older_s: float = LEFT_S) -> list[Path]:
    """Temporary folders of writers that were killed. No reader ever looks at them."""
    found = []
    for path in folder.glob("[0-9a-f][0-9a-f]/.*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_s:
                found.append(path)
    return sorted(found)


def remove_leftovers(folder: Path, older_s: float = LEFT_S) -> int:
    """Remove them; return the bytes that became free."""
    freed = 0
    for path in leftovers(folder, older_s):
        freed += folder_size(path)
        shutil.rmtree(path, ignore_errors=True)
    return freed
