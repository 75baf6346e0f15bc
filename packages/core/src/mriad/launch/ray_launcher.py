"""The launcher on Ray Train: 1 to N workers, on this machine or a cluster; a dead worker is started again.

The only module that imports ray. Checkpoints and reports are files of the run's folder, so Ray carries
neither: a restarted worker resumes from the folder by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from mriad.errors import LaunchError
from mriad.launch.files import RunsRoot, make_folder
from mriad.launch.lease import leased
from mriad.launch.place import SEEN_WITHIN_S, check_place, check_shared, in_job, look
from mriad.launch.process_tree import Process, started_with, wait_gone
from mriad.launch.protocol import Launcher, require_absolute, visible_cpus
from mriad.launch.ray_settings import host_and_port, make_token, ray_environment
from mriad.launch.ray_watch import unless_ray_dies
from mriad.launch.relay import relay
from mriad.launch.worker import (
    Assignment,
    Outcome,
    WorkerTraceback,
    attempt,
    final_outcome,
    leave_failure,
    left_failure,
    work,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mriad.experiment.model import ResourcesSection
    from mriad.launch.protocol import WorkerContext
    from mriad.training.protocols import Reporter

P = TypeVar("P")
R = TypeVar("R")

MAX_FAILURES = 3
"""How often workers may die before a run fails."""
CONNECT_S = 15.0
ANSWER_S = 60.0
"""How long a node may take to start a process that looks at the runs root."""
GONE_S = 30.0
"""How long `close` waits for the embedded Ray's processes before it kills them."""
_MIB = 2**20
_VITAL = ("gcs_server", "raylet")
_GOES_ON = "run the same command again: it goes on from the last checkpoint"


