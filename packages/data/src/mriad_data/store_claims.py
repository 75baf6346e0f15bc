"""Claims on keys of a store: of several processes that need one sample at once, one makes it.

A claim is a lock on an empty file that the operating system gives back when its process ends, however it ends; so
nobody waits for the dead. It saves work and guards nothing: where a file system has no locks, or a holder takes too
long, a sample is made twice, and the store keeps one copy as ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLAIMS = ".claims"
"""Folder of the lock files below a store."""
PATIENCE_S = 600.0
"""Seconds after which a process makes a sample itself although another has claimed it: it may be stopped."""
_LONGEST_PAUSE_S = 0.1


@contextlib.contextmanager
def claim(folder: Path, key: str, patience_s: float = PATIENCE_S) -> Iterator[bool]:
    """Hold the claim on a key inside the block; waits while another process or thread holds it.

    Args:
        folder: of the store.
        key: what is about to be made.
        patience_s: seconds to wait at most.

    Yields whether the claim is held; the block runs in either case.
    """
    path = folder / CLAIMS / key
    descriptor = _take(path, patience_s)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is still locked: whoever waits for it looks again
            os.close(descriptor)


def _take(path: Path, patience_s: float) -> int | None:
    """The locked file's descriptor; None where it cannot be had."""
    until, pause = time.monotonic() + patience_s, 0.002
    with contextlib.suppress(OSError):  # read-only, full, or no locks on this file system
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    return descriptor
                os.close(descriptor)  # the holder removed it while we waited
                continue
            except BlockingIOError:
                os.close(descriptor)
            except OSError:
                os.close(descriptor)
                raise
            if time.monotonic() > until:
                return None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
