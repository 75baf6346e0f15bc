"""From an ablation to its trials: every variant × fold × seed as an experiment of its own, with its identity."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mriad.ablation.search import PlannedSearch, plan_search, refuse_seen_tests
from mriad.ablation.study import Study, StudyTrial
from mriad.errors import ExperimentError, MriadError
from mriad.experiment.faults import faults_of, graph_faults, report
from mriad.experiment.load import load_located
from mriad.experiment.model import Experiment, ResourcesSection
from mriad.experiment.node import located
from mriad.experiment.override import assign
from mriad.experiment.shape import resolve_paths
from mriad.experiment.unread import refuse_unread
from mriad.flow import apply_domains, split_cases
from mriad.identity import fingerprint
from mriad.launch.trial import trial_id
from mriad.same_person import unite_persons
from mriad.stages.train import index_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.ablation.load import LoadedAblation
    from mriad.ablation.model import Ablation
    from mriad.ablation.search import Make, Tried
    from mriad.experiment.load import Loaded
    from mriad.experiment.override import Assignment
    from mriad.launch.files import RunsRoot

CONTROL_SEEDS = 1_000_003
"""Added to the seeds of an A/A control, so that its trials are others than those that it repeats."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial before it is run. `seed` is the ablation's, which a control shares with what it repeats."""

    variant: str
    fold: int
    seed: int
    experiment: Experiment
    fixed: bool = False
    """Predictions made elsewhere: the same for every seed, so scored once a fold."""
    search: PlannedSearch | None = None
    """What gives it some of its values. Before that its experiment, and so its id, are not the final ones."""

    @property
    def is_tuned(self) -> bool:
        """Whether it needs no search, or has its values from one."""
        return self.search is None or bool(self.experiment.tuned)

    @property
    def id(self) -> str:
        """The fingerprint of resolved experiment, fold and seed."""
        return trial_id(self.experiment)

    def at(self, root: RunsRoot) -> StudyTrial:
        """The same with its folder."""
        return StudyTrial(self.id, self.variant, self.fold, self.seed, root.run(self.variant, self.id))


@dataclass(frozen=True)
class Plan:
    """All trials of an ablation, in the order in which they start: seed by seed, fold by fold."""

    ablation: Ablation
    path: Path
    trials: tuple[PlannedTrial, ...]
    settings: Mapping[str, Mapping[str, Any]]
    """Variant → the values that a grid gave it."""
    searches: tuple[PlannedSearch, ...] = ()
    """Of every searched variant one a fold; they come before the trials."""

    def tuned(self, winners: Mapping[str, Tried]) -> Plan:
        """The plan after its searches: trials with the values of the winners, given by the searches' ids.

        Trials whose search has none stay as they were; they are not run.
        """

        def final(trial: PlannedTrial) -> PlannedTrial:
            search = trial.search
            best = winners.get(search.id) if search is not None else None
            if search is None or best is None:
                return trial
            return replace(trial, experiment=search.make(best.values, trial.fold, trial.seed, search.id))

        return replace(self, trials=tuple(final(trial) for trial in self.trials))

    def tested_with(
        self, search: PlannedSearch, values: Mapping[str, Any], root: RunsRoot
    ) -> list[StudyTrial]:
        """Trials of a search's variant and fold that have finished with these values as its winner's."""
        found = []
        for trial in self.trials:
            if trial.search is not None and trial.search.id == search.id:
                made = search.make(values, trial.fold, trial.seed, search.id)
                found.append(replace(trial, experiment=made).at(root))
        return Study(self.ablation.name, found).finished

    @property
    def variants(self) -> tuple[str, ...]:
        """Names, those that a grid made included, in the order of the file."""
        return tuple(dict.fromkeys(trial.variant for trial in self.trials))

    @property
    def resources(self) -> ResourcesSection:
        """What is kept for each trial: the most that any of them asks for."""
        each = [trial.experiment.resources for trial in self.trials]
        return ResourcesSection(
            workers=max(r.workers for r in each),
            cpus=max(r.cpus for r in each),
            gpus=max(r.gpus for r in each),
            loaders=max(r.loaders for r in each),
        )

    def marks(self) -> dict[str, str]:
        """Variant → what it means, whatever fold and seed; its search included, the search's winner not."""
        found = {}
        for trial in self.trials:
            search = trial.search
            plain = trial.experiment if search is None else search.experiment({})
            mark = trial_id(plain.model_copy(update={"fold": 0, "seed": 0}))
            spec = search.spec.model_dump(mode="json", exclude={"variants"}) if search else None
            found[trial.variant] = mark if spec is None else fingerprint([mark, spec])
        return found

    @property
    def id(self) -> str:
        """Identity of the ablation: its name. Variants, folds and seeds may join it later."""
        return fingerprint(["ablation", self.ablation.name])

    def study(self, root: RunsRoot) -> Study:
        """The trials with their folders."""
        first = self.trials[0].experiment
        return Study(
            name=self.ablation.name,
            trials=[trial.at(root) for trial in self.trials],
            description=self.ablation.description,
            generated=first.data.dataset.generated,
        )


