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
    from mriad.stages.evaluate import EvaluateImportedStage, EvaluateStage
    from mriad.stages.pseudo_label import PseudoLabel
    from mriad.stages.train import TrainStage

    for component in (TrainStage, EvaluateStage, EvaluateImportedStage, Ensemble, PseudoLabel):
        register(component)
