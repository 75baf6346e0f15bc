"""Searches as an ablation plans them: which trainings, what chooses among them, and what the winner's trials are.

A search belongs to a variant and a fold: it trains on the fold's training persons and judges by its validation
persons, so that no person whom a trial tests has had a part in choosing its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.ablation.halving import rungs
from mriad.ablation.space import draws, to_check
from mriad.ablation.suggest import require_optuna
from mriad.errors import ExperimentError, MriadError, SplitError
from mriad.flow import apply_domains, split_cases
from mriad.identity import fingerprint, short
from mriad.launch.trial import trial_id
from mriad.painted import painters_of
from mriad.stages.graph import expand
from mriad.stages.train import index_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.ablation.model import Search
    from mriad.experiment.model import Experiment
    from mriad.launch.files import RunsRoot

    Make = Callable[[Mapping[str, Any], int, int, str], Experiment]
    """Values of the space, fold, the ablation's seed, fingerprint of the search → experiment."""

TRAIN = "core.train"


@dataclass(frozen=True)
class SearchTrial:
    """One training of a search, as plain values that travel with its job."""

    number: int
    values: Mapping[str, Any]
    folder: str
    """Of the search."""
    node: str
    """The stage whose validation counts; what comes after it is not run, what measures test cases least of all."""
    key: str
    higher: bool
    rungs: tuple[int, ...]
    """Empty: every training runs to its end."""
    steps: int


@dataclass(frozen=True)
class Tried:
    """What came of one training of a search. `value`: the best validation, NaN where it had none."""

    number: int
    values: Mapping[str, Any]
    value: float = math.nan
    steps: float = 0
    seconds: float = 0
    stopped: bool = False
    """Given up before its end, so that it cannot win."""
    diverged: bool = False
    reason: str = ""
    """Why it failed; it is tried again by the next start."""

    @property
    def told(self) -> str:
        """`optimiser.lr=0.0034, loss=...`."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items())


@dataclass(frozen=True)
class PlannedSearch:
    """The search of one variant in one fold."""

    variant: str
    fold: int
    seed: int
    """The ablation's first: weights and draws of every training."""
    spec: Search
    node: str
    key: str
    higher: bool
    make: Make = field(repr=False, compare=False)

    @property
    def place(self) -> str:
        """What it is about, whatever the number of trials: more of them join those that are there."""
        about = self.spec.model_dump(mode="json", exclude={"variants", "trials", "scheduler", "metric"})
        asha = self.spec.scheduler == "asha"
        base = trial_id(self.experiment({}))
        return fingerprint(["search", about, base, self.key, self.higher, asha])

    @property
    def id(self) -> str:
        """The fingerprint that is part of the identity of trials that use its winner."""
        return fingerprint([self.place, self.spec.trials])

    @property
    def name(self) -> str:
        """For people."""
        return f"search of {self.variant} fold {self.fold}"

    def folder(self, root: RunsRoot) -> Path:
        """Draws, rungs and what was found."""
        plain = "".join(c if c.isalnum() or c in "_.-" else "_" for c in self.variant)
        return root.searches / f"{plain}-{short(self.place)}"

    def draws(self) -> list[dict[str, Any]]:
        """The values of all trials of a random search."""
        return list(draws(self.spec.space, self.spec.trials, self.spec.seed))

    def experiment(self, values: Mapping[str, Any]) -> Experiment:
        """One training: the variant with these values."""
        return self.make(values, self.fold, self.seed, "")

    def trial(self, number: int, values: Mapping[str, Any], root: RunsRoot) -> SearchTrial:
        """One training as what travels."""
        steps = expand(self.experiment(values))[self.node].experiment.budget.steps
        return SearchTrial(
            number,
            dict(values),
            str(self.folder(root)),
            self.node,
            self.key,
            self.higher,
            rungs(steps) if self.spec.scheduler == "asha" else (),
            steps,
        )

    def winner(self, tried: Sequence[Tried]) -> Tried | None:
        """The best of those that ran to their end, of equal ones the first; None where none did."""
        ended = [t for t in tried if not t.stopped and not math.isnan(t.value)]
        if not ended:
            return None
        sign = -1 if self.higher else 1
        return min(ended, key=lambda t: (sign * t.value, t.number))

    def told(self, tried: Sequence[Tried], kept: Tried | None = None) -> str:
        """`search of soft fold 0: optimiser.lr=0.0034 (val/dice 0.91; 12 trainings, 5 stopped early, 1 diverged)`.

        `kept`: the one that won before and stays, whatever won now.
        """
        best = kept or self.winner(tried)
        facts = [f"{len(tried)} trainings"]
        for count, what in (
            (sum(t.stopped for t in tried), "stopped early"),
            (sum(t.diverged for t in tried), "diverged"),
            (sum(bool(t.reason) for t in tried), "failed"),
        ):
            facts += [f"{count} {what}"] if count else []
        if best is None:
            return f"{self.name}: no training ended with a value of {self.key} ({', '.join(facts)})"
        return f"{self.name}: {best.told} ({self.key} {best.value:.4g}; {', '.join(facts)})"