def make_plan(loaded: LoadedAblation) -> Plan:
    """Resolve every variant and make its trials.

    Raises:
        ExperimentError: as `resolve`; or the variants do not have the same folds.
        SplitError: there are fewer persons than folds.
        DataError: the data set cannot be read.
    """
    ablation = loaded.ablation
    found, settings = _resolve(loaded)
    resolved = {name: one.experiment for name, one in found.items()}
    folds = _folds(ablation, resolved)
    searches = _searches(ablation, found, folds)
    of = {(search.variant, search.fold): search for search in searches}
    trials = tuple(
        PlannedTrial(
            name,
            fold,
            seed,
            _trial(ablation, name, experiment, fold, seed),
            _imported(ablation, name),
            of.get((name, fold)),
        )
        for seed, fold in itertools.product(ablation.seeds, folds)
        for name, experiment in resolved.items()
        if seed == ablation.seeds[0] or not _imported(ablation, name)
    )
    return Plan(ablation, loaded.path, trials, settings, searches)


def _searches(
    ablation: Ablation, found: Mapping[str, Loaded], folds: Sequence[int]
) -> tuple[PlannedSearch, ...]:
    """Every searched variant in every fold, fold by fold; all faults in one message."""
    planned, faults = [], {}
    for name, loaded in found.items():
        spec = ablation.search_of(name)
        if spec is not None:
            try:
                planned.append(plan_search(name, spec, _maker(ablation, name, loaded), ablation.seeds[0]))
            except MriadError as error:
                faults[name] = f"{_told(error)}; try: {error.remedy}"
    if faults:
        raise ExperimentError(f"{len(faults)} searches are not valid", where=faults)
    searches = tuple(of_fold(fold) for fold in folds for of_fold in planned)
    refuse_seen_tests(searches, ablation.seeds)
    return searches


def _maker(ablation: Ablation, name: str, loaded: Loaded) -> Make:
    """The variant with values of a search, from what was read when the ablation was planned."""
    known: dict[str, Experiment] = {}

    def make(values: Mapping[str, Any], fold: int, seed: int, tuned: str) -> Experiment:
        mark = fingerprint(values)
        if mark not in known:
            known[mark] = _with_values(loaded, values) if values else loaded.experiment
        return _trial(ablation, name, known[mark], fold, seed).model_copy(update={"tuned": tuned})

    return make


def _with_values(loaded: Loaded, values: Mapping[str, Any]) -> Experiment:
    """An experiment with other values at some fields.

    Raises:
        ExperimentError: a field is not there, or does not take its value.
    """
    laid = [(tuple(key.split(".")), located(value, loaded.root.origin)) for key, value in values.items()]
    root, faults = assign(loaded.root, laid)
    root = resolve_paths(root)
    try:
        experiment = Experiment.model_validate(root.plain())
    except ValidationError as error:
        faults += faults_of(error, root)
    else:
        faults += graph_faults(experiment, root)
    if faults:
        raise report(faults, loaded.source)
    refuse_unread(experiment)
    return experiment


