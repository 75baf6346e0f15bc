"""One trial from experiment to tracked result: graph, identity, record, stages, table, figures."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mriad.errors import LaunchError
from mriad.evaluation import read_rows, summarise
from mriad.experiment.unread import refuse_unread
from mriad.filehash import HASHES, remember_in
from mriad.flow import gather_cases, split_fingerprint
from mriad.identity import fingerprint
from mriad.launch.files import atomic_write_json, make_folder, runs_root
from mriad.launch.lease import Lease
from mriad.launch.protocol import Launcher, make_launcher
from mriad.stages.evaluate import PREDICTIONS, TABLE
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.stages.run import run_graph
from mriad.stages.train import index_of
from mriad.tracking.address import tracking_uri
from mriad.tracking.privacy import PublicNames, keep_names, read_names
from mriad.tracking.record import (
    CASES,
    EXPERIMENT,
    FIGURES,
    NAMED,
    PUBLIC,
    JsonlReporter,
    Reporters,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mriad.evaluation import Summary
    from mriad.experiment.model import Experiment
    from mriad.launch.files import RunsRoot
    from mriad.launch.protocol import LauncherName
    from mriad.stages.artefact import Artefact
    from mriad.stages.graph import Graph
    from mriad.training.protocols import Reporter

STAGES = "stages.json"
OFF = "off"
"""A tracking store by this name means none."""


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    id: str
    """Fingerprint of resolved experiment, fold and seed."""
    folder: Path
    experiment: Experiment
    artefacts: Mapping[str, Artefact]
    names: PublicNames = field(default_factory=PublicNames)
    """How figures call cases and persons."""

    @property
    def predictor(self) -> Path:
        """Folder of the last predictor that a stage made.

        Raises:
            LaunchError: no stage makes one.
        """
        made = [a.folder for a in self.artefacts.values() if a.kind == "predictor"]
        if not made:
            raise LaunchError("no stage of this experiment makes a predictor", where={"run": self.folder})
        return made[-1]

    @property
    def tested(self) -> list[Artefact]:
        """Tables of test cases, in the order in which they were made; of validation cases where nothing is tested."""
        tables = [a for a in self.artefacts.values() if a.kind == "table"]
        sides = {
            side: [a for a in tables if a.summary.get("side", "test") == side]
            for side in ("test", "validation")
        }
        return sides["test"] or sides["validation"]

    @property
    def predictions(self) -> Path | None:
        """Folder of the predictions of the test cases; None where nothing was predicted."""
        folders = [a.folder / PREDICTIONS for a in self.tested]
        return next((folder for folder in reversed(folders) if folder.is_dir()), None)

    @property
    def summary(self) -> list[Summary]:
        """The test table, summed up; empty where nothing was evaluated."""
        path = self.folder / CASES
        return summarise(read_rows(path)) if path.is_file() else []


@dataclass
class TrialOptions:
    """How a trial is run; none of it changes its numbers."""

    launcher: LauncherName | Launcher = "inline"
    runs: Path | str | None = None
    tracking: str = ""
    """URI of an MLflow store; "" the default SQLite file (or MLFLOW_TRACKING_URI); "off" none."""
    reporter: Reporter | None = None
    parent: RunRecord | None = None
    study: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Path | None = None
    """Folder of the experiment file, for its git commit."""


def trial_id(experiment: Experiment) -> str:
    """The identity of a trial: resolved experiment, fold and seed. What only decides where it runs is left out."""
    exclude: dict[str, Any] = {"resources": True, "privacy": True, "description": True, "data": {"store"}}
    # What came later is left out where it is empty, so that experiments without it keep the identity that they had.
    if not experiment.tuned:
        exclude["tuned"] = True
    if not experiment.data.validate_on:
        exclude["data"] = {*exclude["data"], "validate_on"}
    return fingerprint(experiment.model_dump(mode="json", exclude=exclude))


def overfitting(experiment: Experiment, count: int) -> Experiment:
    """The experiment as one that trains and validates on its first `count` cases; `run_trial` then tests nothing."""

    def mark(stages: Mapping[str, Any]) -> dict[str, Any]:
        marked: dict[str, Any] = {}
        for name, raw in stages.items():
            if isinstance(raw, dict) and "repeat" in raw:
                inner = mark({k: v for k, v in raw.items() if k != "repeat"})
                marked[name] = {"repeat": raw["repeat"], **inner}
            elif isinstance(raw, dict) and raw.get("type") == "core.train":
                marked[name] = {**raw, "overfit": count}
            else:
                marked[name] = raw
        return marked

    changed = experiment.model_dump(mode="json")
    named = {"name": f"{experiment.name}.overfit", "stages": mark(experiment.stages)}
    return type(experiment).model_validate({**changed, **named})


def _only(graph: Graph) -> str:
    """The last stage to run: all of them (""), or where a trial overfits the last one that measures nothing."""
    if not any(getattr(node.stage, "overfit", 0) for node in graph):
        return ""
    return [node.name for node in graph if node.kind != "table"][-1]


def run_trial(experiment: Experiment, options: TrialOptions | None = None) -> Trial:
    """Run every stage of an experiment that is not done yet, and track it.

    Running the same experiment again goes on where it stopped; a finished one is only read.

    Raises:
        MriadError: of any stage, with the stage named; the record then says "failed" and why.
        LaunchError: another live process runs this trial, or the place does not suit the launcher.
    """
    options = options or TrialOptions()
    refuse_unread(experiment)
    root = runs_root(options.runs)
    tracking = "" if options.tracking == OFF else tracking_uri(root, options.tracking)
    graph = expand(experiment)
    identity = trial_id(experiment)
    remember_in(root.path / HASHES)
    name = options.tags.get("variant", experiment.name)
    folder = make_folder(root.run(name, identity))
    with ExitStack() as stack:
        given = options.launcher
        launcher: Launcher = (
            given
            if isinstance(given, Launcher)
            else stack.enter_context(make_launcher(given, root, tracking, _message(options)))
        )
        stack.enter_context(Lease(folder))
        keep_names(root, folder, [experiment, *(node.experiment for node in graph)])
        record = stack.enter_context(_start(experiment, options, folder, identity, name, launcher))
        reporter = Reporters(JsonlReporter(record), *([options.reporter] if options.reporter else []))
        if tracking:
            from mriad.tracking.sender import Sender

            stack.enter_context(Sender(record, tracking, reporter.message))
        marks = fingerprints(graph)
        atomic_write_json(folder / STAGES, graph.describe(marks))
        made = run_graph(
            graph, fingerprints=marks, runs=root.path, reporter=reporter, launcher=launcher, only=_only(graph)
        )
        trial = Trial(identity, folder, experiment, made)
        _conclude(trial, record, root, reporter.message)
    return trial


def _message(options: TrialOptions) -> Callable[[str], None]:
    return options.reporter.message if options.reporter is not None else (lambda text: None)


def _start(
    experiment: Experiment,
    options: TrialOptions,
    folder: Path,
    identity: str,
    name: str,
    launcher: Launcher,
) -> RunRecord:
    """Begin the record: resolved experiment, versions, data, launcher, tags."""
    from mriad.experiment.dump import to_yaml

    later = bool(experiment.data.labels.from_)
    cases = gather_cases(experiment, index_of(experiment), experiment.fold, experiment.seed, later)
    domains = ", ".join(cases.task.domains)
    facts = {"fold": str(experiment.fold), "seed": str(experiment.seed), "domain": domains}
    return RunRecord.start(
        folder,
        id=identity,
        name=name,
        kind="trial" if options.parent else "run",
        experiment=experiment.model_dump(mode="json"),
        yaml=to_yaml(experiment),
        parent=options.parent,
        study=options.study,
        tags={"variant": name, **facts, **options.tags},
        data={
            "fingerprint": cases.fingerprint,
            "split": split_fingerprint(cases),
            "cases": {side: len(ids) for side, ids in cases.split.items()},
            "persons": len(cases.index.persons),
            "voxels": {
                c.id: fingerprint([s.fingerprint for s in c.channels.values()]) for c in cases.side("test")
            },
        },
        launch=launcher.describe(experiment.resources),
        place=options.place,
    )


def _conclude(trial: Trial, record: RunRecord, root: RunsRoot, message: Callable[[str], None]) -> None:
    """Put the test table into the run's folder, its means into the metrics, and end the record."""
    tables = trial.tested
    if tables:
        shutil.copyfile(tables[-1].folder / TABLE, trial.folder / CASES)
        parquet = (tables[-1].folder / TABLE).with_suffix(".parquet")
        if parquet.exists():  # where pyarrow is installed
            shutil.copyfile(parquet, (trial.folder / CASES).with_suffix(".parquet"))
        values = test_values(trial.summary)
        known = record.last()
        if any(repr(known.get(key)) != repr(value) for key, value in values.items()):  # NaN equals no NaN
            record.append(_last_step(trial), values)
    compute = compute_of(trial.artefacts)
    record.update(artefacts={n: str(a.folder) for n, a in trial.artefacts.items()}, links=_links(trial, root))
    failures = _draw_all(trial)
    for failure in failures:
        message(failure)
    record.finish({f"compute/{k}": v for k, v in compute.items()})


