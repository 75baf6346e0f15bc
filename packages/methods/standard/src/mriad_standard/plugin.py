"""What `standard` offers: components that several methods share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mriad.hookspecs import hookimpl

if TYPE_CHECKING:
    from mriad.hookspecs import RegisterCommand, RegisterComponent, RegisterExperiment

MRIAD_API = 1


@hookimpl
def mriad_register_components(register: RegisterComponent) -> None:
    """Register every component."""
    from mriad_standard import (
        adapters,
        augment,
        heads,
        learners,
        losses,
        models,
        optimisers,
        postprocessors,
        schedules,
    )

    for component in (
        models.PlainUNet,
        models.ResidualUNet,
        losses.DiceCE,
        losses.Dice,
        losses.CrossEntropy,
        losses.MSE,
        losses.DeepSupervision,
        learners.Supervised,
        optimisers.Adam,
        optimisers.AdamW,
        optimisers.SGD,
        schedules.Cosine,
        schedules.Polynomial,
        schedules.Constant,
        heads.Softmax,
        heads.Sigmoid,
        heads.Identity,
        postprocessors.LargestComponent,
        augment.Augment,
        adapters.Monai,
        adapters.TorchIO,
    ):
        register(component)


@hookimpl
def mriad_register_experiments(register: RegisterExperiment) -> None:
    """Register the experiments in `experiments/` and the ablations in `ablations/`, by file name."""
    for folder in ("experiments", "ablations"):
        for path in sorted((Path(__file__).parent / folder).glob("*.yaml")):
            register(path.stem, path)


@hookimpl
def mriad_register_commands(register: RegisterCommand) -> None:
    """Register `mriad quickstart`."""
    register(
        "quickstart",
        "mriad_standard.quickstart:quickstart",
        "Train soft against hard labels on a spine phantom, and show what came out.",
    )
