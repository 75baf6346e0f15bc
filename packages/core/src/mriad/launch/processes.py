"""Local worker processes joined by torch.distributed: data-parallel training without Ray.

Each worker is `python -m mriad.launch.processes FOLDER RANK`: a fresh interpreter, so that a caller's
`__main__` needs no guard. The job and the outcomes are pickles in a folder of mode 0700 that this launcher
makes and removes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mriad.errors import LaunchError
from mriad.launch.relay import relay
from mriad.launch.worker import Assignment, Outcome, final_outcome, work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mriad.experiment.model import ResourcesSection
    from mriad.launch.protocol import WorkerContext
    from mriad.training.protocols import Reporter

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """What all workers of a run share. `call` is a pickle of its own, read after `paths` are in place."""

    assignment: Assignment
    world: int
    gpus: float
    paths: tuple[str, ...]
    call: bytes


def run_processes(
    function: Callable[[WorkerContext[P]], R],
    payload: P,
    assignment: Assignment,
    resources: ResourcesSection,
    reporter: Reporter,
) -> R:
    """Start the workers, forward rank 0's reports, and return its value.

    Raises:
        LaunchError: a worker died; the others are stopped.
        Exception: what the function raised.
    """
    room = Path(tempfile.mkdtemp(prefix="mriad-workers-"))  # mode 0700: a foreign pickle is code
    try:
        job = Job(
            assignment,
            resources.workers,
            resources.gpus,
            tuple(path for path in sys.path if path),
            pickle.dumps((function, payload)),
        )
        (room / "job").write_bytes(pickle.dumps(job))
        with relay(assignment.folder, reporter):
            _run_all(room, resources.workers)
        value: R = pickle.loads((room / "outcome-0").read_bytes()).result()
        return value
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _run_all(room: Path, world: int) -> None:
    # Workers meet on this machine only: gloo must not listen on an outside interface.
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else dict(os.environ)
    command = [sys.executable, "-m", "mriad.launch.processes", str(room)]
    workers = [
        subprocess.Popen([*command, str(rank)], env=environment, stdin=subprocess.PIPE)
        for rank in range(world)
    ]
    ended: queue.Queue[tuple[int, int]] = queue.Queue()
    for rank, process in enumerate(workers):
        threading.Thread(
            target=lambda r, p: ended.put((r, p.wait())), args=(rank, process), daemon=True
        ).start()
    try:
        for _ in workers:
            rank, code = ended.get()
            if code != 0:
                _stop(workers, grace_s=1.0)
                raise _first_fault(room, world, rank, code)
    finally:
        _stop(workers)
        for process in workers:
            if process.stdin is not None:
                process.stdin.close()


def _stop(workers: Sequence[subprocess.Popen[bytes]], grace_s: float = 0.0) -> None:
    """End what still runs, after a moment in which peers of a failed worker may say what they saw."""
    until = time.monotonic() + grace_s
    for process in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic(), 0.0) if grace_s else 0.0)
        if process.poll() is None:
            process.kill()
    for process in workers:
        process.wait()


def _first_fault(room: Path, world: int, rank: int, code: int) -> BaseException:
    """The error that a worker left; one of ours before any other, which may be its echo at a peer."""
    outcomes = []
    for each in range(world):
        with contextlib.suppress(OSError, pickle.PickleError, EOFError):
            outcomes.append(pickle.loads((room / f"outcome-{each}").read_bytes()))
    faults = sorted(
        (o for o in outcomes if o.error is not None), key=lambda o: final_outcome(o.error, world) is None
    )
    dead = [each for each in range(world) if not (room / f"outcome-{each}").exists()]
    # A peer's complaint about a closed connection says nothing where a worker just vanished.
    if faults and (not dead or final_outcome(faults[0].error, world) is not None):
        try:
            faults[0].result()
        except BaseException as err:
            return err
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return LaunchError(
        f"worker {rank} of {world} died",
        where={"how": how},
        remedy="start again: the run goes on from its last checkpoint (--launcher ray does so by itself)",
    )


def _main(room: Path, rank: int) -> int:
    """One worker's life."""
    _die_with_parent()
    job: Job = pickle.loads((room / "job").read_bytes())
    sys.path.extend(path for path in job.paths if path not in sys.path)
    import torch
    import torch.distributed as dist

    device = "cpu"
    if job.gpus:
        device = f"cuda:{rank % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "nccl" if job.gpus else "gloo",
            init_method=f"file://{room}/rendezvous",
            rank=rank,
            world_size=job.world,
        )
        function, payload = pickle.loads(job.call)
        value = work(function, payload, job.assignment, rank=rank, world=job.world, device=device)
        dist.barrier()  # nobody leaves while a peer still talks to it
        _leave(room, rank, Outcome(value if rank == 0 else None))
        dist.destroy_process_group()
    except Exception as err:
        import traceback

        _leave(room, rank, Outcome(error=err, trace="".join(traceback.format_exception(err))))
        return 1
    return 0


def _leave(room: Path, rank: int, outcome: Outcome) -> None:
    try:
        data = pickle.dumps(outcome)
    except Exception as err:  # an error, or a value, that does not travel
        data = pickle.dumps(Outcome(error=LaunchError(f"what worker {rank} returned cannot be sent: {err}")))
    (room / f".outcome-{rank}").write_bytes(data)
    (room / f".outcome-{rank}").replace(room / f"outcome-{rank}")


def _die_with_parent() -> None:
    """End when the parent's end of our standard input closes, which it does however the parent dies."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str]) -> Any:
    """Entry of a worker process."""
    return _main(Path(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    # The class of the job must be the importable module's, not that of `__main__`.
    from mriad.launch import processes

    # Threads of gloo may still run: leave without tearing the interpreter down around them.
    code = processes.main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
