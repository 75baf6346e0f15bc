"""A map over cases: in this process, or in several, with results in order and failures that name the case."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, TypeVar

from mriad.errors import DataError, LaunchError, MriadError
from mriad.memory import memory_kills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2  # results that may wait, a worker, for an earlier one: bounds the memory


def map_cases(
    function: Callable[[T], R],
    items: Sequence[T],
    workers: int = 0,
    *,
    name: Callable[[T], str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[R]:
    """Yield `function(item)` for every item, in order.

    Args:
        function: with workers, it and its results must pickle. A spawned worker imports the main module
            again, so a script that uses workers needs `if __name__ == "__main__":`.
        workers: processes; 0 runs here. Each has one thread for numerical libraries, and at most two
            results a worker wait for an earlier item, so memory does not grow with the number of items.
        name: what an item is called in errors; default: its `id`, else its text.
        progress: called as `progress(done, total)` after each result.

    Raises:
        MriadError: of `function`, with the case in `where`.
        DataError: any other error of `function`, with the case, chained.
        LaunchError: a worker died; its signal or exit code and the case are named.
    """
    called = name or (lambda item: str(getattr(item, "id", item)))
    results = _inline(function, items, called) if workers < 1 else _spawned(function, items, workers, called)
    for done, result in enumerate(results, 1):
        if progress is not None:
            progress(done, len(items))
        yield result


def failure(case: str, error: Exception, trace: str = "") -> MriadError:
    """The error to show for what `function` raised at a case."""
    if isinstance(error, MriadError):
        if "case" in error.where:
            return error
        return type(error)(error.what, where={"case": case, **error.where}, remedy=error.remedy)
    where = {"case": case, "error": f"{type(error).__name__}: {error}"}
    return DataError("a case failed", where={**where, **({"at": trace} if trace else {})})


def _inline(function: Callable[[T], R], items: Sequence[T], called: Callable[[T], str]) -> Iterator[R]:
    for item in items:
        try:
            result = function(item)
        except Exception as error:  # anything may go wrong in a case; the case is what the reader needs
            raise failure(called(item), error) from error
        yield result


@dataclass
class _Worker:
    """A process, our end of its pipe, and the item that it works on."""

    process: BaseProcess
    pipe: Any
    busy: int | None = None


@dataclass
class _Pool:
    """Workers and results that wait for their turn."""

    workers: list[_Worker]
    ready: dict[int, Any] = field(default_factory=dict)
    kills_before: int = field(default_factory=lambda: memory_kills())
    """How many processes the kernel had killed for want of memory before these began."""

    def close(self) -> None:
        """End the processes: they hold nothing that must be kept."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()


def _spawned(
    function: Callable[[T], R], items: Sequence[T], workers: int, called: Callable[[T], str]
) -> Iterator[R]:
    if not items:
        return
    try:
        payload = pickle.dumps(function)
    except Exception as error:
        raise LaunchError(
            "the function cannot be sent to worker processes",
            where={"function": getattr(function, "__qualname__", repr(function)), "reason": str(error)},
            remedy="define it at the top of a module, or use workers=0",
        ) from error
    pool = _Pool([_start(payload) for _ in range(min(workers, len(items)))])
    todo = deque(range(len(items)))
    try:
        for turn in range(len(items)):
            _feed(pool, items, todo, turn)
            while turn not in pool.ready:
                _receive(pool, lambda index: called(items[index]))
                _feed(pool, items, todo, turn)
            ok, value, trace = pool.ready.pop(turn)
            if not ok:
                raise failure(called(items[turn]), value, trace) from value
            yield value
    finally:
        pool.close()


def _start(payload: bytes) -> _Worker:
    context = multiprocessing.get_context("spawn")  # fork would copy the threads of torch and Ray half-way
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, payload), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _feed(pool: _Pool, items: Sequence[T], todo: deque[int], turn: int) -> None:
    """Give idle workers the next items, unless too many results wait already."""
    limit = turn + _AHEAD * len(pool.workers)
    for worker in pool.workers:
        if worker.busy is None and todo and todo[0] < limit:
            worker.busy = todo.popleft()
            with contextlib.suppress(OSError):  # it is dead: `_receive` says why
                worker.pipe.send((worker.busy, items[worker.busy]))


def _receive(pool: _Pool, called: Callable[[int], str]) -> None:
    """Wait for at least one busy worker to answer.

    Raises:
        LaunchError: a worker died.
    """
    by_pipe = {worker.pipe: worker for worker in pool.workers if worker.busy is not None}
    for pipe in connection.wait(list(by_pipe)):
        worker = by_pipe[pipe]
        try:
            index, *answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            assert worker.busy is not None
            for_memory = memory_kills() > pool.kills_before
            raise _death(called(worker.busy), worker.process.exitcode, for_memory) from None
        pool.ready[index] = answer
        worker.busy = None


def _death(case: str, code: int | None, for_memory: bool = False) -> LaunchError:
    cause = f"exit code {code}"
    remedy = "run with workers=0 to see the error itself"
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            cause = f"killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            cause += (
                ": memory ran out (the kernel counted such a kill meanwhile)"
                if for_memory
                else " (on Linux most often: the machine is out of memory)"
            )
            remedy = "use fewer workers, or a machine with more memory"
    return LaunchError("a worker process died", where={"case": case, "cause": cause}, remedy=remedy)


def _serve(pipe: Any, payload: bytes) -> None:
    """The loop of a worker: item in, result out, until the pipe is closed."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before the function's module imports numpy
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the parent's to handle; it ends its workers
    function = pickle.loads(payload)
    while True:
        try:
            index, item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (index, True, function(item), "")
        except Exception as error:
            answer = (index, False, _portable(error), traceback.format_exc(limit=-3))
        try:
            pipe.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            pipe.send((index, False, DataError("a result cannot be sent", where={"reason": error}), ""))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception class may do anything when pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
