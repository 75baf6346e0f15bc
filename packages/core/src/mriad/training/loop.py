"""The training loop. It knows a rank, a device and three protocols; no Ray, no MLflow, no paths."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from mriad.training import checkpoint, distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from mriad.training.algorithm import Algorithm
    from mriad.training.protocols import CheckpointStore, Reporter
    from mriad.training.run import Run
    from mriad.training.streams import StreamSet

    Validate = Callable[[Algorithm], Mapping[str, float]]


@dataclass
class Progress:
    """Where a run is; part of every checkpoint."""

    step: int = 0
    """Steps done."""
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    seconds: float = 0.0
    waiting: float = 0.0
    """Seconds that steps waited for batches."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums since the last report, so that resuming in mid-epoch reports the same means."""
    counts: dict[str, int] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "sums": dict(self.sums), "counts": dict(self.counts)}


@dataclass(frozen=True)
class Plan:
    """When to do what, in steps."""

    steps: int
    validate_every: int
    checkpoint_every: int
    patience: int = 0
    stop_on: str = ""
    """Validation key that chooses the best checkpoint; "" keeps the last."""
    higher_is_better: bool = True

    def better(self, new: float, old: float | None) -> bool:
        """Whether `new` beats `old`; a value that is not a number never does."""
        if new != new:
            return False
        if old is None:
            return True
        return new > old if self.higher_is_better else new < old


def state_of(run: Run, algorithm: Algorithm, streams: StreamSet, progress: Progress) -> dict[str, Any]:
    """Everything that resuming needs, of all ranks; every rank calls this, after `agree`."""
    learner = algorithm.state_dict()
    extras = distributed.gather_objects(_on_cpu(learner["extra"]))
    return {
        "format": checkpoint.FORMAT,
        "learner": learner,
        # What a learner keeps besides (pools of images) differs between ranks: one entry each, of several ranks.
        "extra_by_rank": extras if len(extras) > 1 else [],
        "streams": streams.state_dict(),
        "progress": progress.state_dict(),
        "scaler": run.scaler.state_dict(),
        "generator": torch.get_rng_state(),
        "generator_device": [s.cpu() for s in torch.cuda.get_rng_state_all()]
        if run.device.type == "cuda"
        else [],
    }


def restore(state: Mapping[str, Any], run: Run, algorithm: Algorithm, streams: StreamSet) -> Progress:
    """Put a checkpoint back.

    Each rank gets the extra state that it had; with another number of ranks, all get rank 0's.

    Raises:
        CheckpointError: another format, learner or architecture.
    """
    checkpoint.check_format(state)
    extras = state.get("extra_by_rank", [])
    own = {"extra": extras[run.rank]} if run.world > 1 and len(extras) == run.world else {}
    algorithm.load_state_dict({**state["learner"], **own})
    streams.load_state_dict(state["streams"])
    if run.scaler.is_enabled():
        run.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["generator"])
    if state["generator_device"] and run.device.type == "cuda":
        torch.cuda.set_rng_state_all(state["generator_device"])
    return Progress(**state["progress"])


def agree(algorithm: Algorithm) -> None:
    """Make what a checkpoint holds once the same on all ranks: pending gradients and buffers become their means.

    Averaging again later changes nothing: mean(mean(a) + b) = mean(a) + mean(b). With one rank nothing happens.
    """
    for optimised in algorithm.optimisers().values():
        if optimised.pending:
            distributed.average_gradients([p for p in optimised.parameters if p.requires_grad])
    distributed.agree_on_buffers(algorithm.networks().values())


def _on_cpu(value: Any) -> Any:
    """Plain containers with their tensors on the CPU, so that a rank without that device can read them."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for what draws inside networks (dropout), as a function of (seed, step, rank)."""
    torch.manual_seed((seed * 1_000_003 + step * 1009 + rank) % 2**63)


