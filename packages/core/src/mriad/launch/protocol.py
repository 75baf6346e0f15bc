"""One plain function, run in this process or in N workers, without knowing which."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from mriad.errors import LaunchError
from mriad.training.protocols import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mriad.experiment.model import ResourcesSection
    from mriad.launch.files import RunsRoot
    from mriad.training.protocols import CheckpointStore, Reporter

R = TypeVar("R")
P = TypeVar("P")

LauncherName = Literal["inline", "ray"]


@dataclass(frozen=True)
class WorkerContext(Generic[P]):
    """What the function gets in each worker.

    Where `world` > 1 the default process group of torch.distributed is set up (gloo on CPUs, NCCL on GPUs).
    """

    rank: int
    world: int
    device: str
    """A torch.device string: "cpu", "cuda:0"."""
    threads: int
    """torch's threads inside an operation: the CPUs assigned to this worker."""
    folder: Path
    """The folder given to `Launcher.run`, shared by all workers."""
    reporter: Reporter
    """Rank 0 speaks to the driver's reporter; the others are silent."""
    checkpoints: CheckpointStore
    """Below `folder`; every rank loads, rank 0 writes (networks are equal on all ranks)."""
    payload: P

    @property
    def shard(self) -> Shard:
        """This worker among all."""
        return Shard(self.rank, self.world)


class Launcher(ABC):
    """Runs a function in workers. Use as a context manager where several runs share one start-up."""

    name: str

    @abstractmethod
    def run(
        self,
        function: Callable[[WorkerContext[P]], R],
        payload: P,
        *,
        resources: ResourcesSection,
        name: str,
        folder: Path,
        reporter: Reporter,
    ) -> R:
        """Call `function(context)` once in each worker and return what rank 0 returned.

        Args:
            function: importable by name in a fresh process; resumes from `context.checkpoints` by itself.
            payload: anything that pickles; the same in all workers.
            resources: workers, and CPUs and GPUs of each.
            name: names the run in logs; follows from a fingerprint.
            folder: absolute; holds checkpoints and what travels between workers and the driver. It is leased.
            reporter: called in this process, from another thread where workers are other processes.

        Raises:
            LaunchError: the resources are not there, a worker died too often, or the folder is in use.
            Exception: what the function raised in a worker, with the worker's traceback as its cause.
        """

    def describe(self, resources: ResourcesSection) -> Mapping[str, Any]:
        """What belongs into `run.json`: launcher, workers, threads and GPUs of each worker."""
        return {
            "launcher": self.name,
            "workers": resources.workers,
            "threads": resources.cpus,
            "gpus": resources.gpus,
        }

    def close(self) -> None:
        """Give back what was started."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_launcher(
    name: LauncherName, root: RunsRoot, tracking: str = "", message: Callable[[str], None] | None = None
) -> Launcher:
    """Return a launcher by name after checking that its place suits it; nothing is started yet.

    Args:
        name: "inline" (this process, or local processes with gloo where workers > 1), or "ray".
        root: the runs root.
        tracking: URI of the tracking store; "" where nothing is tracked.
        message: takes a line for a person, such as a warning about oversubscribed CPUs.

    Raises:
        LaunchError: inside a cluster's job the runs root is relative, or the tracking store an SQLite file.
    """
    from mriad.launch.place import check_place, in_job

    check_place(root, tracking, in_job=in_job())
    if name == "inline":
        from mriad.launch.inline import InlineLauncher

        return InlineLauncher()
    if name == "ray":
        from mriad.launch.ray_launcher import RayLauncher

        return RayLauncher(root, tracking=tracking, message=message)
    raise LaunchError(f"there is no launcher '{name}'", where={"expected": "inline or ray"})


class SilentReporter:
    """Takes everything and says nothing: ranks above 0."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore."""

    def progress(self, step: int, steps: int) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""


def require_absolute(folder: Path) -> None:
    """Raise LaunchError where `folder` is relative: a worker's current folder is another one."""
    if not folder.is_absolute():
        raise LaunchError(
            "a run folder must be an absolute path",
            where={"folder": folder},
            remedy="make it absolute with Path.absolute(), or take it from runs_root()",
        )


def visible_cpus() -> int:
    """CPUs that this process may run on."""
    import os

    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
