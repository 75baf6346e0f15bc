"""What `softseg` offers."""

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
    from mriad_softseg import augment, big_aug, centred, heads, losses, models, soft_ground_truth

    for component in (
        augment.Augment,
        augment.LiteralAugment,
        augment.MonaiChain,
        big_aug.BigAug,
        big_aug.LiteralBigAug,
        centred.Centred,
        heads.NormReLU,
        heads.Clamp,
        heads.RobustMaximum,
        losses.AdaptiveWing,
        losses.NormReLUInLoss,
        losses.LiteralDiceCE,
        losses.LiteralDeepSupervision,
        models.AHNet,
        soft_ground_truth.SoftGroundTruth,
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
    """`mriad softseg`; its module is imported when it is run."""
    register(
        "softseg",
        "mriad_softseg.commands:app",
        "Make a model of the public spinal cord checkpoint: mriad softseg import FILE --licence NAME.",
    )
