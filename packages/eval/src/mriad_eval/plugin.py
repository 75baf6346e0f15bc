"""What the plugin `eval` offers: metrics, figures and the commands `preview` and `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.hookspecs import hookimpl

if TYPE_CHECKING:
    from mriad.hookspecs import RegisterCommand, RegisterComponent

MRIAD_API = 1


@hookimpl
def mriad_register_components(register: RegisterComponent) -> None:
    """Metrics and figures."""
    from mriad_eval import metrics, trial_figures

    register(metrics.Dice)
    register(metrics.SoftDice)
    register(metrics.AverageSurfaceDistance)
    register(metrics.AverageSymmetricSurfaceDistance)
    register(metrics.RelativeVolumeError)
    register(trial_figures.Curves)
    register(trial_figures.Overlays)


@hookimpl
def mriad_register_commands(register: RegisterCommand) -> None:
    """Commands; their modules are imported when they are run."""
    register("preview", "mriad_eval.preview:preview", "Show augmented samples with label contours.")
    register("evaluate", "mriad_eval.evaluate:evaluate", "Score predictions against references.")