def resolve(loaded: LoadedAblation) -> tuple[dict[str, Experiment], dict[str, Mapping[str, Any]]]:
    """Every variant as an experiment, and the values that a grid gave it; no data are read.

    Raises:
        ExperimentError: a variant is no valid experiment, two variants are the same experiment without being
            marked as a control, or the trials do not measure what is to be compared; all variants in one
            message.
    """
    found, settings = _resolve(loaded)
    return {name: one.experiment for name, one in found.items()}, settings


def _resolve(loaded: LoadedAblation) -> tuple[dict[str, Loaded], dict[str, Mapping[str, Any]]]:
    """`resolve`, with the trees that the experiments were read from."""
    ablation = loaded.ablation
    found: dict[str, Loaded] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    faults: dict[str, str] = {}
    for name, assignments, values in _variants(loaded):
        if name in settings:
            faults[name] = "two combinations of a grid have this name: give their values names that differ"
            continue
        settings[name] = values
        try:
            found[name] = _experiment(loaded, name, assignments)
        except MriadError as error:
            faults[name] = _told(error)
    if faults:
        raise ExperimentError(
            f"{len(faults)} of {len(settings)} variants are not valid experiments",
            where=faults,
            remedy="correct the lines named; every variant is the base with its own fields laid over it",
        )
    resolved = {name: one.experiment for name, one in found.items()}
    _refuse_equal(ablation, resolved)
    _refuse_unmeasured(ablation, resolved)
    _refuse_other_references(resolved)
    ablation.compare.check(tuple(resolved))
    return found, settings


def _variants(loaded: LoadedAblation) -> Iterator[tuple[str, list[Assignment], Mapping[str, Any]]]:
    """Name, assignments and grid values of every variant; a grid makes several of one."""
    for name, variant in loaded.ablation.variants.items():
        written = loaded.assignments(variant.same_as or name)
        grids = [grid for grid in loaded.ablation.grid if name in grid.variants]
        axes = [(key, options) for grid in grids for key, options in grid.values.items()]
        for chosen in itertools.product(*(options for _, options in axes)):
            values = {key: value for (key, _), value in zip(axes, chosen, strict=True)}
            label = "/".join([name, *(f"{key}={_short(value)}" for key, value in values.items())])
            laid = [
                (tuple(key.split(".")), located(value, loaded.root.origin)) for key, value in values.items()
            ]
            yield label, [*written, *laid], values


def _short(value: Any) -> str:
    """A grid's value in the name of a variant; of a component its type and plain fields."""
    if isinstance(value, dict):
        fields = [f"{k}={v}" for k, v in value.items() if k != "type" and not isinstance(v, (dict, list))]
        return ",".join([str(value.get("type", "")), *fields]).strip(",").replace(" ", "")
    return str(value).replace(" ", "")


def _experiment(loaded: LoadedAblation, name: str, assignments: Sequence[Assignment]) -> Loaded:
    """The base with the variant's fields, and what all variants share."""
    ablation = loaded.ablation
    common = [*loaded.section("budget"), *loaded.section("resources")]
    if ablation.folds is not None:
        split = located(ablation.folds.model_dump(mode="json"), loaded.root.origin)
        common.append((("data", "split"), split))
    laid = [*assignments, *common]
    found = load_located(ablation.base, laid=laid, folder=loaded.path.parent)
    folder = ablation.variants[name.split("/")[0]].predictions
    if folder is not None:
        stage = {"type": "core.evaluate_imported", "predictions": str(folder)}
        plain = found.experiment.model_dump(mode="json")
        found = replace(found, experiment=Experiment.model_validate({**plain, "stages": {"measure": stage}}))
    refuse_unread(found.experiment)
    return found