def plan_search(variant: str, spec: Search, make: Make, seed: int) -> Callable[[int], PlannedSearch]:
    """Check a search before anything starts; the result gives it for a fold.

    Raises:
        ExperimentError: a field of the space does not exist or does not take a value; the metric is not what
            chooses the checkpoint, or nothing does; the last stage that makes a predictor does not train.
    """
    if spec.algorithm == "optuna":
        require_optuna()
    faults: dict[str, str] = {}
    for values in to_check(spec.space):
        try:
            make(values, 0, seed, "")
        except MriadError as error:
            told = "; ".join([error.what, *(str(value) for value in error.where.values())])
            faults.setdefault(told, ", ".join(f"{key}={value}" for key, value in values.items()))
    if faults:
        raise ExperimentError(
            f"the search of '{variant}' tries what is no valid experiment",
            where={values: told for told, values in faults.items()},
            remedy="correct the field's name or the values of `space`",
        )
    whole = make({}, 0, seed, "")
    painting = sorted(key for key in spec.space if {"augment", "streams"} & set(key.split(".")))
    if painting and painters_of(whole):
        raise ExperimentError(
            f"the search of '{variant}' would choose the images that judge it",
            where={"space": ", ".join(painting), "validation": "label maps, painted by the same augmenters"},
            remedy="leave what paints out of `space`; make it a variant, or a grid",
        )
    graph = expand(whole)
    made = [node for node in graph if node.kind != "table"]
    last = made[-1]
    if last.stage.type_name() != TRAIN or last.kind != "predictor":
        raise ExperimentError(
            f"the search of '{variant}' has no training to judge",
            where={"last stage": f"{last.name} ({last.stage.type_name()})", "expected": TRAIN},
            remedy="search an experiment whose predictor comes from one training",
        )
    key, higher = _judge(last.experiment)
    if not key or (spec.metric and spec.metric != key):
        raise ExperimentError(
            f"the search of '{variant}' must look at what chooses the checkpoint",
            where={"search.metric": spec.metric or "–", "chooses the checkpoint": key or "nothing"},
            remedy=f"metric: {key}" if key and spec.metric else "name a metric of cases in evaluate.metrics",
        )
    if spec.scheduler == "asha":
        budget = last.experiment.budget
        if budget.validate_every >= budget.steps:
            raise ExperimentError(
                f"the search of '{variant}' cannot stop a training early: it validates at its end alone",
                where={"budget.validate_every": budget.validate_every, "budget.steps": budget.steps},
                remedy=f"budget.validate_every: {max(1, budget.steps // 9)}, or scheduler: none",
            )
    return lambda fold: PlannedSearch(variant, fold, seed, spec, last.name, key, higher, make)


def _judge(experiment: Experiment) -> tuple[str, bool]:
    """The validation key that chooses the checkpoint, and whether more of it is better."""
    from mriad.training.worker import plan_of

    plan = plan_of(experiment, 1, list(experiment.evaluate.metrics))
    return plan.stop_on, plan.higher_is_better


def refuse_seen_tests(searches: Sequence[PlannedSearch], seeds: Sequence[int]) -> None:
    """Make sure that no trial tests a person whom its search trains or validates on.

    Raises:
        SplitError: the split of a fold depends on the seed, while the search of a fold serves all seeds.
    """
    for search in searches:
        sides = {}
        for seed in (search.seed, *seeds):
            experiment = search.make({}, search.fold, seed, "")
            index = apply_domains(index_of(experiment), experiment.data.domains)
            index, split, _ = split_cases(experiment, index, search.fold, experiment.seed)
            person = {case.id: case.person for case in index}
            sides[seed] = {side: {person[c] for c in ids} for side, ids in split.items()}
        seen = sides[search.seed]["train"] | sides[search.seed]["validation"]
        for seed, found in sides.items():
            if both := seen & found["test"]:
                raise SplitError(
                    f"the search of '{search.variant}' would see persons whom its trials test",
                    where={"fold": search.fold, "seed": seed, "persons": ", ".join(sorted(both)[:8])},
                    remedy="use a split that does not depend on the seed, such as folds: 5 or a file",
                )


def settings(searches: Sequence[PlannedSearch]) -> Iterator[str]:
    """One line a search for a person, over its folds."""
    folds: dict[str, list[PlannedSearch]] = {}
    for search in searches:
        folds.setdefault(search.variant, []).append(search)
    for variant, found in folds.items():
        spec = found[0].spec
        space = ", ".join(f"{key} {values}" for key, values in spec.space.items())
        how = "" if spec.scheduler == "none" else f", {spec.scheduler}"
        yield (
            f"search {variant}: {spec.trials} trainings × {len(found)} folds by {found[0].key} "
            f"({spec.algorithm}{how}); {space}"
        )
