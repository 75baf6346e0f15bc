"""The launcher that needs nothing but torch: this process, or local processes where workers > 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from mriad.errors import LaunchError
from mriad.launch.lease import leased
from mriad.launch.protocol import Launcher, require_absolute, visible_cpus
from mriad.launch.worker import Assignment, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mriad.experiment.model import ResourcesSection
    from mriad.launch.protocol import WorkerContext
    from mriad.training.protocols import Reporter

P = TypeVar("P")
R = TypeVar("R")


class InlineLauncher(Launcher):
    """Runs the function in this process; with `workers` > 1 in local processes joined by gloo or NCCL."""

    name = "inline"

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
        """See `Launcher.run`. torch's thread count is set for the call and given back."""
        require_absolute(folder)
        check_gpus(resources)
        asked = resources.workers * resources.cpus
        if asked > visible_cpus():
            reporter.message(f"{asked} CPUs are asked for and {visible_cpus()} are here: threads take turns")
        with leased(folder) as lease:
            assignment = Assignment(folder, resources.cpus, lease.path, lease.token, self.name)
            if resources.workers > 1:
                from mriad.launch.processes import run_processes

                return run_processes(function, payload, assignment, resources, reporter)
            device = "cuda:0" if resources.gpus else "cpu"
            return work(function, payload, assignment, rank=0, world=1, device=device, reporter=reporter)


def check_gpus(resources: ResourcesSection) -> None:
    """Raise LaunchError where this machine has fewer GPUs than the workers ask for."""
    if not resources.gpus:
        return
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there < resources.workers * min(resources.gpus, 1):
        raise LaunchError(
            "the GPUs that are asked for are not here",
            where={
                "asked": f"{resources.gpus:g} for each of {resources.workers} workers (resources.gpus)",
                "here": there,
            },
            remedy="set resources.gpus=0 to train on the CPU, or use --launcher ray on a cluster",
        )
