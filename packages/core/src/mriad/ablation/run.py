"""Running an ablation: what is asked and not finished, shared stages first; then the verdict."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

from mriad.ablation.execute import run_all
from mriad.ablation.jobs import Ended, Job, Setting, folder_of, is_done, plan_jobs, rounds
from mriad.ablation.searching import run_searches
from mriad.ablation.watch import Watch, Watched
from mriad.errors import ExperimentError, LaunchError
from mriad.launch.files import atomic_write_json, make_folder, read_json, runs_root
from mriad.launch.lease import STALE_AFTER_S, Lease
from mriad.launch.protocol import make_launcher, visible_cpus
from mriad.tracking.address import tracking_uri
from mriad.tracking.privacy import keep_names
from mriad.tracking.record import FIGURES, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from mriad.ablation.plan import Plan
    from mriad.ablation.study import Study
    from mriad.launch.files import RunsRoot
    from mriad.launch.protocol import Launcher, LauncherName

PLAN = "ablation.json"
"""Names, folds and seeds of the trials that were asked for, in the ablation's folder."""


class AskedFor(TypedDict):
    """The content of `ablation.json`."""

    name: str
    file: str
    variants: dict[str, str]
    """Variant → what it means, see `Plan.marks`; those that were asked for before included."""
    trials: dict[str, tuple[str, int, int]]
    """Id → variant, fold and seed."""


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
    if options.launcher == "inline" and plan.resources.gpus:
        from mriad.launch.inline import check_gpus

        check_gpus(plan.resources)  # at once, and not by every trial
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
        done = _Doing(plan, root, record, setting, launcher, options)
        plan, failed = run_searches(plan, root, done, options.message, _lanes(plan, options))
        _take_name(plan, folder)
        failed += done.work(*plan_jobs(plan), *_watched_key(plan))
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
    before: dict[str, str] = known.get("variants", {})
    variants = plan.marks()
    other = [name for name, mark in variants.items() if before.get(name, mark) != mark]
    if other:
        raise ExperimentError(
            f"the name '{plan.ablation.name}' is taken by a different ablation",
            where={"folder": folder, "variants that mean something else now": ", ".join(other)},
            remedy="give this one another `name`, or remove the other with `mriad runs prune`",
        )
    asked: AskedFor = {
        "name": plan.ablation.name,
        "file": str(plan.path),
        "variants": {**before, **variants},
        "trials": {t.id: (t.variant, t.fold, t.seed) for t in plan.trials if t.is_tuned},
    }
    atomic_write_json(folder / PLAN, asked)


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
    return plan.resources.workers > 1 or plan.resources.gpus > 0


def _lanes(plan: Plan, options: AblationOptions) -> int:
    """How many jobs run at a time, as far as this process can know."""
    resources = plan.resources
    fits = visible_cpus() // (resources.workers * resources.cpus) if options.launcher == "ray" else 1
    return options.at_once or max(1, fits)


@dataclass(frozen=True)
class _Doing:
    """Does jobs in an order that their needs allow, while somebody can watch."""

    plan: Plan
    root: RunsRoot
    record: RunRecord
    setting: Setting
    launcher: Launcher
    options: AblationOptions

    def work(
        self,
        stages: Sequence[Job],
        jobs: Sequence[Job],
        key: str = "",
        higher: bool = True,
        counted_as: str = "ablation",
    ) -> list[Ended]:
        """Run shared stages in waves, then the jobs that need them; return those that failed."""
        if not jobs:
            return []
        root, options = self.root, self.options
        watched = [Watched(job.name, folder_of(job, root), job.id) for job in (*stages, *jobs)]
        failed: list[Ended] = []
        with Watch(watched, self.record, key, higher, options.stream, counted_as=counted_as):
            done: set[str] = set()
            for wave in (*_waves(stages), *rounds(jobs)):
                todo = [job for job in wave if not is_done(job, root)]
                done |= {job.id for job in wave} - {job.id for job in todo}
                blocked = [job for job in todo if any(need not in done for need in job.needs)]
                failed += [Ended(job.id, job.name, "a stage that it needs failed") for job in blocked]
                free = [job for job in todo if job not in blocked]
                ended = run_all(
                    free, self.plan, self.setting, self.launcher, options.launcher, options.at_once, root
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
    """Compare what there is, and note what is missing.

    Raises:
        LaunchError: no trial finished.
    """
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
