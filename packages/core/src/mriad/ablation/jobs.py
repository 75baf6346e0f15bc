"""The units of work of an ablation: trials, and stages that several trials share."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mriad.errors import LaunchError, MriadError
from mriad.identity import fingerprint, short
from mriad.launch.files import RunsRoot, read_json
from mriad.launch.lease import STALE_AFTER_S
from mriad.launch.trial import STAGES, trial_id
from mriad.stages.fingerprints import DataIdentity, fingerprints, identify
from mriad.stages.graph import expand
from mriad.stages.run import read_done, stage_folder
from mriad.tracking.record import CASES, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mriad.ablation.plan import Plan, PlannedTrial
    from mriad.experiment.model import Experiment
    from mriad.launch.protocol import Launcher, LauncherName
    from mriad.training.protocols import Reporter

PATIENCE_S = STALE_AFTER_S + 10
"""How long a job waits for a folder whose last owner may have been killed."""


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


def plan_jobs(plan: Plan) -> tuple[list[Job], list[Job]]:
    """Stages that at least two trials need, in an order in which they can run, and one job a trial.

    What only measures is never shared: it is cheap, and its table belongs to the trial. Reads the data sets: the
    fingerprints cover their voxels.
    """
    known: dict[str, DataIdentity] = {}

    def once(experiment: Experiment) -> DataIdentity:
        key = fingerprint([experiment.data, experiment.seed, experiment.fold])
        if key not in known:
            known[key] = identify(experiment)
        return known[key]

    users: dict[str, list[str]] = defaultdict(list)
    first: dict[str, tuple[PlannedTrial, str, set[str]]] = {}
    all_marks: dict[str, tuple[str, ...]] = {}
    for trial in plan.trials:
        graph = expand(trial.experiment)
        marks = fingerprints(graph, once)
        all_marks[trial.id] = tuple(sorted(marks.values()))
        for node in graph:
            if node.kind == "table":
                continue
            mark = marks[node.name]
            users[mark].append(trial.id)
            first.setdefault(mark, (trial, node.name, {marks[name] for name in graph.upstream(node.name)}))
    shared = {mark: sorted(set(ids)) for mark, ids in users.items() if len(set(ids)) > 1}
    stages = [_stage_job(mark, ids, *first[mark], shared) for mark, ids in shared.items()]
    trials = [_trial_job(trial, all_marks[trial.id], shared) for trial in plan.trials]
    return stages, trials


def _stage_job(
    mark: str,
    ids: Sequence[str],
    trial: PlannedTrial,
    node: str,
    upstream: set[str],
    shared: Mapping[str, Sequence[str]],
) -> Job:
    return Job(
        id=mark,
        name=f"{node} (shared by {len(ids)} trials)",
        experiment=trial.experiment.model_dump(mode="json"),
        variant=trial.variant,
        fold=trial.fold,
        seed=trial.seed,
        node=node,
        needs=tuple(sorted(upstream & shared.keys())),
        trials=len(ids),
    )


def _trial_job(trial: PlannedTrial, marks: tuple[str, ...], shared: Mapping[str, Sequence[str]]) -> Job:
    return Job(
        id=trial.id,
        name=f"{trial.variant} fold {trial.fold} seed {trial.seed}",
        experiment=trial.experiment.model_dump(mode="json"),
        variant=trial.variant,
        fold=trial.fold,
        seed=trial.seed,
        needs=tuple(mark for mark in marks if mark in shared),
        fixed=trial.fixed,
        marks=marks,
    )


def is_done(job: Job, root: RunsRoot) -> bool:
    """Whether a job's result is there already, made of the same data, files and versions."""
    if job.node:
        try:
            return read_done(stage_folder(root.path, job.node, job.id), job.id) is not None
        except MriadError:
            return False  # damaged: run again, which says what is wrong
    folder = root.run(job.variant, job.id)
    known = read_json(folder / RUN) or {}
    if known.get("status") != "finished" or known.get("id") != job.id or not (folder / CASES).is_file():
        return False
    try:
        rows = json.loads((folder / STAGES).read_text("utf-8"))
        return tuple(sorted(row["fingerprint"] for row in rows)) == job.marks
    except (OSError, ValueError, KeyError, TypeError):
        return False