def test_values(summaries: list[Summary]) -> dict[str, float]:
    """Means of the test table by key: "test/dice/cord" (failures at their worst value), "test/dice/cord/misses"."""
    values = {}
    for s in summaries:
        values[f"test/{s.metric}/{s.structure}"] = s.with_worst
        values[f"test/{s.metric}/{s.structure}/misses"] = float(s.misses)
    return values


def compute_of(artefacts: Mapping[str, Artefact]) -> dict[str, float]:
    """Steps, samples, seconds (sums) and peak memory (largest) over the stages."""
    found: dict[str, float] = {}
    for artefact in artefacts.values():
        for key in ("steps", "samples", "seconds"):
            if isinstance(value := artefact.summary.get(key), (int, float)):
                found[key] = found.get(key, 0.0) + float(value)
        peak = artefact.summary.get("peak_memory_bytes")
        if isinstance(peak, (int, float)):
            found["peak_memory_bytes"] = max(found.get("peak_memory_bytes", 0.0), float(peak))
    return found


def _last_step(trial: Trial) -> int:
    steps = [a.summary["steps"] for a in trial.artefacts.values() if "steps" in a.summary]
    return int(steps[-1]) if steps else 0


def _links(trial: Trial, root: RunsRoot) -> dict[str, str]:
    """Where a reader finds things, relative to the runs root."""
    links = {"experiment": EXPERIMENT}
    if trial.predictions is not None:
        links["predictions"] = str(trial.predictions.resolve().relative_to(root.path.resolve()))
    return links


