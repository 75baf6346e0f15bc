"""Looking before a long run: what batches look like, how long steps take, how much memory and disk they need."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mriad.errors import ExperimentError
from mriad.flow import Cases, gather_cases, make_streams
from mriad.preparation import Recipe, fit_steps
from mriad.stages.train import index_of
from mriad.training.protocols import Shard
from mriad.training.run import Run
from mriad.training.streams import StreamSet
from mriad.training.worker import peak_memory, plan_of, recipe_for, setup_of, used_cases

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.batch import Batch
    from mriad.experiment.model import Experiment
    from mriad.vocabulary import Sample

TRIED_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """What a dry run found. Seconds and bytes are for this machine, measured over a few real steps."""

    train_cases: int
    validation_cases: int
    test_cases: int
    persons: int
    parameters: int
    step_seconds: float
    steps: int
    steps_per_epoch: int
    validations: int
    peak_memory_bytes: int
    prepared_bytes: int
    shapes: dict[str, tuple[int, ...]]
    """Shape of the image batch of each stream."""

    @property
    def hours(self) -> float:
        """Training time without validation."""
        return self.step_seconds * self.steps / 3600


def _ready(experiment: Experiment, store: Path) -> tuple[Cases, Recipe]:
    if experiment.data.labels.from_:
        raise ExperimentError(
            "the labels of this experiment are made by one of its stages",
            where={"data.labels.from": experiment.data.labels.from_},
            remedy="look at it with labels that are there already: --set data.labels=hard",
        )
    cases = gather_cases(experiment, index_of(experiment), experiment.fold, experiment.seed)
    recipe = recipe_for(experiment, cases, str(store))
    return cases, fit_steps(cases.side("train"), recipe)


def _streams(experiment: Experiment, cases: Cases, recipe: Recipe, device: torch.device) -> StreamSet:
    by_id = {case.id: case for case in cases.index}
    made: dict[str, Sample] = {}

    def load(case: str) -> Sample:
        if case not in made:
            made[case] = recipe.sample(by_id[case])
        return made[case]

    streams = make_streams(experiment, cases, load, experiment.seed)
    return StreamSet(streams, Shard(), device, experiment.budget.epoch)


def draw_batches(experiment: Experiment, count: int, store: Path) -> dict[str, list[Batch]]:
    """Draw at least `count` augmented samples of every stream and view, as training would see them first.

    Only the cases that are drawn are read and prepared.

    Raises:
        MriadError: data or experiment are at fault.
    """
    cases, recipe = _ready(experiment, store)
    together = _streams(experiment, cases, recipe, torch.device("cpu"))
    smallest = min(stream.batch for stream in together.streams.values())
    drawn: dict[str, list[Batch]] = {}
    for batches in together.batches(-(-count // smallest)):
        for name, batch in batches.items():
            kept = drawn.setdefault(name, [])
            if sum(len(b) for b in kept) < count:
                kept.append(batch)
    return drawn


def estimate(experiment: Experiment, store: Path, device: str = "cpu") -> Estimate:
    """Take a few real steps with the real network and say what the whole run will need.

    Raises:
        MriadError: data or experiment are at fault, as in a real run.
        torch.OutOfMemoryError: the batch does not fit on the GPU.
    """
    place = torch.device(device)
    cases, recipe = _ready(experiment, store)
    together = _streams(experiment, cases, recipe, place)
    budget = experiment.budget
    run = Run(
        device=place,
        shard=Shard(),
        steps=budget.steps,
        steps_per_epoch=together.steps_per_epoch,
        seed=experiment.seed,
        precision=budget.precision,
    )
    algorithm = experiment.learner.build(setup_of(experiment, cases, place, experiment.seed))
    algorithm.train()
    seconds, shapes = [], {}
    threads = torch.get_num_threads()
    torch.set_num_threads(experiment.resources.cpus)
    try:
        for step, batches in enumerate(together.batches(TRIED_STEPS)):
            shapes = {name: tuple(batch.image.shape) for name, batch in batches.items()}
            start = time.perf_counter()
            run.begin(step, batches)
            algorithm.step(batches, run)
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    plan = plan_of(experiment, together.steps_per_epoch, list(experiment.evaluate.metrics))
    one = recipe.sample(cases.side("train")[0])
    arrays = [a for a in (one.image, one.target, one.validity, one.field) if a is not None]
    return Estimate(
        train_cases=len(cases.split["train"]),
        validation_cases=len(cases.split["validation"]),
        test_cases=len(cases.split["test"]),
        persons=len(cases.index.persons),
        parameters=sum(p.numel() for network in algorithm.networks().values() for p in network.parameters()),
        step_seconds=min(seconds),  # the first step allocates; the fastest is what the rest will take
        steps=budget.steps,
        steps_per_epoch=together.steps_per_epoch,
        validations=budget.steps // plan.validate_every,
        peak_memory_bytes=peak_memory(place),
        prepared_bytes=sum(a.nbytes for a in arrays) * len(used_cases(cases)),
        shapes=shapes,
    )
