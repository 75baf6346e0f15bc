"""Core's own components, through the same hooks as everyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad.hookspecs import hookimpl

if TYPE_CHECKING:
    from mriad.hookspecs import RegisterComponent

MRIAD_API = 1


@hookimpl
def mriad_register_components(register: RegisterComponent) -> None:
    """Offer the generic stages."""
    from mriad.stages.ensemble import Ensemble
    from mriad.stages.evaluate import EvaluateImportedStage, EvaluateLabelStage, EvaluateStage
    from mriad.stages.pseudo_label import PseudoLabel
    from mriad.stages.train import TrainStage

    stages = (TrainStage, EvaluateStage, EvaluateImportedStage, EvaluateLabelStage, Ensemble, PseudoLabel)
    for component in stages:
        register(component)