def fit(
    run: Run,
    algorithm: Algorithm,
    streams: StreamSet,
    plan: Plan,
    reporter: Reporter,
    checkpoints: CheckpointStore,
    validate: Validate | None = None,
) -> Progress:
    """Train from the last checkpoint (or the start) to the end of the plan.

    Every rank calls this; rank 0's reporter and checkpoint store are the ones that act. `validate` is called on
    every rank with the learner and returns the same values on all.

    Raises:
        NonFiniteError: a loss or gradient is not finite; the last checkpoint is still there.
        CheckpointError, StorageError: a checkpoint cannot be read or written.
    """
    progress = Progress()
    saved = checkpoints.load("last")
    if saved is not None:
        progress = restore(saved, run, algorithm, streams)
        reporter.message(f"resumed at step {progress.step} of {plan.steps}")
    algorithm.train()
    clock = time.perf_counter()
    batches = streams.batches(plan.steps - progress.step)

    while progress.step < plan.steps and not _stopped(plan, progress):
        start = time.perf_counter()
        current = next(batches)
        progress.waiting += time.perf_counter() - start
        run.begin(progress.step, current)
        seed_step(run.seed, progress.step, run.rank)
        _add(progress, algorithm.step(current, run))
        progress.step += 1
        reporter.progress(progress.step, plan.steps)

        ended = progress.step == plan.steps
        if ended or progress.step % plan.validate_every == 0:
            values = _report(progress, algorithm)
            if validate is not None:
                values |= {f"val/{k}": v for k, v in _validated(validate, algorithm).items()}
            progress.seconds, clock = progress.seconds + time.perf_counter() - clock, time.perf_counter()
            values["compute/seconds"] = progress.seconds
            values["compute/waiting_fraction"] = progress.waiting / max(progress.seconds, 1e-9)
            reporter.log(progress.step, values)
            if _note_best(plan, progress, values):
                _save(run, algorithm, streams, progress, checkpoints, "best")
        if ended or progress.step % plan.checkpoint_every == 0 or _stopped(plan, progress):
            _save(run, algorithm, streams, progress, checkpoints, "last")
    if _stopped(plan, progress):
        reporter.message(
            f"stopped at step {progress.step}: no better {plan.stop_on} in {plan.patience} validations "
            f"(best at step {progress.best_step})"
        )
    return progress


def _stopped(plan: Plan, progress: Progress) -> bool:
    return plan.patience > 0 and progress.stale >= plan.patience


def _add(progress: Progress, values: Mapping[str, Tensor | float]) -> None:
    """Sum up what a step reports. One transfer from the device a step would stall it: tensors stay there."""
    for name, value in values.items():
        kept = value.detach() if isinstance(value, torch.Tensor) else float(value)
        progress.sums[name] = progress.sums.get(name, 0.0) + kept  # type: ignore[assignment]
        progress.counts[name] = progress.counts.get(name, 0) + 1


def _settle(progress: Progress) -> None:
    progress.sums = {name: float(value) for name, value in progress.sums.items()}


def _report(progress: Progress, algorithm: Algorithm) -> dict[str, float]:
    """Means over the steps since the last report and over ranks, and the learning rates."""
    _settle(progress)
    means = {name: progress.sums[name] / progress.counts[name] for name in progress.sums}
    rows = distributed.gather_objects(means)
    values = {f"train/{name}": sum(r[name] for r in rows) / len(rows) for name in means}
    for name, optimised in algorithm.optimisers().items():
        values[f"train/learning_rate/{name}"] = float(optimised.optimiser.param_groups[0]["lr"])
    progress.sums, progress.counts = {}, {}
    return values


def _validated(validate: Validate, algorithm: Algorithm) -> Mapping[str, float]:
    distributed.agree_on_buffers(algorithm.networks().values())
    for network in algorithm.networks().values():
        network.eval()
    with torch.inference_mode():
        values = validate(algorithm)
    algorithm.train()
    return values


def _note_best(plan: Plan, progress: Progress, values: Mapping[str, float]) -> bool:
    if not plan.stop_on or plan.stop_on not in values:
        return False
    if plan.better(values[plan.stop_on], progress.best):
        progress.best, progress.best_step, progress.stale = values[plan.stop_on], progress.step, 0
        return True
    progress.stale += 1
    return False


def _save(
    run: Run,
    algorithm: Algorithm,
    streams: StreamSet,
    progress: Progress,
    checkpoints: CheckpointStore,
    name: str,
) -> None:
    _settle(progress)
    # A checkpoint holds one rank's sums: make them those of all, so that going on and resuming report the same.
    rows = distributed.gather_objects(progress.sums)
    progress.sums = {key: sum(row[key] for row in rows) / len(rows) for key in progress.sums}
    agree(algorithm)
    state = state_of(run, algorithm, streams, progress)
    if run.rank == 0:
        checkpoints.save(name, state)
    distributed.barrier()
