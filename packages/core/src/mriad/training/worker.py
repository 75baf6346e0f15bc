"""What each training worker does: cases → streams → learner → loop → predictor. Launchers call `train_worker`."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mriad.errors import ExperimentError
from mriad.evaluation import Reference, score_case, summarise
from mriad.experiment.model import Experiment
from mriad.flow import Cases, follow_persons, gather_cases, make_streams, overfit, validating_on
from mriad.launch.checkpoints import FolderCheckpoints
from mriad.painted import as_segmented, painted, painters_of, require_one_orientation
from mriad.preparation import Recipe, fit_steps, prepare
from mriad.stages.members import inner_split
from mriad.stages.train import index_of
from mriad.training import distributed
from mriad.training.algorithm import LearnerSetup
from mriad.training.compiling import as_written
from mriad.training.loop import Plan, fit
from mriad.training.run import Run
from mriad.training.start import load_start
from mriad.training.streams import StreamSet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.evaluation import Row
    from mriad.interfaces import Metric
    from mriad.launch.protocol import WorkerContext
    from mriad.preparation import Prepared
    from mriad.training.algorithm import Algorithm
    from mriad.vocabulary import Case, Sample, Task


@dataclass(frozen=True)
class TrainPayload:
    """What a worker is given; plain values, so that it travels to any process."""

    experiment: dict[str, Any]
    fold: int
    seed: int
    inner: tuple[int, int] | None
    overfit: int
    store: str
    datasets: tuple[str, ...]
    labels: str
    start: str
    key_map: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    """Folders of artefacts that components refer to, by stage name."""


def train_worker(context: WorkerContext[TrainPayload]) -> dict[str, Any]:
    """Train from the last checkpoint or the start; return what the run's summary holds.

    Raises:
        MriadError: data, experiment, checkpoint or place are at fault; see the loop and the preparation.
    """
    payload, folder = context.payload, context.folder
    experiment = Experiment.model_validate(payload.experiment)
    device = torch.device(context.device)
    forget_peak(device)
    cases = cases_for(experiment, payload)
    recipe = recipe_for(experiment, cases, payload.store)
    prepared = _prepare_once(context, experiment, cases, recipe)
    if recipe.painted and context.rank == 0:
        require_one_orientation(prepared)

    streams = StreamSet(
        make_streams(experiment, cases, prepared.of, payload.seed),
        context.shard,
        device,
        experiment.budget.epoch,
        experiment.resources.loaders,
    )
    budget = experiment.budget
    run = Run(
        device=device,
        shard=context.shard,
        steps=budget.steps,
        steps_per_epoch=streams.steps_per_epoch,
        seed=payload.seed,
        precision=budget.precision,
    )
    algorithm = experiment.learner.build(setup_of(experiment, cases, device, payload.seed))
    if payload.start:
        context.reporter.message(load_start(algorithm.networks(), payload.start, payload.key_map))
    validator = _Validator(experiment, cases, prepared, context)
    plan = plan_of(experiment, streams.steps_per_epoch, validator.metrics)
    progress = fit(
        run,
        algorithm,
        streams,
        plan,
        context.reporter,
        context.checkpoints,
        validator if validator.cases else None,
    )
    best = context.checkpoints.load("best") if progress.best is not None else None
    if best is not None:
        algorithm.load_state_dict(best["learner"])
    if context.rank == 0:
        _save(experiment, cases, prepared.recipe, algorithm, folder)
    distributed.barrier()
    samples = progress.step * sum(stream.batch for stream in streams.streams.values())
    summary = {
        "steps": progress.step,
        "samples": samples,
        "seconds": round(progress.seconds, 3),
        "waiting_seconds": round(progress.waiting, 3),
        "peak_memory_bytes": peak_memory(device),
        "threads": torch.get_num_threads(),
        "workers": context.world,
        "parameters": sum(p.numel() for p in algorithm.predicts().parameters()),
        "train_cases": len(cases.split["train"]),
        "validation_cases": len(validator.cases),
        "weights": "best" if best is not None else "last",
    }
    if progress.best is not None:
        summary |= {"best": progress.best, "best_step": progress.best_step, "best_key": plan.stop_on}
    return summary


def setup_of(experiment: Experiment, cases: Cases, device: torch.device, seed: int) -> LearnerSetup:
    """What the experiment's learner is built from."""
    budget = experiment.budget
    return LearnerSetup(
        task=cases.task,
        model=experiment.model,
        loss=experiment.loss,
        optimiser=experiment.optimiser,
        schedule=experiment.schedule,
        device=device,
        seed=seed,
        updates=max(1, budget.steps // budget.accumulate),
        accumulate=budget.accumulate,
        clip_norm=budget.clip_norm,
        compile=budget.compile,
    )


def cases_for(experiment: Experiment, payload: TrainPayload) -> Cases:
    """Cases of the fold, of the member of an ensemble, or of an overfitting trial.

    Only the experiment's own data set is split; what stages made of it follows its persons.
    """
    derived = index_of(experiment, payload.datasets, payload.labels) if payload.datasets else None
    own = index_of(experiment, labels="" if derived is not None else payload.labels)
    cases = gather_cases(experiment, own, payload.fold, experiment.seed, made_later=derived is not None)
    if payload.inner is not None:
        training, validation = inner_split(cases.side("train"), payload.inner, experiment.seed)
        cases = replace(cases, split={**cases.split, "train": training, "validation": validation})
    if derived is not None:
        cases = follow_persons(experiment, derived, cases)
    cases = validating_on(experiment.data.validate_on, cases)
    cases = replace(cases, task=replace(cases.task, inputs=payload.inputs))
    return overfit(cases, payload.overfit) if payload.overfit else cases


def recipe_for(experiment: Experiment, cases: Cases, store: str) -> Recipe:
    """How a case becomes a sample: channels, target, steps, store."""
    steps = tuple(experiment.data.preprocessing)
    return Recipe(
        channels=cases.task.channels,
        label_set=cases.index.label_set,
        domain_sets={domain: found for domain, found in cases.task.label_sets.items() if domain},
        label_name=cases.label,
        kind=experiment.data.labels.kind,
        steps=steps,
        parameters=(None,) * len(steps),
        store=experiment.data.store.build(Path(store)),
        painted=bool(painters_of(experiment)),
    )


def used_cases(cases: Cases) -> list[Case]:
    """Training cases, then validation cases, each once."""
    return list({case.id: case for side in ("train", "validation") for case in cases.side(side)}.values())


def _prepare_once(
    context: WorkerContext[TrainPayload], experiment: Experiment, cases: Cases, recipe: Recipe
) -> Prepared:
    """Rank 0 fits and prepares; the others wait and read the store."""
    wanted = used_cases(cases)
    message = context.reporter.message

    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > 5:
            told = time.monotonic()
            message(f"prepared {done} of {total} cases")

    if context.rank == 0:
        recipe = fit_steps(cases.side("train"), recipe, experiment.resources.loaders)
        prepare(wanted, recipe, experiment.resources.loaders, tell)
    parameters = distributed.gather_objects(recipe.parameters)[0]
    distributed.barrier()
    return prepare(wanted, replace(recipe, parameters=parameters))


def plan_of(experiment: Experiment, steps_per_epoch: int, metrics: list[Metric]) -> Plan:
    """When to validate, save and stop."""
    budget = experiment.budget
    validate = budget.validate_every or steps_per_epoch
    judges = [m for m in metrics if can_judge(m)]
    wanted = experiment.evaluate.stop_on or (f"val/{judges[0].key()}" if judges else "")
    wanted = f"val/{wanted.removeprefix('val/')}" if wanted else ""
    # Where a metric is best at a value, its summary is the mean size of the error: lower is better.
    judge = next((m for m in judges if wanted.removeprefix("val/").split("/")[0] == m.key()), None)
    if wanted and judge is None:
        raise ExperimentError(
            f"evaluate.stop_on '{experiment.evaluate.stop_on}' is no metric of this experiment that could judge",
            where={"metrics": ", ".join(m.key() for m in judges) or "none"},
            remedy="stop_on: dice, or dice/STRUCTURE",
        )
    # The stage's fingerprint holds the first metric, so the one that chooses silently must be that.
    if (
        judge is not None
        and not experiment.evaluate.stop_on
        and not can_judge(experiment.evaluate.metrics[0])
    ):
        raise ExperimentError(
            f"the first metric, {experiment.evaluate.metrics[0].key()}, cannot choose a checkpoint",
            remedy=f"put {judge.key()} first, or set evaluate.stop_on: {judge.key()}",
        )
    return Plan(
        steps=budget.steps,
        validate_every=validate,
        checkpoint_every=budget.checkpoint_every or validate,
        patience=budget.patience,
        stop_on=wanted,
        higher_is_better=judge is None or judge.direction == "higher",
    )


def can_judge(metric: Metric) -> bool:
    """Whether a metric can be measured in validation and tell better from worse.

    On the working grid there are no annotations; a person's value needs all its cases.
    """
    return metric.level == "case" and not metric.reads and metric.direction != "none" and not metric.literal


def validate_case(
    experiment: Experiment,
    task: Task,
    algorithm: Algorithm,
    sample: Sample,
    label: str,
    metrics: list[Metric],
    device: torch.device,
) -> list[Row]:
    """Predict a prepared case whole and score it against its training target, on the working grid.

    A label map without an image is painted, alike each time.
    """
    from mriad.inference.segmenter import predict_whole

    if len(sample.image):
        sample = as_segmented(sample, task)
    else:
        sample = painted(sample, painters_of(experiment), task, experiment.seed, device)
    networks = list(algorithm.predicting().values())
    with as_written():
        found = predict_whole(networks, sample, experiment.predict, task, device, experiment.model)
    reference = Reference.of_sample(sample, label)
    return score_case(found, sample.grid, reference, task.label_set(sample.domain), metrics)


def validated_cases(cases: Cases) -> list[str]:
    """Validation cases that have the training label."""
    return [case.id for case in cases.side("validation") if cases.label in case.labels]


class _Validator:
    """Predicts validation cases whole and scores them against the training target, on the working grid."""

    def __init__(
        self, experiment: Experiment, cases: Cases, prepared: Prepared, context: WorkerContext[TrainPayload]
    ) -> None:
        self.experiment, self.task, self.prepared, self.label = experiment, cases.task, prepared, cases.label
        self.metrics = [m for m in experiment.evaluate.metrics if can_judge(m)]
        self.cases = validated_cases(cases) if self.metrics else []
        self.mine = self.cases[context.rank :: context.world]
        self.device = torch.device(context.device)

    def __call__(self, algorithm: Algorithm) -> Mapping[str, float]:
        """Return means by "metric/structure", and by "metric" over structures."""
        rows = []
        for case in self.mine:
            sample = self.prepared.of(case)
            rows += validate_case(
                self.experiment, self.task, algorithm, sample, self.label, self.metrics, self.device
            )
        together = [row for part in distributed.gather_objects(rows) for row in part]
        values: dict[str, float] = {}
        for summary in summarise(together):
            values[f"{summary.metric}/{summary.structure}"] = summary.with_worst
        for metric in self.metrics:
            found_values = [v for k, v in values.items() if k.startswith(f"{metric.key()}/") and v == v]
            if found_values:
                values[metric.key()] = sum(found_values) / len(found_values)
        return values


def _save(experiment: Experiment, cases: Cases, recipe: Recipe, algorithm: Algorithm, folder: Path) -> None:
    """Keep what predicts; or, where nothing does, every network's weights to start others from."""
    if experiment.learner.yields == "weights":
        states = {name: network.state_dict() for name, network in algorithm.networks().items()}
        FolderCheckpoints(folder / "weights").save("weights", states)
        return
    from mriad.inference.load import save_predictor

    save_predictor(
        folder / "predictor",
        task=cases.task,
        predict=experiment.predict,
        model=experiment.model,
        preprocessing=experiment.data.preprocessing,
        parameters=recipe.parameters,
        networks={name: network.state_dict() for name, network in algorithm.predicting().items()},
    )


def forget_peak(device: torch.device) -> None:
    """Begin to measure the peak anew: a process that runs several trainings would report the largest for all."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # proc(5): 5 resets the peak resident size; not on every system
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes since `forget_peak`: of the GPU where there is one, else the largest resident size of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