def _trial(ablation: Ablation, name: str, experiment: Experiment, fold: int, seed: int) -> Experiment:
    control = bool(ablation.variants[name.split("/")[0]].same_as)
    own = seed + CONTROL_SEEDS if control else seed
    return experiment.model_copy(update={"fold": fold, "seed": own, "name": _plain(name)})


def _imported(ablation: Ablation, name: str) -> bool:
    return ablation.variants[name.split("/")[0]].predictions is not None


def _plain(name: str) -> str:
    """A variant's name as that of an experiment."""
    return "".join(c if c.isalnum() or c in "_.:-" else "_" for c in name)


def _folds(ablation: Ablation, resolved: Mapping[str, Experiment]) -> list[int]:
    """The folds that every variant has; without `folds` the base's one."""
    first = next(iter(resolved.values()))
    if ablation.folds is None:
        return [first.fold]
    counts: dict[str, int] = {}
    for name, experiment in resolved.items():
        # As training splits it: with domains named, and one name a person.
        index = apply_domains(index_of(experiment), experiment.data.domains)
        counts[name] = experiment.data.split.folds_of(unite_persons(index, experiment.data.same_person))
        split_cases(experiment, index, 0, experiment.seed)  # refuses too few persons
    if len(set(counts.values())) > 1:
        raise ExperimentError(
            "the variants do not have the same folds",
            where=counts,
            remedy="give them data sets of the same persons, or set `folds` to a number or a file",
        )
    return list(range(next(iter(counts.values()))))


def _refuse_equal(ablation: Ablation, resolved: Mapping[str, Experiment]) -> None:
    """Two names of one experiment would count one result twice."""
    same: dict[str, list[str]] = defaultdict(list)
    for name, experiment in resolved.items():
        if not ablation.variants[name.split("/")[0]].same_as:
            plain = experiment.model_dump(mode="json", exclude={"name", "description"})
            search = ablation.search_of(name)
            searched = search.model_dump(mode="json", exclude={"variants"}) if search else None
            same[fingerprint([plain, searched])].append(name)
    twice = [names for names in same.values() if len(names) > 1]
    if twice:
        raise ExperimentError(
            "two variants are the same experiment",
            where={names[0]: f"the same as {', '.join(names[1:])}" for names in twice},
            remedy=f"change a field that counts, or mark a control: {{{twice[0][1]}: {{same_as: {twice[0][0]}}}}}",
        )


def _refuse_unmeasured(ablation: Ablation, resolved: Mapping[str, Experiment]) -> None:
    """What is compared must be measured by every variant."""
    lacking: dict[str, str] = {}
    for name, experiment in resolved.items():
        measured = [metric.key() for metric in experiment.evaluate.metrics]
        missing = [key for key in ablation.compare.needs() if key not in measured]
        if not measured:
            lacking[name] = "evaluate.metrics is empty"
        elif missing:
            lacking[name] = f"{', '.join(missing)} not among evaluate.metrics ({', '.join(measured)})"
    if lacking:
        raise ExperimentError(
            "variants do not measure what is to be compared",
            where=lacking,
            remedy="add the metrics to `evaluate.metrics` of the base, or correct `compare`",
        )


def _refuse_other_references(resolved: Mapping[str, Experiment]) -> None:
    """Variants that are each measured against their own labels cannot be compared."""
    against = {
        name: e.evaluate.reference or e.data.labels.name or e.data.labels.kind for name, e in resolved.items()
    }
    if len(set(against.values())) > 1:
        raise ExperimentError(
            "the variants would be measured against different labels, each against those that it is trained on",
            where=against,
            remedy="name the one that all are measured against in the base: evaluate: {reference: NAME}",
        )


def _told(error: MriadError) -> str:
    """An error of a variant in a few lines: each fault with its place."""
    return "; ".join([error.what, *(f"{value}" for value in error.where.values())])