def _draw_all(trial: Trial) -> list[str]:
    """Draw into `figures/`, which is emptied first: pictures of an earlier measurement are not of this one.

    Where names are to be hidden, pictures that name cases are drawn twice: into `named/`, which is never sent, and
    with public names into `public/`.
    """
    figures = trial.folder / FIGURES
    shutil.rmtree(figures, ignore_errors=True)
    names = read_names(trial.folder)
    if not names:
        return draw(trial, figures)
    failures = draw(trial, figures, naming=False)
    failures += draw(trial, figures / NAMED, naming=True)
    return failures + draw(replace(trial, names=names), figures / PUBLIC, naming=True)


def draw(trial: Trial, folder: Path, naming: bool | None = None) -> list[str]:
    """Let installed figures draw the trial into `folder`: all, or only those that name cases or do not.

    Returns a line for each that could not: a picture that fails must not fail a run that may have trained for a week.
    """
    from mriad.interfaces import Figure
    from mriad.registry import registry

    failures = []
    for name in registry().names("figure"):
        try:
            figure = Figure.resolve({"type": name})
            if naming is None or figure.names_cases == naming:
                figure.draw(trial, make_folder(folder))
        except Exception as error:  # any guest may raise anything
            failures.append(f"figure '{name}' was not drawn: {type(error).__name__}: {error}")
    return failures
