"""Looking before a long run: what batches look like; what steps, validation and tests will take; memory and disk."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mriad.errors import ExperimentError
from mriad.flow import Cases, gather_cases, make_streams
from mriad.preparation import Recipe, fit_steps
from mriad.stages.evaluate import EvaluateStage, measure_case
from mriad.stages.graph import expand
from mriad.stages.train import index_of
from mriad.training.protocols import Shard
from mriad.training.run import Run
from mriad.training.streams import StreamSet
from mriad.training.worker import (
    can_judge,
    peak_memory,
    plan_of,
    recipe_for,
    setup_of,
    used_cases,
    validate_case,
    validated_cases,
)

if TYPE_CHECKING:
    from mriad.batch import Batch
    from mriad.experiment.model import Experiment
    from mriad.training.algorithm import Algorithm
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
    validated_cases: int
    """In each validation; 0 where nothing is validated."""
    validation_case_seconds: float
    """Of one validation case: predicted whole and scored."""
    tested_cases: int
    """Over all stages that test; 0 where none does."""
    test_case_seconds: float
    """Of one test case: read, prepared, predicted and scored on its own grid."""
    workers: int
    peak_memory_bytes: int
    prepared_bytes: int
    shapes: dict[str, tuple[int, ...]]
    """Shape of the image batch of each stream."""

    @property
    def training_seconds(self) -> float:
        """All steps, without validation."""
        return self.step_seconds * self.steps

    @property
    def validation_seconds(self) -> float:
        """All validations; workers share the cases."""
        return -(-self.validated_cases // self.workers) * self.validation_case_seconds * self.validations

    @property
    def test_seconds(self) -> float:
        """All tests, in one process; without the figures."""
        return self.tested_cases * self.test_case_seconds

    @property
    def seconds(self) -> float:
        """Training, validations and tests."""
        return self.training_seconds + self.validation_seconds + self.test_seconds


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
    """Take a few real steps with the real network, validate and test a case, and say what the whole run will need.

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
        validation = _try_validation(experiment, cases, recipe, algorithm, place)
        test = _try_test(experiment, cases, recipe, algorithm, device)
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
        validated_cases=validation[0],
        validation_case_seconds=validation[1],
        tested_cases=test[0],
        test_case_seconds=test[1],
        workers=experiment.resources.workers,
        peak_memory_bytes=peak_memory(place),
        prepared_bytes=sum(a.nbytes for a in arrays) * len(used_cases(cases)),
        shapes=shapes,
    )


def _try_validation(
    experiment: Experiment, cases: Cases, recipe: Recipe, algorithm: Algorithm, device: torch.device
) -> tuple[int, float]:
    """How many cases each validation has, and the seconds of one."""
    metrics = [metric for metric in experiment.evaluate.metrics if can_judge(metric)]
    wanted = validated_cases(cases) if metrics else []
    if not wanted:
        return 0, 0.0
    sample = recipe.sample(next(case for case in cases.index if case.id == wanted[0]))
    start = time.perf_counter()
    validate_case(experiment, cases.task, algorithm, sample, cases.label, metrics, device)
    return len(wanted), time.perf_counter() - start


def _try_test(
    experiment: Experiment, cases: Cases, recipe: Recipe, algorithm: Algorithm, device: str
) -> tuple[int, float]:
    """How many cases are tested over all stages, and the seconds of one, by a predictor as a run would keep it."""
    from mriad.inference.load import load_predictor, save_predictor
    from mriad.person_rows import with_needed

    name = experiment.evaluate.reference or cases.label
    stages = [node.stage for node in expand(experiment) if isinstance(node.stage, EvaluateStage)]
    wanted = [case for stage in stages for case in cases.side(stage.cases) if name in case.labels]
    if not wanted or experiment.learner.yields == "weights":
        return 0, 0.0
    with tempfile.TemporaryDirectory(prefix="mriad-dry-run-") as folder:
        save_predictor(
            Path(folder) / "predictor",
            task=cases.task,
            predict=experiment.predict,
            model=experiment.model,
            preprocessing=experiment.data.preprocessing,
            parameters=recipe.parameters,
            networks={key: network.state_dict() for key, network in algorithm.predicting().items()},
        )
        case, metrics = wanted[0], with_needed(experiment.evaluate.metrics)
        predictor = load_predictor(Path(folder) / "predictor", device, case.domain)
        whole = cases.index.label_set if experiment.data.structures else None
        start = time.perf_counter()
        measure_case(experiment, metrics, case, name, predictor, Path(folder), whole)
        return len(wanted), time.perf_counter() - start