def run_job(
    job: Job, setting: Setting, launcher: Launcher | None = None, reporter: Reporter | None = None
) -> Ended:
    """Do the work of a job; what goes wrong is in its record and in what is returned."""
    from pathlib import Path

    from mriad.experiment.model import Experiment

    try:
        experiment = Experiment.model_validate(job.experiment)
        if not job.node and trial_id(experiment) != job.id:
            return Ended(
                job.id,
                job.name,
                "here the experiment is another one than where the ablation was started: the versions of mriad or "
                "of a plugin differ between the two (mriad doctor)",
            )
        root = RunsRoot(Path(setting.runs))
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if job.node:
                    _run_stage(job, experiment, setting, root, launcher, reporter)
                else:
                    _run_trial(job, experiment, setting, launcher, reporter)
            except LaunchError as error:
                # The process that had the folder was killed a moment ago, or goes on with it.
                if "owner" not in error.where or time.monotonic() > until:
                    raise
                time.sleep(1.0)
            else:
                return Ended(job.id, job.name)
    except Exception as error:  # one trial must not take the others down; the verdict names it
        return Ended(job.id, job.name, f"{type(error).__name__}: {str(error).splitlines()[0]}")


def _run_trial(
    job: Job,
    experiment: Experiment,
    setting: Setting,
    launcher: Launcher | None,
    reporter: Reporter | None,
) -> None:
    from pathlib import Path

    from mriad.launch.trial import TrialOptions, run_trial
    from mriad.tracking.record import RunRecord

    run_trial(
        experiment,
        TrialOptions(
            launcher=launcher or _name(setting),
            runs=setting.runs,
            tracking=setting.tracking or "off",
            reporter=reporter,
            parent=RunRecord(Path(setting.parent)),
            study=setting.study,
            tags={
                **setting.tags,
                "variant": job.variant,
                "fold": str(job.fold),
                "seed": "" if job.fixed else str(job.seed),
            },
        ),
    )


def _run_stage(
    job: Job,
    experiment: Experiment,
    setting: Setting,
    root: RunsRoot,
    launcher: Launcher | None,
    reporter: Reporter | None,
) -> None:
    """A shared stage with a record of its own, a child of the ablation like a trial."""
    from contextlib import ExitStack
    from pathlib import Path

    from mriad.filehash import HASHES, remember_in
    from mriad.launch.files import make_folder
    from mriad.launch.lease import Lease
    from mriad.launch.protocol import make_launcher
    from mriad.stages.run import run_graph
    from mriad.tracking.privacy import keep_names
    from mriad.tracking.record import JsonlReporter, Reporters, RunRecord

    remember_in(root.path / HASHES)
    graph = expand(experiment)
    folder = make_folder(root.run(f"{job.node}-shared", job.id))
    with ExitStack() as stack:
        used = launcher or stack.enter_context(make_launcher(_name(setting), root, setting.tracking))
        stack.enter_context(Lease(folder))
        keep_names(root, folder, [node.experiment for node in graph])
        record = stack.enter_context(
            RunRecord.start(
                folder,
                id=job.id,
                name=f"{job.node} {short(job.id)}",
                kind="stage",
                experiment=job.experiment,
                parent=RunRecord(Path(setting.parent)),
                study=setting.study,
                tags={**setting.tags, "stage": job.node, "fold": str(job.fold), "trials": str(job.trials)},
                launch=used.describe(experiment.resources),
            )
        )
        told = Reporters(JsonlReporter(record), *([reporter] if reporter else []))
        if setting.tracking:
            from mriad.tracking.sender import Sender

            stack.enter_context(Sender(record, setting.tracking, told.message))
        run_graph(
            graph,
            fingerprints=fingerprints(graph),
            runs=root.path,
            reporter=told,
            launcher=used,
            only=job.node,
        )
        record.finish()


def _name(setting: Setting) -> LauncherName:
    return "ray" if setting.launcher == "ray" else "inline"


def folder_of(job: Job, root: RunsRoot) -> Path:
    """Where a job's record is."""
    return root.run(f"{job.node}-shared", job.id) if job.node else root.run(job.variant, job.id)
