"""Many small jobs on Ray Tune, each a trial with its own resources, as many at once as fit."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from mriad.errors import LaunchError
from mriad.launch.files import atomic_write_bytes, make_folder
from mriad.launch.ray_watch import unless_ray_dies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mriad.experiment.model import ResourcesSection
    from mriad.launch.ray_launcher import RayLauncher

P = TypeVar("P")

MAX_DEATHS = 2
"""How often the process of one job may die before the job counts as failed."""
_KEPT = "run the same command again: finished trials are kept, others go on from their last checkpoint"
_TRIFLE = {"memory": 1000.0}
"""Tune refuses a trial without resources. One whose workers have their own must not take a part of a CPU either: on a
machine with one, that worker would wait for ever."""


def tune_jobs(
    function: Callable[[P], Any],
    payloads: Sequence[P],
    *,
    launcher: RayLauncher,
    resources: ResourcesSection,
    folder: Path,
    name: str,
    spans_workers: bool,
    at_once: int = 0,
) -> dict[int, str]:
    """Call `function(payload)` for each payload as a Tune trial; return why the process of one died, by place.

    What a function raises is its own affair: it should return it. Results travel through files, not through Ray.

    Args:
        function: importable by name in a fresh process.
        payloads: anything that pickles.
        launcher: joins or starts Ray.
        resources: of one job.
        folder: for Tune's own notes; removed at the end.
        name: of the experiment in Tune.
        spans_workers: whether each job starts Ray Train workers of its own, which then have the resources.
        at_once: at most so many jobs at a time; 0: as many as fit.

    Raises:
        LaunchError: Ray cannot be started or has not the resources, the embedded Ray died, or Tune itself failed.
        KeyboardInterrupt: jobs that ran were stopped; what they wrote stays.
    """
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    launcher.start(resources)
    import ray
    from ray import tune

    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    fits = fitting(there, resources)
    place = make_folder(folder / "tune")
    call = place / "call.pkl"
    atomic_write_bytes(call, _dumps((function, list(payloads))))
    needs = _TRIFLE if spans_workers else {"CPU": float(resources.cpus)}
    tuner = tune.Tuner(
        tune.with_resources(_trial, needs),
        param_space={
            "place": tune.grid_search(list(range(len(payloads)))),
            "call": str(call),
            "paths": [path for path in sys.path if path],
            "cwd": os.getcwd(),  # noqa: PTH109
            "environment": {key: value for key, value in os.environ.items() if key.startswith("MRIAD_")},
        },
        tune_config=tune.TuneConfig(
            # Jobs whose workers wait for each other's CPUs would wait for ever: no more at once than can run.
            max_concurrent_trials=min(fits, at_once or fits),
            # The process of a job goes on with the next one: it has torch imported.
            reuse_actors=not spans_workers,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(place),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
        ),
    )
    try:
        with _quiet(), unless_ray_dies(launcher, _KEPT):
            found = tuner.fit()
    except (RuntimeError, ValueError, tune.TuneError) as err:
        raise LaunchError(
            "Ray Tune could not run the jobs",
            where={"jobs": len(payloads), "reason": (str(err).splitlines() or [type(err).__name__])[0]},
            remedy="run the same command again: finished trials are kept",
        ) from err
    finally:
        shutil.rmtree(place, ignore_errors=True)
    died: dict[int, str] = {}
    for number in range(len(found)):
        result = found[number]
        config: dict[str, Any] = result.config or {}
        if result.error is not None and "place" in config:
            died[int(config["place"])] = (str(result.error).strip().splitlines() or ["its process died"])[-1]
    return died


def fitting(there: dict[str, float], resources: ResourcesSection) -> int:
    """How many jobs the cluster can run at once; at least one, which then takes what there is."""
    workers = resources.workers
    room = int(there.get("CPU", 0) // max(1, workers * resources.cpus))
    if resources.gpus:
        room = min(room, int(there.get("GPU", 0) / (workers * resources.gpus) + 1e-9))
    return max(1, room)


_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own record is the truth
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches the caller
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # resuming goes by our records, not by Tune's state
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def _trial(config: dict[str, Any]) -> dict[str, Any]:
    """What each Tune trial runs."""
    from pathlib import Path

    from ray import cloudpickle

    os.environ.update(config["environment"])
    sys.path.extend(path for path in config["paths"] if path not in sys.path)
    with contextlib.suppress(OSError):  # relative paths mean the driver's folder, where it exists
        os.chdir(config["cwd"])
    function, payloads = cloudpickle.loads(Path(config["call"]).read_bytes())
    function(payloads[config["place"]])
    return {"done": 1}


def _dumps(value: Any) -> bytes:
    from ray import cloudpickle

    data: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return data


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep Tune's own lines off the terminal: the live view says what a person wants to know."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air", "ray.train")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
