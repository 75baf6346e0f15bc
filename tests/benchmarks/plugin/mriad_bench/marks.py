"""Points in time of a run, from all its processes, appended to the file that MRIAD_BENCH_MARKS names."""

from __future__ import annotations

import json
import os
import time


def mark(name: str, at: float | None = None) -> None:
    """Note the wall-clock time and the process under a name; nothing where no file is named."""
    path = os.environ.get("MRIAD_BENCH_MARKS")
    if not path:
        return
    line = json.dumps({"name": name, "time": time.time() if at is None else at, "pid": os.getpid()})
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)
