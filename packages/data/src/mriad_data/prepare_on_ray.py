"""Preparing a collection in the workers of a launcher: on a cluster, or in an embedded Ray."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mriad.filehash import HASHES

from mriad_data.preparing import Prepared, Share, plan, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.experiment.model import Experiment
    from mriad.launch.files import RunsRoot
    from mriad.launch.protocol import WorkerContext
    from mriad.training.protocols import Reporter


@dataclass(frozen=True)
class Payload:
    """What a launcher's worker is given; plain values, so that it travels to any machine."""

    experiment: dict[str, Any]
    runs: str
    folds: tuple[int, ...]


def prepare_worker(context: WorkerContext[Payload]) -> Prepared:
    """Prepare this worker's share, in a process of its own, whose death then names the case.

    Raises:
        MriadError: as `plan` and `run`.
    """
    from mriad.experiment.model import Experiment
    from mriad.launch.files import runs_root
    from mriad.training.distributed import gather_objects

    payload, root = context.payload, runs_root(context.payload.runs)
    planned = plan(Experiment.model_validate(payload.experiment), root, payload.folds)
    share = Share(context.rank, context.world, gather_objects)
    told = context.reporter
    return run(
        planned,
        1,
        root.path / HASHES,
        bool(payload.folds),
        told.progress,
        lambda f: told.message(f"failed: {f.case}, step {f.step}: {f.error.what}"),
        share,
    )


def launch(
    experiment: Experiment, root: RunsRoot, folds: Sequence[int], workers: int, reporter: Reporter
) -> Prepared:
    """`plan` and `run` in Ray workers of one CPU each, on a cluster if one is found. The runs root must be shared.

    Raises:
        LaunchError: the cluster has not the resources, or the runs root is relative inside a job.
        MriadError: as `plan` and `run`.
    """
    from mriad.experiment.model import ResourcesSection
    from mriad.identity import fingerprint, short
    from mriad.launch.protocol import make_launcher

    payload = Payload(experiment.model_dump(mode="json"), str(root.path), tuple(folds))
    name = f"prepare-{short(fingerprint([payload.experiment, list(folds)]))}"
    folder = root.path / name
    try:
        with make_launcher("ray", root, "", reporter.message) as launcher:
            return launcher.run(
                prepare_worker,
                payload,
                resources=ResourcesSection(workers=workers),
                name=name,
                folder=folder,
                reporter=reporter,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # leases and messages; the samples are in the store
