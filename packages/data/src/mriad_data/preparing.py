"""The preprocessing chain of a whole collection, in parallel: what `mriad data prepare` runs.

Cases, chain and store are those of the training, from the same functions, so that a training finds everything made.
A case that fails is kept with its step, and the rest goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mriad.errors import DataError, ExperimentError, LaunchError, MriadError, StorageError
from mriad.filehash import HASHES, remember_in
from mriad.parallel import failure, map_cases
from mriad.preparation import Recipe, fit_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mriad.experiment.model import Experiment
    from mriad.flow import Cases
    from mriad.interfaces import SampleStore
    from mriad.launch.files import RunsRoot
    from mriad.stages.graph import Graph, Node
    from mriad.vocabulary import Case, CaseIndex

READING = "reading"
"""The step of a failure before the first step of the chain."""


@dataclass(frozen=True)
class Failure:
    """A case that could not be prepared."""

    case: str
    step: str
    """Place and type of the step, such as "1 (data.z_score)"."""
    error: MriadError


@dataclass(frozen=True)
class Chain:
    """A recipe in one fold, its cases, and those that its fitted steps learn from."""

    fold: int
    recipe: Recipe
    cases: tuple[Case, ...]
    training: tuple[Case, ...]

    @property
    def shared(self) -> int:
        """Steps before the first fitted one: all folds share what they make."""
        steps = self.recipe.steps
        return next((i for i, step in enumerate(steps) if step.fitted), len(steps))

    @property
    def fitted(self) -> bool:
        """Whether a step learns from the training cases."""
        return self.shared < len(self.recipe.steps)


@dataclass(frozen=True)
class Work:
    """One sample to make."""

    id: str
    case: Case
    chain: int
    steps: int
    key: str


@dataclass
class Prepared:
    """What was done."""

    cases: int = 0
    """Samples that were asked for."""
    there: int = 0
    """Of these, found in the store."""
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out on purpose, and why."""

    @property
    def made(self) -> int:
        """Samples that are in the store now and were not before."""
        return self.cases - self.there - len(self.failures)


@dataclass(frozen=True)
class Plan:
    """Chains of an experiment, by training stage and fold."""

    chains: tuple[Chain, ...]
    folds: int
    """Of the split."""
    notes: tuple[str, ...] = ()


def plan(experiment: Experiment, root: RunsRoot, only: Sequence[int] = ()) -> Plan:
    """The chains that an experiment's training stages would run; tables are read and files hashed, no voxels.

    Args:
        experiment: with its stages; each may have a chain of its own.
        root: its store is used, and hashes of files are kept in it.
        only: folds; empty: all.

    Raises:
        SplitError: a fold cannot be made.
        DataError: the data set cannot be read.
        ExperimentError: no stage trains on the data set.
    """
    from mriad.flow import apply_domains
    from mriad.stages.graph import expand
    from mriad.training.worker import recipe_for, used_cases

    remember_in(root.path / HASHES)
    indexes: dict[str, CaseIndex] = {}

    def index_of(node: Node) -> CaseIndex:
        named = node.experiment.data.dataset
        key = f"{named.type_name()} {named.model_dump_json()}"
        if key not in indexes:
            indexes[key] = named.build()
        return indexes[key]

    own, notes = _trained(expand(experiment))
    if not own:
        raise ExperimentError(
            "no stage of the experiment trains on its data set, so there is no chain to run",
            where=dict(enumerate_notes(notes)),
            remedy="stages: {train: {type: core.train}}",
        )
    first = own[0].experiment
    folds = first.data.split.folds_of(apply_domains(index_of(own[0]), first.data.domains))
    chains = []
    for fold in only or range(folds):
        nodes = _trained(expand(experiment.model_copy(update={"fold": fold})))[0]
        for node in nodes:
            cases = _cases(node, index_of(node))
            recipe = recipe_for(node.experiment, cases, str(root.store))
            chains.append(Chain(fold, recipe, tuple(used_cases(cases)), tuple(cases.side("train"))))
    return Plan(tuple(chains), folds, tuple(notes))


