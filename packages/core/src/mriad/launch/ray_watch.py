"""A watch over the embedded Ray: where one of its own processes dies, nothing in Ray ends a waiting call."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Protocol

from mriad.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_S = 1.0
"""How often it is looked whether the embedded Ray still runs."""


class Watched(Protocol):
    """A launcher that knows its processes."""

    def dead(self) -> str:
        """Which process has ended that the embedded Ray cannot do without; "" while all run."""
        ...


class _Died(KeyboardInterrupt):
    """As Ctrl-C does, it ends a waiting call of Ray; Ray Train and Tune take Ctrl-C itself for their own."""


@contextlib.contextmanager
def unless_ray_dies(launcher: Watched, remedy: str) -> Iterator[None]:
    """Leave the block where the embedded Ray has died: a call would wait for ever, or for a minute and abort.

    Args:
        launcher: is asked every `LOOK_S` seconds.
        remedy: of the error.

    Raises:
        LaunchError: a vital process ended, whatever Ray made of it.
    """
    over = threading.Event()
    died: list[str] = []

    def look() -> None:
        while not over.wait(LOOK_S):
            name = launcher.dead()
            if name:
                died.append(name)
                signal.pthread_kill(main, signal.SIGUSR2)
                return

    main = threading.get_ident()
    here = threading.current_thread() is threading.main_thread()  # only that one takes signals
    before = signal.signal(signal.SIGUSR2, _raise) if here else None
    watcher = threading.Thread(target=look, name="mriad-ray-alive", daemon=True)
    if here:
        watcher.start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        asked = isinstance(error, KeyboardInterrupt) and not died  # a person's own Ctrl-C
        name = died[0] if died else "" if asked else launcher.dead()
        if not name:
            raise
        raise LaunchError(
            "the embedded Ray has died",
            where={"process that ended": name, "usual cause": "too little memory, or it was killed"},
            remedy=remedy,
        ) from (None if died else error)
    finally:
        with contextlib.suppress(_Died):  # a death at the very end concerns nobody
            over.set()
            if here:
                watcher.join()  # it must not send its signal to whatever comes next
        if here:
            signal.signal(signal.SIGUSR2, before)


def _raise(number: int, frame: object) -> None:
    raise _Died
