"""Where the jobs of an ablation are done: on Ray Tune, in local processes, or in this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriad.ablation.job_runs import run_job
from mriad.ablation.jobs import Ended, Job, Setting, is_done
from mriad.launch.files import atomic_write_json, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mriad.ablation.plan import Plan
    from mriad.launch.files import RunsRoot
    from mriad.launch.protocol import Launcher, LauncherName


def run_all(
    jobs: Sequence[Job],
    plan: Plan,
    setting: Setting,
    launcher: Launcher,
    name: LauncherName,
    at_once: int,
    root: RunsRoot,
) -> list[Ended]:
    """Do jobs that need nothing of each other; how each went, in their order.

    Args:
        jobs: what is not done yet.
        plan: the ablation.
        setting: what they have in common.
        launcher: of the ablation, which holds Ray where it is used.
        name: "ray" or "inline".
        at_once: at most so many at a time; 0: as many as the resources allow (inline: one).
        root: the runs root.
    """
    if not jobs:
        return []
    if name == "ray":
        return _on_ray(jobs, plan, setting, launcher, at_once, root)
    if at_once > 1 and len(jobs) > 1:
        return _in_processes(jobs, setting, at_once, root)
    return [run_job(job, setting, launcher, _Quiet()) for job in jobs]


def _on_ray(
    jobs: Sequence[Job],
    plan: Plan,
    setting: Setting,
    launcher: Any,
    at_once: int,
    root: RunsRoot,
) -> list[Ended]:
    from mriad.launch.ray_tune import tune_jobs

    died = tune_jobs(
        _tuned,
        [(job, setting) for job in jobs],
        launcher=launcher,
        resources=plan.resources,
        folder=Path(setting.parent),
        name=f"{plan.ablation.name}-{plan.id[:12]}",
        spans_workers=setting.launcher == "ray",
        at_once=at_once,
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

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Ignore."""

    def progress(self, step: int, steps: int) -> None:
        """Ignore."""

    def message(self, text: str) -> None:
        """Ignore."""
