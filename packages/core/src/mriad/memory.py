"""How much memory the machine has, and byte counts as a person reads them."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def memory_bytes() -> int | None:
    """Memory of the machine, or of the control group if that is less; None where it cannot be known."""
    found: list[int] = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = Path("/sys/fs/cgroup") / name
        text = limit.read_text().strip() if limit.is_file() else ""
        if text.isdigit():
            found.append(int(text))
    return min(found) if found else None


def memory_kills() -> int:
    """How many processes the kernel has killed since it started because memory ran out; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def readable_bytes(count: float) -> str:
    """Such as "3.2 TiB"."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(int(math.log(count, 1024)), len(units) - 1) if count >= 1 else 0
    return f"{count / 1024**power:.4g} {units[power]}"
