"""Running an ablation: what is asked and not finished, shared stages first; then the verdict."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.ablation.jobs import Ended, Job, Setting, folder_of, is_done, plan_jobs, run_job
from mriad.ablation.watch import Watch, Watched
from mriad.errors import ExperimentError, LaunchError
from mriad.launch.files import atomic_write_json, make_folder, read_json, runs_root
from mriad.launch.lease import STALE_AFTER_S, Lease
from mriad.launch.protocol import make_launcher
from mriad.launch.trial import trial_id
from mriad.tracking.address import tracking_uri
from mriad.tracking.privacy import keep_names
from mriad.tracking.record import FIGURES, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from mriad.ablation.plan import Plan
    from mriad.ablation.study import Study
    from mriad.launch.files import RunsRoot
    from mriad.launch.protocol import Launcher, LauncherName

PLAN = "ablation.json"
"""Names, folds and seeds of the trials that were asked for, in the ablation's folder."""


@dataclass
class AblationOptions:
    """How an ablation is run; none of it changes its numbers."""

    launcher: LauncherName = "ray"
    runs: Path | str | None = None
    tracking: str = ""
    at_once: int = 0
    """At most so many trials at a time; 0: as many as the resources allow (inline: one)."""
    stream: TextIO | None = None
    message: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Outcome:
    """What came of an ablation."""

    folder: Path
    study: Study
    verdict: list[str]
    failed: list[Ended]


def run_ablation(plan: Plan, options: AblationOptions | None = None) -> Outcome:
    """Run every trial that is not finished, then compare.

    Running the same ablation again goes on where it stopped; variants, folds and seeds may have been added.

    Raises:
        ExperimentError: the name is taken by another ablation.
        LaunchError: another live process runs it, or the resources are not there.
        DataError: no trial finished, so that there is nothing to compare.
    """
    options = options or AblationOptions()
    root = runs_root(options.runs)
    tracking = "" if options.tracking == "off" else tracking_uri(root, options.tracking)
    folder = make_folder(root.run(plan.ablation.name, plan.id))
    with ExitStack() as stack:
        launcher = stack.enter_context(make_launcher(options.launcher, root, tracking, options.message))
        stack.enter_context(_held(folder, options.message))
        _take_name(plan, folder)
        keep_names(root, folder, {t.variant: t.experiment for t in plan.trials}.values())
        record = stack.enter_context(_start(plan, folder, launcher))
        if tracking:
            from mriad.tracking.sender import Sender

            stack.enter_context(Sender(record, tracking, options.message))
        setting = Setting(
            runs=str(root.path),
            study=plan.ablation.name,
            parent=str(folder),
            tracking=tracking,
            launcher="ray" if options.launcher == "ray" and _spans(plan) else "inline",
            tags={"study": plan.ablation.name},
        )
        failed = _work(plan, root, record, setting, launcher, options)
        study = replace(plan.study(root), data=_data_of(plan, root))
        verdict = _conclude(plan, study, record, failed)
    return Outcome(folder, study, verdict, failed)


@contextmanager
def _held(folder: Path, message: Callable[[str], None]) -> Iterator[None]:
    """Hold the ablation's folder; where its last owner may just have been killed, wait until that is sure."""
    until = time.monotonic() + STALE_AFTER_S + 5
    told = False
    while True:
        lease = Lease(folder)
        try:
            lease.__enter__()
            break
        except LaunchError:
            if time.monotonic() > until:
                raise
            if not told:
                told = True
                message(
                    f"another process had this ablation; it counts as dead after {STALE_AFTER_S:.0f} s: waiting"
                )
            time.sleep(1.0)
    try:
        yield
    finally:
        lease.__exit__(None, None, None)