class RayLauncher(Launcher):
    """Joins `RAY_ADDRESS` or the job's cluster, else starts an embedded Ray on loopback and ends it.

    Args:
        root: the runs root; holds the token of an embedded Ray.
        tracking: URI of the tracking store, for `check_place`.
        message: takes a line for a person.
        max_failures: how often workers may die in one run.
    """

    name = "ray"

    def __init__(
        self,
        root: RunsRoot,
        tracking: str = "",
        message: Callable[[str], None] | None = None,
        max_failures: int = MAX_FAILURES,
    ) -> None:
        self.root = root
        self.tracking = tracking
        self.max_failures = max_failures
        self._message = message or (lambda text: None)
        self._embedded_cpus = 0  # 0: not ours
        self._vital: dict[str, Process] = {}
        self._sigterm: Any = None

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
        """See `Launcher.run`. `folder` lies on storage that all nodes share."""
        require_absolute(folder)
        self.start(resources)
        with leased(folder) as lease, relay(folder, reporter):
            # A fresh name for each call: Ray would otherwise pick up its own state of an earlier try, while
            # ours is what counts.
            unique = f"{name}-{lease.token[:6]}{secrets.token_hex(3)}"
            assignment = Assignment(folder, resources.cpus, lease.path, lease.token, self.name)
            with unless_ray_dies(self, _GOES_ON):
                result: R = _fit(function, payload, assignment, resources, unique, self.max_failures)
            return result

    def start(self, resources: ResourcesSection) -> None:
        """Join or start Ray so that `resources` can be had.

        Raises:
            LaunchError: the cluster cannot be reached, or its place does not suit (see `check_place`).
        """
        needed = resources.workers * resources.cpus
        address = os.environ.get("RAY_ADDRESS", "")
        joins = in_job() or address not in ("", "local")
        check_place(self.root, self.tracking, in_job=in_job())
        ray_environment(None if joins else self.root.ray_token, address)
        import ray

        if 0 < self._embedded_cpus < needed:
            self.close()  # a larger one is needed
        if ray.is_initialized():
            pass  # ours, or that of a notebook or a Tune trial
        elif joins:
            self._join(address or "auto")
            if len(_nodes()) > 1:
                check_place(self.root, self.tracking, nodes=len(_nodes()))
                check_shared(self.root, _look_on_every_node)
        else:
            self._embed(max(needed, visible_cpus()))
            if needed > visible_cpus():
                self._message(
                    f"{needed} CPUs are asked for and {visible_cpus()} are here: threads take turns"
                )
        check_place(self.root, self.tracking, in_job=in_job(), nodes=len(_nodes()))
        self._say_what_lacks(resources)

    def close(self) -> None:
        """End the embedded Ray; a cluster that was joined goes on."""
        if not self._embedded_cpus:
            return
        import ray

        if ray.is_initialized():  # else the caller has shut it down
            # `ray.shutdown` may return seconds before the last worker is gone.
            ours = started_with(ray.get_runtime_context().get_session_name())
            ray.shutdown()
            wait_gone(ours, GONE_S)
        self._embedded_cpus = 0
        self._vital = {}
        if self._sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)

    def dead(self) -> str:
        """Which process has ended that the embedded Ray cannot do without; "" while all run, or Ray is not ours."""
        return next((name for name, process in self._vital.items() if not process.runs), "")

    def _join(self, address: str) -> None:
        import ray

        try:
            _require_listener(address)
            ray.init(
                address=address, configure_logging=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (OSError, RuntimeError, ValueError) as err:
            raise LaunchError(
                "the Ray cluster cannot be joined",
                where={"address": address, "reason": (str(err).splitlines() or [type(err).__name__])[0]},
                remedy="start it (`ray start --head`), correct RAY_ADDRESS, or unset it for an embedded Ray",
            ) from err

    def _embed(self, cpus: int) -> None:
        import ray

        make_token(self.root.ray_token)
        if threading.current_thread() is threading.main_thread():
            self._sigterm = signal.getsignal(signal.SIGTERM)  # ray.init puts its own in place
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                configure_logging=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=100 * _MIB,  # nothing but configurations goes through it
            )
        except (ConnectionError, TimeoutError, RuntimeError, OSError) as err:
            raise LaunchError(
                "an embedded Ray cannot be started",
                where={"reason": (str(err).splitlines() or [type(err).__name__])[0]},
                remedy="use --launcher inline, or look at /tmp/ray/session_latest/logs",
            ) from err
        self._embedded_cpus = cpus
        ours = started_with(ray.get_runtime_context().get_session_name())
        self._vital = {
            name: process
            for process in ours
            for name in _VITAL
            if process.command.split(" ", 1)[0].endswith(f"/{name}")
        }

    def _say_what_lacks(self, resources: ResourcesSection) -> None:
        """Say it where a run would wait: a cluster may grow, so that is no error."""
        import ray

        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        for kind, each in (("CPU", float(resources.cpus)), ("GPU", resources.gpus)):
            asked = each * resources.workers
            if asked <= there.get(kind, 0):
                continue
            if self._embedded_cpus:
                self.close()
                raise LaunchError(
                    f"this machine does not have the {kind}s that are asked for",
                    where={"asked": f"{asked:g} {kind}", "here": f"{there.get(kind, 0):g}"},
                    remedy=f"lower resources.{kind.lower()}s or workers, or join a cluster (RAY_ADDRESS)",
                )
            self._message(
                f"{asked:g} {kind} asked for, {there.get(kind, 0):g} in the cluster: waiting for more nodes"
            )


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _look_on_every_node(mark: str, text: str) -> dict[str, str]:
    """What `look` says on each node, by its name and address."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})": task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(mark, text)
        for node in _nodes()
    }
    answers: dict[str, str] = {}
    until = time.monotonic() + SEEN_WITHIN_S + ANSWER_S
    for node, answer in asked.items():
        try:
            answers[node] = str(ray.get(answer, timeout=max(0.1, until - time.monotonic())))
        except (ray.exceptions.RayError, TimeoutError, ImportError) as err:
            lines = str(err).strip().splitlines() or [type(err).__name__]
            answers[node] = f"no answer: {lines[-1]}"
    return answers


def _fit(
    function: Callable[[WorkerContext[P]], R],
    payload: P,
    assignment: Assignment,
    resources: ResourcesSection,
    name: str,
    max_failures: int,
) -> Any:
    """Run the function in Ray Train workers and return rank 0's value."""
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    loop: Any = _in_worker  # ray's types know no return value
    trainer = TorchTrainer(
        loop,
        train_loop_config={
            "assignment": assignment,
            "paths": [path for path in sys.path if path],
            "cwd": os.getcwd(),  # noqa: PTH109
            "environment": {key: value for key, value in os.environ.items() if key.startswith("MRIAD_")},
            # A pickle of its own: it names modules that are found only when `paths` are in place.
            "call": _dumps((function, payload)),
        },
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus}
            | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(make_folder(assignment.folder / "ray")),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        with _quiet(), _interruptible():
            result: Any = trainer.fit()
    except TrainingFailedError as err:
        raise _what_failed(err, resources.workers, max_failures) from err
    except RayError as err:  # not the workers, but what watches over them
        raise LaunchError(
            "Ray ended before the run did",
            where={"run": name, "reason": (str(err).strip().splitlines() or [type(err).__name__])[0]},
            remedy=_GOES_ON,
        ) from err
    finally:
        shutil.rmtree(
            assignment.folder / "ray", ignore_errors=True
        )  # Ray's own notes, of no use to the next try
    outcome = result.return_value
    if not isinstance(outcome, Outcome):
        raise LaunchError(
            "the workers ended without a result", where={"run": name, "folder": assignment.folder}
        )
    return outcome.result()


