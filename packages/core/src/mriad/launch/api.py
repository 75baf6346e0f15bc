"""What a notebook calls: train an experiment, look at its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.launch.trial import Trial, TrialOptions, overfitting, run_trial

if TYPE_CHECKING:
    from pathlib import Path

    from mriad.batch import Batch
    from mriad.experiment.model import Experiment
    from mriad.launch.protocol import LauncherName
    from mriad.training.protocols import Reporter


def train(
    experiment: Experiment,
    *,
    launcher: LauncherName = "inline",
    runs: Path | str | None = None,
    tracking: str = "off",
    overfit: int = 0,
    reporter: Reporter | None = None,
) -> Trial:
    """Run an experiment's stages in this process (or under Ray) and return the finished trial.

    Example: `run = mriad.train(experiment); mriad.predict(run.predictor, "scan.nii.gz")`.

    Args:
        experiment: `mriad.Experiment.load("x.yaml")`.
        launcher: "inline" or "ray".
        runs: where everything is written; default: MRIAD_RUNS, else ./mriad-runs.
        tracking: "off" (the local record alone), "" (the default SQLite store), or the URI of a store.
        overfit: train and validate on the first n cases: does the set-up learn at all?
        reporter: told of metrics, progress and messages.

    Raises:
        MriadError: of any stage; running it again goes on where it stopped.
    """
    chosen = overfitting(experiment, overfit) if overfit else experiment
    return run_trial(chosen, TrialOptions(launcher=launcher, runs=runs, tracking=tracking, reporter=reporter))


def preview_batches(
    experiment: Experiment, count: int, runs: Path | str | None = None
) -> list[tuple[str, Batch]]:
    """Draw `count` augmented samples of every stream and view, as (name, batch) in the order of the streams.

    Raises:
        MriadError: data or experiment are at fault.
    """
    from mriad.launch.estimate import draw_batches
    from mriad.launch.files import runs_root

    drawn = draw_batches(experiment, count, runs_root(runs).store)
    return [(name, batch) for name, batches in drawn.items() for batch in batches]
