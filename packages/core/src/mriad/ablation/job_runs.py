"""Doing a job of an ablation: a trial, a stage that several share, or one training of a search."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.ablation.halving import Halving, better
from mriad.ablation.jobs import Ended, Job, Setting, folder_of, job_id, search_result
from mriad.errors import LaunchError, NonFiniteError, StageError, StoppedEarlyError
from mriad.identity import short
from mriad.launch.files import RunsRoot, atomic_write_json
from mriad.launch.lease import STALE_AFTER_S
from mriad.launch.trial import STAGES
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.tracking.record import Reporters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mriad.experiment.model import Experiment
    from mriad.launch.protocol import Launcher, LauncherName
    from mriad.stages.graph import Graph
    from mriad.tracking.record import RunRecord
    from mriad.training.protocols import Reporter

PATIENCE_S = STALE_AFTER_S + 10
"""How long a job waits for a folder whose last owner may have been killed."""


def run_job(
    job: Job, setting: Setting, launcher: Launcher | None = None, reporter: Reporter | None = None
) -> Ended:
    """Do the work of a job; what goes wrong is in its record and in what is returned."""
    from mriad.experiment.model import Experiment

    try:
        experiment = Experiment.model_validate(job.experiment)
        if not job.node and job_id(experiment, job.search) != job.id:
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
                elif job.search is not None:
                    _run_search(job, experiment, setting, root, launcher, reporter)
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
        told = (str(error).splitlines() or ["no message"])[0]
        return Ended(job.id, job.name, f"{type(error).__name__}: {told}")


def _run_trial(
    job: Job,
    experiment: Experiment,
    setting: Setting,
    launcher: Launcher | None,
    reporter: Reporter | None,
) -> None:
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
                **job.tags,
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
    graph = expand(experiment)
    tags = {"stage": job.node, "fold": str(job.fold), "trials": str(job.trials)}
    with _recorded(
        job,
        experiment,
        setting,
        root,
        launcher,
        reporter,
        graph,
        f"{job.node} {short(job.id)}",
        "stage",
        tags,
    ) as (record, told, used):
        _upto(job.node, graph, fingerprints(graph), root, told, used)
        record.finish()


def _run_search(
    job: Job,
    experiment: Experiment,
    setting: Setting,
    root: RunsRoot,
    launcher: Launcher | None,
    reporter: Reporter | None,
) -> None:
    """One training of a search: the stages up to it and nothing that measures test cases.

    What its twin had at each validation is told to this search's judge too: the stage goes on where the twin left it.

    Raises:
        StageError: validation had no value of the metric.
    """
    from mriad.tracking.record import RunRecord

    asked = job.search
    assert asked is not None
    graph = expand(experiment)
    tags = {
        "variant": job.variant,
        "fold": str(job.fold),
        "seed": str(job.seed),
        "search": Path(asked.folder).name,
        "search_trial": str(asked.number),
        **{f"search/{key}": str(value) for key, value in asked.values.items()},
    }
    with _recorded(
        job, experiment, setting, root, launcher, reporter, graph, f"{job.variant} search", "search", tags
    ) as (record, told, used):
        marks = fingerprints(graph)
        wanted = graph.upstream(asked.node) | {asked.node}
        rows = [row for row in graph.describe(marks) if row["name"] in wanted]
        atomic_write_json(record.folder / STAGES, rows)
        for name in graph.upstream(asked.node):
            _upto(name, graph, marks, root, told, used)
        best = math.nan
        for _, value in record.history().get(asked.key, ()):
            best = better(best, value, asked.higher)
        judge = [
            Halving(Path(asked.folder), asked.number, asked.key, asked.higher, asked.rungs, asked.steps, best)
        ]
        judged = Reporters(told, *(judge if asked.rungs else ()))
        try:
            if job.twin and math.isnan(best):
                for step, value in RunRecord(Path(job.twin)).history().get(asked.key, ()):
                    judged.log(step, {asked.key: value})
            summary = _upto(asked.node, graph, marks, root, judged, used)
        except StoppedEarlyError as stop:
            told.message(stop.what)
            for _, value in record.history().get(asked.key, ()):
                best = better(best, value, asked.higher)
            record.finish(search_result(best, record.history()[asked.key][-1][0], stopped=True))
            return
        except NonFiniteError as error:  # what a search is there to find out, and the same every time
            told.message(str(error.what))
            record.finish(search_result(math.nan, 0, diverged=True))
            return
        if summary.get("best_key") != asked.key:
            raise StageError(
                f"validation had no value of {asked.key}, so that this training cannot be judged",
                where={"stage": asked.node},
                remedy="do the fold's validation persons have labels of the training's kind?",
            )
        record.finish(search_result(float(summary["best"]), summary["steps"], summary["seconds"]))


def _upto(
    name: str,
    graph: Graph,
    marks: Mapping[str, str],
    root: RunsRoot,
    reporter: Reporters,
    launcher: Launcher,
) -> Mapping[str, Any]:
    """Run a stage and what it needs; its summary."""
    from mriad.stages.run import run_graph

    made = run_graph(
        graph, fingerprints=marks, runs=root.path, reporter=reporter, launcher=launcher, only=name
    )
    return made[name].summary


@contextmanager
def _recorded(
    job: Job,
    experiment: Experiment,
    setting: Setting,
    root: RunsRoot,
    launcher: Launcher | None,
    reporter: Reporter | None,
    graph: Graph,
    name: str,
    kind: str,
    tags: Mapping[str, str],
) -> Iterator[tuple[RunRecord, Reporters, Launcher]]:
    """Hold the job's folder, begin its record, send it while the block goes on."""
    from mriad.filehash import HASHES, remember_in
    from mriad.launch.files import make_folder
    from mriad.launch.lease import Lease
    from mriad.launch.protocol import make_launcher
    from mriad.tracking.privacy import keep_names
    from mriad.tracking.record import JsonlReporter, Reporters, RunRecord

    remember_in(root.path / HASHES)
    folder = make_folder(folder_of(job, root))
    with ExitStack() as stack:
        used = launcher or stack.enter_context(make_launcher(_name(setting), root, setting.tracking))
        stack.enter_context(Lease(folder))
        keep_names(root, folder, [node.experiment for node in graph])
        record = stack.enter_context(
            RunRecord.start(
                folder,
                id=job.id,
                name=name,
                kind=kind,
                experiment=job.experiment,
                parent=RunRecord(Path(setting.parent)),
                study=setting.study,
                tags={**setting.tags, **tags},
                launch=used.describe(experiment.resources),
            )
        )
        told = Reporters(JsonlReporter(record), *([reporter] if reporter else []))
        if setting.tracking:
            from mriad.tracking.sender import Sender

            stack.enter_context(Sender(record, setting.tracking, told.message))
        yield record, told, used


def _name(setting: Setting) -> LauncherName:
    return "ray" if setting.launcher == "ray" else "inline"