def _dumps(value: Any) -> bytes:
    from ray import cloudpickle

    data: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return data


def _in_worker(config: dict[str, Any]) -> Outcome:
    """What each Ray Train worker runs."""
    from ray import cloudpickle, train
    from ray.train.torch import get_device

    assignment: Assignment = config["assignment"]
    os.environ.update(config["environment"])
    sys.path.extend(path for path in config["paths"] if path not in sys.path)
    with contextlib.suppress(OSError):  # relative paths mean the driver's folder, where it exists
        os.chdir(config["cwd"])
    rank, world = train.get_context().get_world_rank(), train.get_context().get_world_size()
    known = left_failure(assignment)
    if known is not None:
        return known
    if rank == 0:
        attempt(assignment)
    try:
        function, payload = cloudpickle.loads(config["call"])
        value = work(function, payload, assignment, rank=rank, world=world, device=str(get_device()))
    except Exception as err:
        outcome = final_outcome(err, world)
        if outcome is None:
            raise
        if world == 1:
            return outcome
        # The peers wait in a collective and can only be stopped by Ray, which starts all again: those see
        # the note.
        leave_failure(assignment, outcome)
        raise
    return Outcome(value if rank == 0 else None)


def _what_failed(err: Exception, world: int, max_failures: int) -> BaseException:
    """The worker's own error where there is one, else a LaunchError that says how it died."""
    failures: dict[int, Any] = getattr(err, "worker_failures", {})
    for failure in failures.values():
        base = getattr(failure, "_base_exc", None)
        if isinstance(base, BaseException):
            base.__cause__ = WorkerTraceback(str(failure))
            return base
    first = next(iter(failures.values()), err)
    return LaunchError(
        f"workers died {max_failures + 1} times" if failures else "Ray Train could not run the workers",
        where={"workers": world, "reason": (str(first).strip().splitlines() or [type(first).__name__])[0]},
        remedy="too little memory is the usual cause: smaller streams.*.batch or window; "
        "the run goes on from its last checkpoint when started again",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Train's controller lines off the terminal: reports say what a person wants to know."""
    logger = logging.getLogger("ray.train")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ray Train takes Ctrl-C, ends the workers and exits with 0: make that a KeyboardInterrupt again."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as err:
        raise KeyboardInterrupt from err
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def _require_listener(address: str) -> None:
    """Raise OSError where nobody listens; Ray itself would try for many minutes."""
    host, port = host_and_port(address)
    if host:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