def _take_name(plan: Plan, folder: Path) -> None:
    """Refuse an ablation of this name whose variants mean something else; note what is asked for."""
    known = read_json(folder / PLAN) or {}
    wanted = {
        "name": plan.ablation.name,
        "file": str(plan.path),
        "variants": {
            t.variant: trial_id(t.experiment.model_copy(update={"fold": 0, "seed": 0})) for t in plan.trials
        },
        "trials": {t.id: [t.variant, t.fold, t.seed] for t in plan.trials},
    }
    before: dict[str, str] = known.get("variants", {})
    other = [name for name, mark in wanted["variants"].items() if before.get(name, mark) != mark]  # type: ignore[attr-defined]
    if other:
        raise ExperimentError(
            f"the name '{plan.ablation.name}' is taken by a different ablation",
            where={"folder": folder, "variants that mean something else now": ", ".join(other)},
            remedy="give this one another `name`, or remove the other with `mriad runs prune`",
        )
    atomic_write_json(folder / PLAN, {**wanted, "variants": {**before, **wanted["variants"]}})  # type: ignore[dict-item]


def _start(plan: Plan, folder: Path, launcher: Launcher) -> RunRecord:
    ablation = plan.ablation
    first = plan.trials[0].experiment
    return RunRecord.start(
        folder,
        id=plan.id,
        name=ablation.name,
        kind="ablation",
        study=ablation.name,
        experiment={"ablation": ablation.model_dump(mode="json")},
        tags={
            "variants": ", ".join(plan.variants),
            "trials": str(len(plan.trials)),
            "dataset": first.data.dataset.type_name(),
        },
        launch=launcher.describe(first.resources),
        place=plan.path.parent,
    )


def _spans(plan: Plan) -> bool:
    """Whether trials need Ray Train inside: several workers, or a GPU."""
    resources = [t.experiment.resources for t in plan.trials]
    return any(r.workers > 1 or r.gpus > 0 for r in resources)


def _work(
    plan: Plan,
    root: RunsRoot,
    record: RunRecord,
    setting: Setting,
    launcher: Launcher,
    options: AblationOptions,
) -> list[Ended]:
    """Run shared stages in waves, then the trials; return the jobs that failed."""
    stages, trials = plan_jobs(plan)
    watched = [Watched(job.name, folder_of(job, root), job.id) for job in (*stages, *trials)]
    failed: list[Ended] = []
    key, higher = _watched_key(plan)
    with Watch(watched, record, key, higher, options.stream):
        done: set[str] = set()
        for wave in (*_waves(stages), trials):
            todo = [job for job in wave if not is_done(job, root)]
            done |= {job.id for job in wave} - {job.id for job in todo}
            blocked = [job for job in todo if any(need not in done for need in job.needs)]
            failed += [Ended(job.id, job.name, "a stage that it needs failed") for job in blocked]
            ended = _run_all(
                [job for job in todo if job not in blocked], plan, setting, launcher, options, root
            )
            done |= {end.id for end in ended if not end.reason}
            failed += [end for end in ended if end.reason]
    return failed


def _waves(stages: Sequence[Job]) -> Iterator[list[Job]]:
    """Shared stages in groups that need only groups before them."""
    left, done = list(stages), set()
    while left:
        wave = [job for job in left if all(need in done for need in job.needs)]
        yield wave
        done |= {job.id for job in wave}
        left = [job for job in left if job.id not in done]


def _run_all(
    jobs: Sequence[Job],
    plan: Plan,
    setting: Setting,
    launcher: Launcher,
    options: AblationOptions,
    root: RunsRoot,
) -> list[Ended]:
    if not jobs:
        return []
    if options.launcher == "ray":
        return _on_ray(jobs, plan, setting, launcher, options, root)
    if options.at_once > 1 and len(jobs) > 1:
        return _in_processes(jobs, setting, options.at_once, root)
    return [run_job(job, setting, launcher, _Quiet()) for job in jobs]


def _on_ray(
    jobs: Sequence[Job],
    plan: Plan,
    setting: Setting,
    launcher: Any,
    options: AblationOptions,
    root: RunsRoot,
) -> list[Ended]:
    from mriad.launch.ray_tune import tune_jobs

    died = tune_jobs(
        _tuned,
        [(job, setting) for job in jobs],
        launcher=launcher,
        resources=plan.trials[0].experiment.resources,
        folder=Path(setting.parent),
        name=f"{plan.ablation.name}-{plan.id[:12]}",
        spans_workers=setting.launcher == "ray",
        at_once=options.at_once,
    )
    return [_ended(job, died.get(n, ""), root, Path(setting.parent)) for n, job in enumerate(jobs)]


