"""The units of work of an ablation: trials, stages that several trials share, and trainings of a search."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mriad.ablation.search import Tried
from mriad.errors import MriadError
from mriad.identity import fingerprint
from mriad.launch.files import RunsRoot, read_json
from mriad.launch.trial import STAGES, trial_id
from mriad.stages.fingerprints import DataIdentity, fingerprints, identify
from mriad.stages.graph import expand
from mriad.stages.run import read_done, stage_folder
from mriad.tracking.record import CASES, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mriad.ablation.plan import Plan
    from mriad.ablation.search import PlannedSearch, SearchTrial
    from mriad.experiment.model import Experiment


@dataclass(frozen=True)
class Job:
    """Plain values, so that it travels to any process. `node`: the shared stage that is run; "" for a trial."""

    id: str
    name: str
    experiment: dict[str, Any]
    variant: str
    fold: int
    seed: int
    node: str = ""
    needs: tuple[str, ...] = ()
    """Shared stages (ids of jobs) that must have ended."""
    trials: int = 1
    """How many trials need it."""
    fixed: bool = False
    """See `PlannedTrial.fixed`."""
    marks: tuple[str, ...] = ()
    """Of a trial: the fingerprints of its stages, which cover the data, files and versions that they read."""
    search: SearchTrial | None = None
    """The training of a search; None for a trial."""
    training: str = ""
    """Of a search's training: the fingerprint of its stage, which another search may need too."""
    twin: str = ""
    """Folder of the record of an equal training of another search, which is done before it; see `rounds`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of a trial's record, besides its variant, fold and seed."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of an ablation have in common; picklable."""

    runs: str
    study: str
    parent: str
    """Folder of the ablation's own record."""
    tracking: str = ""
    launcher: str = "inline"
    """The launcher inside a job: "ray" where it spans workers or has a GPU."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a job went; `reason` is empty where it went well."""

    id: str
    name: str
    reason: str = ""


def job_id(experiment: Experiment, search: SearchTrial | None = None) -> str:
    """Identity of a trial, or of one training of a search, which is no trial: nothing is tested."""
    identity = trial_id(experiment)
    # A training that may have been stopped is no result for a search that lets all run to their end.
    return identity if search is None else fingerprint(["search trial", identity, bool(search.rungs)])


def plan_jobs(plan: Plan) -> tuple[list[Job], list[Job]]:
    """Stages that at least two trials need, in an order in which they can run, and one job a trial.

    What only measures is never shared: it is cheap, and its table belongs to the trial. Reads the data sets: the
    fingerprints cover their voxels. Trials that wait for a search are left out.
    """
    return _with_shared(
        [
            Job(
                id=trial.id,
                name=f"{trial.variant} fold {trial.fold} seed {trial.seed}",
                experiment=trial.experiment.model_dump(mode="json"),
                variant=trial.variant,
                fold=trial.fold,
                seed=trial.seed,
                fixed=trial.fixed,
                tags={}
                if trial.search is None
                else {"search": trial.search.id, "tuning_trials": str(trial.search.spec.trials)},
            )
            for trial in plan.trials
            if trial.is_tuned
        ],
        [trial.experiment for trial in plan.trials if trial.is_tuned],
    )


def search_jobs(
    drawn: Sequence[tuple[PlannedSearch, int, Mapping[str, Any]]], root: RunsRoot
) -> tuple[list[Job], list[Job]]:
    """Stages that at least two trainings need, and one job a training: (search, number, values) each.

    Equal values are one training; its id does not depend on the number. Searches of variants that differ in what no
    training reads have equal trainings too, each with a record of its own: the second names the first as its twin.
    """
    jobs: dict[str, Job] = {}
    experiments: dict[str, Experiment] = {}
    for search, number, values in drawn:
        asked, experiment = search.trial(number, values, root), search.experiment(values)
        job = Job(
            id=job_id(experiment, asked),
            name=f"{search.variant} fold {search.fold} search {number}",
            experiment=experiment.model_dump(mode="json"),
            variant=search.variant,
            fold=search.fold,
            seed=search.seed,
            search=asked,
        )
        if job.id not in jobs:
            jobs[job.id], experiments[job.id] = job, experiment
    stages, found = _with_shared(list(jobs.values()), list(experiments.values()))
    last: dict[str, Path] = {}
    for place, job in enumerate(found):
        found[place] = replace(job, twin=str(last.get(job.training, "")))
        last[job.training] = folder_of(job, root)
    return stages, found


