"""Functions that the workers of test_parallel.py run."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from mriad.errors import DataError


@dataclass(frozen=True)
class Item:
    id: str
    number: int


def square(item: Item) -> int:
    return item.number**2


def slow_first(item: Item) -> int:
    if item.number == 0:
        time.sleep(0.2)
    return item.number**2


def fail(item: Item) -> float:
    return 1 / (1 - item.number)


def refuse(item: Item) -> None:
    raise DataError("the image is constant", remedy="look at the file")


def die(item: Item) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(item: Item) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def exhaust(item: Item) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    bytearray(8 << 30)


def leave(item: Item) -> None:
    os._exit(7)


def threads(item: Item) -> tuple[int, str]:
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def touch(item: Item) -> None:
    Path(item.id).touch()