def _tuned(payload: tuple[Job, Setting]) -> None:
    """One job in a process of its own; why it failed travels through a file."""
    job, setting = payload
    note = _note(Path(setting.parent), job)
    note.unlink(missing_ok=True)
    ended = run_job(job, setting, reporter=_Quiet())
    if ended.reason:
        atomic_write_json(note, {"reason": ended.reason})


def _note(folder: Path, job: Job) -> Path:
    return folder / "failures" / f"{job.id}.json"


def _ended(job: Job, died: str, root: RunsRoot, folder: Path) -> Ended:
    """How a job went, from what it left."""
    told = (read_json(_note(folder, job)) or {}).get("reason")
    if not told and is_done(job, root):
        return Ended(job.id, job.name)
    return Ended(job.id, job.name, str(told or died or "its process ended without a result"))


def _in_processes(jobs: Sequence[Job], setting: Setting, at_once: int, root: RunsRoot) -> list[Ended]:
    """Local processes, at most `at_once`: several small trainings share one GPU or the cores.

    Each job has a process of its own, so that one that is killed takes no other with it.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    left = list(jobs)
    running: dict[str, Any] = {}
    died: dict[str, str] = {}
    try:
        while left or running:
            while left and len(running) < at_once:
                job = left.pop(0)
                running[job.id] = context.Process(target=_tuned, args=((job, setting),), daemon=False)
                running[job.id].start()
            for key, process in list(running.items()):
                process.join(0.05)
                if process.exitcode is not None:
                    if process.exitcode:
                        died[key] = f"its process ended with {process.exitcode}"
                    del running[key]
    finally:  # Ctrl-C too: what has not begun does not begin
        for process in running.values():
            process.terminate()
            process.join()
    return [_ended(job, died.get(job.id, ""), root, Path(setting.parent)) for job in jobs]


class _Quiet:
    """A reporter for trials among many: their own records hold everything, the live view says the rest."""

    def log(self, step: int, values: Any) -> None:
        """Ignore."""

    def progress(self, step: int, steps: int) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""


def _watched_key(plan: Plan) -> tuple[str, bool]:
    """The test metric whose best mean is shown while trials run: the first that is compared."""
    metrics = plan.trials[0].experiment.evaluate.metrics
    wanted = (*plan.ablation.compare.needs(), *(metric.key() for metric in metrics))
    chosen = next((m for key in wanted for m in metrics if m.key() == key), None)
    if chosen is None or chosen.direction not in ("higher", "lower"):
        return "", True
    return f"test/{chosen.key()}", chosen.direction == "higher"


def _data_of(plan: Plan, root: RunsRoot) -> dict[str, Any]:
    """Name and fingerprint of the data, as the first finished trial noted it."""
    name = plan.trials[0].experiment.data.dataset.type_name()
    for trial in plan.study(root).finished:
        return {"name": name, **trial.record().get("data", {})}
    return {"name": name}


def _conclude(plan: Plan, study: Study, record: RunRecord, failed: Sequence[Ended]) -> list[str]:
    """Compare what there is; the ablation's record ends well only if every trial did."""
    atomic_write_json(
        record.folder / "missing.json",
        {
            "failed": {end.name: end.reason for end in failed},
            "without a table": [t.id for t in study.missing],
        },
    )
    if not study.finished:
        raise LaunchError(
            "no trial finished",
            where={end.name: end.reason for end in list(failed)[:10]},
            remedy="correct the cause and run the same command again",
        )
    lines = plan.ablation.compare.conclude(study, make_folder(record.folder / "comparison"))
    figures = make_folder(record.folder / FIGURES)
    for picture in sorted((record.folder / "comparison").glob("*.png")):
        (figures / picture.name).write_bytes(picture.read_bytes())
    totals = _compute(study)
    record.finish({f"compute/{key}": value for key, value in totals.items()})
    return lines


def _compute(study: Study) -> dict[str, float]:
    """Steps, samples and seconds of all finished trials; the largest memory of one."""
    total: dict[str, float] = {}
    for trial in study.finished:
        for key, value in (trial.record().get("compute") or {}).items():
            if not isinstance(value, (int, float)):
                continue
            known = total.get(key, 0.0)
            total[key] = max(known, value) if key == "peak_memory_bytes" else known + value
    return total