def rounds(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in groups to be done one after the other, none of which has a training twice.

    Two at once would be one that trains and one that holds its place, its memory or its GPU while it waits.
    """
    found: list[list[Job]] = []
    begun: dict[str, int] = {}
    for job in jobs:
        place = begun.get(job.training, 0) if job.training else 0
        begun[job.training] = place + 1
        if place == len(found):
            found.append([])
        found[place].append(job)
    return found


def _with_shared(jobs: Sequence[Job], experiments: Sequence[Experiment]) -> tuple[list[Job], list[Job]]:
    """The stages that several jobs need as jobs of their own, and the jobs with what they need."""
    known: dict[str, DataIdentity] = {}

    def once(experiment: Experiment) -> DataIdentity:
        key = fingerprint([experiment.data, experiment.seed, experiment.fold])
        if key not in known:
            known[key] = identify(experiment)
        return known[key]

    users: dict[str, list[str]] = defaultdict(list)
    first: dict[str, tuple[Job, str, set[str]]] = {}
    all_marks: list[tuple[str, ...]] = []
    trainings: list[str] = []
    for job, experiment in zip(jobs, experiments, strict=True):
        graph = expand(experiment)
        marks = fingerprints(graph, once)
        if (
            job.search is not None
        ):  # what comes after the training is not run; the training itself may be stopped
            wanted = graph.upstream(job.search.node)
            marks_kept = [marks[name] for name in (*wanted, job.search.node)]
        else:
            wanted = {node.name for node in graph if node.kind != "table"}
            marks_kept = list(marks.values())
        all_marks.append(tuple(sorted(marks_kept)))
        trainings.append("" if job.search is None else marks[job.search.node])
        for name in graph.nodes:
            if name in wanted:
                mark = marks[name]
                users[mark].append(job.id)
                first.setdefault(mark, (job, name, {marks[above] for above in graph.upstream(name)}))
    shared = {mark: sorted(set(ids)) for mark, ids in users.items() if len(set(ids)) > 1}
    stages = [_stage_job(mark, ids, *first[mark], shared) for mark, ids in shared.items()]
    return stages, [
        replace(job, marks=marks, training=training, needs=tuple(mark for mark in marks if mark in shared))
        for job, marks, training in zip(jobs, all_marks, trainings, strict=True)
    ]


def _stage_job(
    mark: str,
    ids: Sequence[str],
    job: Job,
    node: str,
    upstream: set[str],
    shared: Mapping[str, Sequence[str]],
) -> Job:
    return Job(
        id=mark,
        name=f"{node} (shared by {len(ids)} trials)",
        experiment=job.experiment,
        variant=job.variant,
        fold=job.fold,
        seed=job.seed,
        node=node,
        needs=tuple(sorted(upstream & shared.keys())),
        trials=len(ids),
    )


def is_done(job: Job, root: RunsRoot) -> bool:
    """Whether a job's result is there already, made of the same data, files and versions."""
    if job.node:
        try:
            return read_done(stage_folder(root.path, job.node, job.id), job.id) is not None
        except MriadError:
            return False  # damaged: run again, which says what is wrong
    folder = folder_of(job, root)
    known = read_json(folder / RUN) or {}
    if known.get("status") != "finished" or known.get("id") != job.id:
        return False
    if job.search is None and not (folder / CASES).is_file():
        return False
    try:
        rows = json.loads((folder / STAGES).read_text("utf-8"))
        return tuple(sorted(row["fingerprint"] for row in rows)) == job.marks
    except (OSError, ValueError, KeyError, TypeError):
        return False


def search_result(
    value: float, steps: float, seconds: float = 0.0, *, stopped: bool = False, diverged: bool = False
) -> dict[str, float]:
    """What one training of a search leaves in its record's summary."""
    return {
        "search/value": value,
        "search/stopped": float(stopped),
        "search/diverged": float(diverged),
        "compute/steps": float(steps),
        **({"compute/seconds": float(seconds)} if seconds else {}),
    }


def tried(job: Job, number: int, root: RunsRoot, reason: str = "") -> Tried:
    """What came of a training, as its record has it."""
    assert job.search is not None
    known = read_json(folder_of(job, root) / RUN) or {}
    found: dict[str, Any] = known.get("summary") or {}
    if reason or not is_done(job, root):
        return Tried(number, job.search.values, reason=reason or "it has not ended")
    value, compute = found.get("search/value"), known.get("compute") or {}
    return Tried(
        number,
        job.search.values,
        math.nan if value is None else float(value),
        float(compute.get("steps") or 0),
        float(compute.get("seconds") or 0),
        stopped=bool(found.get("search/stopped")),
        diverged=bool(found.get("search/diverged")),
    )


def folder_of(job: Job, root: RunsRoot) -> Path:
    """Where a job's record is."""
    if job.node:
        return root.run(f"{job.node}-shared", job.id)
    return root.run(f"{job.variant}-search" if job.search is not None else job.variant, job.id)