def enumerate_notes(notes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Notes as facts of an error."""
    return ((f"note {i}", note) for i, note in enumerate(notes, 1))


def _trained(graph: Graph) -> tuple[list[Node], list[str]]:
    """Training stages whose cases are known before any stage runs, and a line for each of the others."""
    from mriad.stages.train import TrainStage

    own, notes = [], []
    for node in graph:
        if not isinstance(node.stage, TrainStage):
            continue
        if isinstance(node.stage.data, (str, list)) or node.experiment.data.labels.from_:
            notes.append(f"stage '{node.name}' trains on what another stage makes, and prepares it itself")
        else:
            own.append(node)
    return own, notes


def _cases(node: Node, index: CaseIndex) -> Cases:
    """The cases of a stage, as its training finds them."""
    from mriad.flow import gather_cases
    from mriad.stages.members import inner_split

    experiment = node.experiment
    cases = gather_cases(experiment, index, experiment.fold, experiment.seed)
    if node.inner is None:
        return cases
    training, validation = inner_split(cases.side("train"), node.inner, experiment.seed)
    return replace(cases, split={**cases.split, "train": training, "validation": validation})


@dataclass(frozen=True)
class Share:
    """This process's part of the work, where several on a cluster share it."""

    rank: int = 0
    world: int = 1
    gather: Callable[[Any], list[Any]] = lambda value: [value]
    """A value of each process → all of them in rank order; every process must call it."""


def run(
    planned: Plan,
    workers: int,
    journal: Path,
    fit: bool,
    progress: Callable[[int, int], None] | None = None,
    failed: Callable[[Failure], None] | None = None,
    share: Share | None = None,
) -> Prepared:
    """Make what is not in the store: of every chain the steps before the first fitted one, then all where `fit`.

    Args:
        planned: from `plan`.
        workers: processes; 0: this one.
        journal: file where hashes of files are remembered.
        fit: also fit the fitted steps on the training cases of each chain, and apply them.
        progress: called as `progress(done, total)` for this process's share; what is there counts as done.
        failed: called with each failure, when it happens.
        share: of this process; default: all.

    Returns what all processes did.

    Raises:
        StorageError: the store cannot be written. What was made before is kept.
    """
    share = share or Share()
    done = Prepared()
    chains = planned.chains
    first = _work(chains, lambda chain: chain.shared if chain.shared or not chain.fitted else None)
    fitted = [chain for chain in chains if chain.fitted]
    second_total = sum(len(c.cases) for c in fitted) if fit else 0
    tell = _Tell(-(-(len(first) + second_total) // share.world), progress, failed)
    _make(first[share.rank :: share.world], chains, workers, journal, done, tell)
    notes = list(planned.notes)
    if fit:
        broken = {case for part in share.gather({f.case for f in done.failures}) for case in part}
        # Rank 0 fits; the others wait, and get what it learned.
        found: list[Chain | str | Failure] = [_fit(c, broken) for c in fitted] if share.rank == 0 else []
        found = share.gather(found)[0]
        ready = [f for f in found if isinstance(f, Chain)]
        notes += [f for f in found if isinstance(f, str)]
        if share.rank == 0:
            for failure_ in (f for f in found if isinstance(f, Failure)):
                done.cases += 1
                done.failures.append(failure_)
                tell.failure(failure_)
        second = _work(ready, lambda chain: len(chain.recipe.steps))
        _make(second[share.rank :: share.world], ready, workers, journal, done, tell)
    elif fitted:
        names = sorted({c.recipe.steps[c.shared].type_name() for c in fitted})
        notes.append(
            f"{', '.join(names)} is fitted anew in each fold: prepared up to there; --fold N prepares all of fold N"
        )
    parts: list[Prepared] = share.gather(done)
    failures = [f for part in parts for f in part.failures]
    return Prepared(sum(p.cases for p in parts), sum(p.there for p in parts), failures, notes)


def _fit(chain: Chain, broken: set[str]) -> Chain | str | Failure:
    """The chain fitted, for the cases that are not broken; or why it was left out; or what failed."""
    lost = broken & {case.id for case in chain.training}
    if lost:
        return (
            f"fold {chain.fold}: the fitted steps were left out, because training cases failed ({len(lost)})"
        )
    try:
        recipe = fit_steps(chain.training, chain.recipe)
    except StorageError:
        raise
    except MriadError as error:
        return _failure(str(error.where.get("case", "training cases")), error)
    return replace(chain, recipe=recipe, cases=tuple(c for c in chain.cases if c.id not in broken))


@dataclass
class _Tell:
    """Speaks to the caller; the total may shrink when fitted steps are left out."""

    total: int
    progress: Callable[[int, int], None] | None
    failure_: Callable[[Failure], None] | None
    done: int = 0

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self.progress is not None and n:
            self.progress(self.done, self.total)

    def failure(self, found: Failure) -> None:
        if self.failure_ is not None:
            self.failure_(found)


def _work(chains: Sequence[Chain], steps_of: Callable[[Chain], int | None]) -> list[Work]:
    """What chains make, each key once."""
    found: dict[str, Work] = {}
    for number, chain in enumerate(chains):
        steps = steps_of(chain)
        if steps is None:
            continue
        for case in chain.cases:
            key = chain.recipe.key(case, steps)
            if key not in found:
                found[key] = Work(case.id, case, number, steps, key)
    return list(found.values())


@dataclass(frozen=True)
class _Make:
    """Makes one sample in a worker; what is wrong with a case comes back, so that the others go on."""

    recipes: tuple[Recipe, ...]
    journal: Path

    def __call__(self, work: Work) -> Failure | None:
        if _journal_read.get("path") != self.journal:
            remember_in(self.journal)  # or every worker would hash the files again
            _journal_read["path"] = self.journal
        try:
            self.recipes[work.chain].sample(work.case, work.steps)
        except StorageError:
            raise  # the next case would fail the same way
        except Exception as error:
            return _failure(work.id, failure(work.id, error))
        return None


_journal_read: dict[str, Path] = {}


def _failure(case: str, error: MriadError) -> Failure:
    return Failure(case, str(error.where.get("step", READING)), error)


def _make(
    works: Sequence[Work], chains: Sequence[Chain], workers: int, journal: Path, done: Prepared, tell: _Tell
) -> None:
    """Make what is not there. A worker that dies costs its case one more attempt, alone; then it has failed."""
    stores = [chain.recipe.store for chain in chains]
    todo = [w for w in works if _absent(stores[w.chain], w.key)]
    done.cases += len(works)
    done.there += len(works) - len(todo)
    tell.advance(len(works) - len(todo))
    function = _Make(tuple(chain.recipe for chain in chains), journal)

    def keep(found: Failure | None) -> None:
        if found is not None:
            done.failures.append(found)
            tell.failure(found)
        tell.advance()

    killed: list[Work] = []
    while todo:
        count = 0
        try:
            for found in map_cases(function, todo, workers):
                count += 1
                keep(found)
            break
        except LaunchError as error:
            victim = next((w for w in todo[count:] if w.id == error.where.get("case")), None)
            if victim is None:  # no worker could be started: nothing will change that
                raise
            killed.append(victim)
            todo = [w for w in todo[count:] if w is not victim]
    for work in killed:
        try:
            keep(next(map_cases(function, [work], 1)))
        except LaunchError as error:
            keep(Failure(work.id, "unknown: the worker died", error))


def _absent(store: SampleStore | None, key: str) -> bool:
    if store is None:  # `data.store` always builds one; a guest's may not
        raise DataError("the experiment has no store to prepare into", remedy="set data.store")
    return store.get(key) is None


def failures_by_text(failures: Sequence[Failure]) -> Mapping[tuple[str, str], list[Failure]]:
    """Failures of one step with one message together: a list of 500 cases is read by nobody."""
    found: dict[tuple[str, str], list[Failure]] = {}
    for one in failures:
        found.setdefault((one.step, one.error.what), []).append(one)
    return found
