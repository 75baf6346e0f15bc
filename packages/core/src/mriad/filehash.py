"""SHA-256 of files, remembered by size, time and inode so that a large data set is hashed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from mriad.errors import DataError

_BLOCK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was hashed may change again within one tick of the clock."""

Stamp = tuple[int, int, int]
_known: dict[str, tuple[Stamp, str]] = {}
HASHES = "file-hashes.jsonl"
"""Name of the journal below the runs root; see `remember_in`."""

_journal: Path | None = None


def remember_in(path: Path | str) -> None:
    """Also keep hashes in a file of JSON lines, and use those that are there; damaged lines are ignored.

    Lines are appended, so several processes may share the file. Where it cannot be written, nothing is kept.
    """
    global _journal
    _journal = Path(path)
    with contextlib.suppress(OSError):
        for line in _journal.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                _known[str(row["path"])] = ((*map(int, row["stamp"]),), str(row["sha256"]))  # type: ignore[assignment]


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        real = Path(path).resolve()
        stamp = _stamp(real)
        known = _known.get(str(real))
        if known is not None and known[0] == stamp:
            return known[1]
        digest = hashlib.sha256()
        with real.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(
            "a file cannot be read", where={"file": str(path), "reason": error.strerror or error}
        ) from error
    found = digest.hexdigest()
    if time.time_ns() - stamp[1] > _SETTLED_NS and _stamp(real) == stamp:
        _remember(str(real), stamp, found)
    return found


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _remember(name: str, stamp: Stamp, digest: str) -> None:
    _known[name] = (stamp, digest)
    if _journal is None:
        return
    line = json.dumps({"path": name, "stamp": stamp, "sha256": digest}) + "\n"
    with contextlib.suppress(OSError):  # a memory only: the result does not depend on it
        _journal.parent.mkdir(parents=True, exist_ok=True)
        with _journal.open("a", encoding="utf-8") as file:
            file.write(line)
