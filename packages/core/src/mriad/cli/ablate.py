"""`mriad ablate`: variants × folds × seeds, then one verdict."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriad.cli.next_step import next_step, runs_flag, set_flags
from mriad.cli.train import LauncherChoice, Set, Tracking

if TYPE_CHECKING:
    from mriad.ablation.plan import Plan
    from mriad.ablation.run import Outcome


def ablate(
    ablation: Annotated[
        str, typer.Argument(help="A YAML file with `base:` and `variants:`, or PLUGIN:NAME.")
    ],
    overrides: Set = None,
    launcher: Annotated[
        LauncherChoice,
        typer.Option("--launcher", help="Ray Tune (embedded or a cluster), or this machine without Ray."),
    ] = LauncherChoice.RAY,
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Where everything is written. [default: ./mriad-runs]")
    ] = None,
    tracking: Tracking = "",
    at_once: Annotated[
        int, typer.Option("--at-once", min=0, help="At most so many trials at a time; 0: as many as fit.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials, and what they need; run a few steps of one.")
    ] = False,
) -> None:
    """Run every variant × fold × seed that is not finished, then compare the variants.

    Example: mriad ablate ablation.yaml --dry-run

    On a cluster: ray job submit --working-dir . -- mriad ablate ablation.yaml --runs /shared/mriad-runs
    """
    from mriad.ablation.load import load_ablation
    from mriad.ablation.plan import make_plan
    from mriad.environment import quiet

    quiet()
    plan = make_plan(load_ablation(ablation, overrides or ()))
    again = f"{ablation}{set_flags(overrides)}{runs_flag(runs)}"
    if dry_run:
        _dry_run(plan, runs, ablation, again)
        return
    from mriad.ablation.run import AblationOptions, run_ablation

    options = AblationOptions(
        launcher="ray" if launcher is LauncherChoice.RAY else "inline",
        runs=runs,
        tracking=tracking,
        at_once=at_once,
        message=lambda text: print(text, file=sys.stderr, flush=True),
    )
    try:
        outcome = run_ablation(plan, options)
    except KeyboardInterrupt:
        print("interrupted; finished trials and the last checkpoints are kept", file=sys.stderr)
        next_step(f"mriad ablate {again}", "go on from there")
        raise typer.Exit(130) from None
    _report(outcome, runs)
    if outcome.failed:
        raise typer.Exit(1)


def _report(outcome: Outcome, runs: Path | None) -> None:
    for line in outcome.verdict:
        print(line)
    for end in outcome.failed:
        print(f"failed: {end.name}: {end.reason}", file=sys.stderr)
    print(f"\nablation  {outcome.folder}")
    if outcome.failed:
        next_step("the same command again", "runs what failed; finished trials are kept")
    next_step(f"mriad ui{runs_flag(runs)}", "the same in MLflow: one run a trial below the ablation")


def _dry_run(plan: Plan, runs: Path | None, given: str, again: str) -> None:
    """The trials, what is shared, and time, memory and disk from a few real steps of the first variant."""
    from mriad.ablation.jobs import is_done, plan_jobs
    from mriad.ablation.search import settings
    from mriad.ablation.searching import as_far_as_known
    from mriad.cli.train import _duration
    from mriad.launch.estimate import estimate
    from mriad.launch.files import runs_root
    from mriad.launch.protocol import visible_cpus

    root = runs_root(runs)
    plan, searching = as_far_as_known(plan, root)
    stages, jobs = plan_jobs(plan)
    done = sum(is_done(job, root) for job in jobs)
    todo = len(plan.trials) - done
    folds, seeds = {t.fold for t in plan.trials}, {t.seed for t in plan.trials}
    factors = f"{len(plan.variants)} variants × {len(folds)} folds × {len(seeds)} seeds"
    print(f"{plan.ablation.name}: {len(plan.trials)} trials = {factors}")
    for name in plan.variants:
        values = ", ".join(f"{k}={v}" for k, v in plan.settings.get(name, {}).items())
        print(f"  {name}{'  (' + values + ')' if values else ''}")
    for stage in stages:
        print(f"  shared stage {stage.node}: needed by {stage.trials} trials, run once")
    for line in settings(plan.searches):
        print(f"  {line}")
    if plan.searches:
        print(f"{searching} trainings of searches to run, before the trials that they choose values for")
    print(f"{done} finished before, {todo} to run")
    imported = {n for n, v in plan.ablation.variants.items() if v.predictions is not None}
    trained = next((t for t in plan.trials if t.variant not in imported), None)
    if trained is not None and todo + searching:
        resources = plan.resources
        device = "cuda:0" if resources.gpus else "cpu"
        found = estimate(trained.experiment, root.store, device)
        at_once = max(1, visible_cpus() // (resources.workers * resources.cpus))
        each = found.training_seconds + found.validation_seconds  # a search tests nothing
        parent = next(p for p in (root.path, *root.path.parents) if p.exists())
        print(
            f"a trial        {_duration(found.seconds)}: {_duration(found.training_seconds)} of training "
            f"({found.steps:,} steps of {found.step_seconds:.3g} s), {_duration(found.validation_seconds)} of "
            f"validation, {_duration(found.test_seconds)} of tests"
        )
        if searching:
            asha = any(search.spec.scheduler == "asha" for search in plan.searches)
            most = "at most " if asha else ""
            print(f"the searches   {most}{_duration(each * searching / at_once)}")
        print(
            f"all of them    {_duration((found.seconds * todo + each * searching) / at_once)} with {at_once} at once "
            "on this machine"
        )
        print(f"peak memory    {found.peak_memory_bytes / 2**30:.2f} GiB a trial")
        free = shutil.disk_usage(parent).free / 2**30
        print(f"prepared data  {found.prepared_bytes / 2**30:.2f} GiB of disk; {free:.0f} GiB are free")
    if Path(given).is_file():
        from mriad.launch.upload import measure_upload

        print(f"job's upload   {measure_upload(Path(given).absolute().parent).line()}")
    next_step(f"mriad ablate {again}", "run them")
