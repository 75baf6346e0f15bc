"""What `synthseg` offers."""

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
    from mriad_synthseg import (
        atlas_stage,
        generate,
        losses,
        models,
        posteriors,
        samseg,
        stages,
        supervised,
    )

    for component in (
        atlas_stage.AtlasEM,
        atlas_stage.FitAtlas,
        generate.Generate,
        models.UNet,
        losses.Dice,
        losses.LogitRegression,
        posteriors.Posteriors,
        samseg.Samseg,
        samseg.SamsegStage,
        stages.FitPriors,
        stages.SplitBackground,
        supervised.SupervisedAugment,
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
    """Register `mriad synthseg`."""
    register(
        "synthseg",
        "mriad_synthseg.commands:app",
        "Learn priors; segment with volumes and quality; import weights: mriad synthseg import FILE.h5 --out NAME.",
    )
