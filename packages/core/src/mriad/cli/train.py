"""`mriad train` and `mriad resume`: run the stages of an experiment."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriad.cli.next_step import next_step, runs_flag, set_flags
from mriad.errors import LaunchError

if TYPE_CHECKING:
    from mriad.experiment.model import Experiment
    from mriad.launch.estimate import Estimate
    from mriad.launch.trial import Trial


class LauncherChoice(StrEnum):
    """Where the work is done."""

    INLINE = "inline"
    RAY = "ray"


Set = Annotated[
    list[str] | None, typer.Option("--set", help="a.b=value, over what the file says; may be repeated.")
]
Runs = Annotated[
    Path | None, typer.Option("--runs", help="Where everything is written. [default: ./mriad-runs]")
]
Tracking = Annotated[
    str,
    typer.Option("--tracking", help="URI of an MLflow store; `off` for none. [default: SQLite below --runs]"),
]
Where = Annotated[
    LauncherChoice,
    typer.Option("--launcher", help="This process, or Ray Train workers (embedded or a cluster)."),
]


def train(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name PLUGIN:NAME of an installed one.")
    ],
    overrides: Set = None,
    launcher: Where = LauncherChoice.INLINE,
    runs: Runs = None,
    tracking: Tracking = "",
    overfit: Annotated[
        int,
        typer.Option(min=0, help="Train and validate on the first n cases: does the set-up learn at all?"),
    ] = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="A few real steps: does it fit in memory, and how long will it take?"),
    ] = False,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start training from these weights: an imported model's name, a model file, or a folder.",
        ),
    ] = "",
) -> None:
    """Run the stages of an experiment; done ones are skipped, interrupted ones resumed.

    Example: mriad train experiment.yaml --set budget.steps=2000

    Look first: mriad preview experiment.yaml; mriad train experiment.yaml --dry-run
    """
    from mriad.experiment.load import load_located

    loaded = load_located(experiment, overrides or ())
    chosen = loaded.experiment
    if start:
        from mriad.stages.starting import find_start, starting_from

        chosen = starting_from(chosen, find_start(start, runs))
    if dry_run:
        again = f"{experiment}{set_flags(overrides)}{f' --from {start}' if start else ''}{runs_flag(runs)}"
        _dry_run(chosen, runs, again)
        return
    _run(chosen, launcher.value, runs, tracking, overfit, loaded.source.parent)


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of a run: RUNS/runs/NAME-ID.")],
    launcher: Where = LauncherChoice.INLINE,
    runs: Runs = None,
    tracking: Tracking = "",
) -> None:
    """Go on with a run that was interrupted, from the experiment that it wrote down.

    Example: mriad resume mriad-runs/runs/cord-3f2a9c81b7de
    """
    written = run / "experiment.yaml"
    if not written.is_file():
        raise LaunchError(
            "this is no run's folder",
            where={"folder": run, "expected": "experiment.yaml in it"},
            remedy="mriad runs list",
        )
    from mriad.experiment.load import load_located

    loaded = load_located(written)
    # A run lies at RUNS/runs/NAME-ID, and must go on there.
    _run(loaded.experiment, launcher.value, runs or run.absolute().parent.parent, tracking, 0, written.parent)


def _run(
    experiment: Experiment, launcher: str, runs: Path | None, tracking: str, overfit: int, place: Path
) -> None:
    from mriad.cli.progress import TerminalReporter
    from mriad.environment import quiet

    quiet()
    from mriad.launch.files import runs_root
    from mriad.launch.trial import OFF, TrialOptions, overfitting, run_trial, trial_id
    from mriad.tracking.address import public

    reporter = TerminalReporter(experiment.name)
    chosen = overfitting(experiment, overfit) if overfit else experiment
    options = TrialOptions(
        launcher="ray" if launcher == "ray" else "inline",
        runs=runs,
        tracking=tracking,
        reporter=reporter,
        place=place,
    )
    try:
        trial = run_trial(chosen, options)
    except KeyboardInterrupt:
        reporter.close()
        folder = runs_root(runs).run(chosen.name, trial_id(chosen))
        print("interrupted; what was finished and the last checkpoint are kept", file=sys.stderr)
        next_step(f"mriad resume {_short(folder)}{runs_flag(runs)}", "go on from there")
        raise typer.Exit(130) from None
    finally:
        reporter.close()
    print_results(trial)
    if any(a.kind == "predictor" for a in trial.artefacts.values()):
        next_step(f"mriad predict SCAN.nii.gz --model {_short(trial.folder)}", "segment a scan")
    where = f" --tracking {public(tracking)}" if tracking not in ("", OFF) else runs_flag(runs)
    next_step(f"mriad ui{where}", "compare runs in MLflow")


def print_results(trial: Trial) -> None:
    """The test table, and where things are."""
    rows = [(s.metric, s.structure, s.reference, s.text()) for s in trial.summary]
    if rows:
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        print("\ntest cases, mean ± SD over cases")
        for row in rows:
            print(
                "  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)) + f"  {row[3]}"
            )
    print(f"\nrun      {_short(trial.folder)}")
    figures = sorted((trial.folder / "figures").glob("*.png"))
    if figures:
        print(f"figures  {_short(figures[0].parent)}/  ({', '.join(f.name for f in figures)})")


def _short(path: Path) -> str:
    """A path as a person would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _dry_run(experiment: Experiment, runs: Path | None, given: str) -> None:
    from mriad.launch.estimate import estimate
    from mriad.launch.files import runs_root

    root = runs_root(runs)
    device = "cuda:0" if experiment.resources.gpus else "cpu"
    found = estimate(experiment, root.store, device)
    parent = next(p for p in (root.path, *root.path.parents) if p.exists())
    free = shutil.disk_usage(parent).free
    for name, value in _rows(found, free):
        print(f"{name:<18}{value}")
    next_step(f"mriad train {given}", "the real run")


def _rows(found: Estimate, free: int) -> list[tuple[str, str]]:
    gib = 2**30
    per_epoch = found.steps / found.steps_per_epoch
    shapes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in found.shapes.items())
    return [
        ("cases", f"{found.train_cases} train, {found.validation_cases} validation, {found.test_cases} test"),
        ("persons", str(found.persons)),
        ("batch", shapes),
        ("parameters", f"{found.parameters:,}"),
        ("steps", f"{found.steps:,} ({per_epoch:.1f} epochs, {found.validations} validations)"),
        ("a step", f"{found.step_seconds:.3g} s"),
        ("training", _duration(found.training_seconds)),
        (
            "validation",
            _cases(found.validation_seconds, found.validated_cases, found.validation_case_seconds),
        ),
        ("test", _cases(found.test_seconds, found.tested_cases, found.test_case_seconds)),
        ("all of it", f"{_duration(found.seconds)}, and the figures"),
        ("peak memory", f"{found.peak_memory_bytes / gib:.2f} GiB in these steps"),
        ("prepared data", f"{found.prepared_bytes / gib:.2f} GiB of disk; {free / gib:.0f} GiB are free"),
    ]


def _cases(seconds: float, cases: int, each: float) -> str:
    return f"{_duration(seconds)} ({cases} cases of {each:.2g} s)" if cases else "none"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
