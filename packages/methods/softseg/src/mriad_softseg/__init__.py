"""softseg: Towards contrast-agnostic soft segmentation of the spinal cord.

Everything here is a component's config; torch and the libraries that do the work are imported by `build`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriad_softseg.augment import Augment, LiteralAugment, MonaiChain
    from mriad_softseg.heads import Clamp, NormReLU, RobustMaximum
    from mriad_softseg.losses import AdaptiveWing, LiteralDeepSupervision, LiteralDiceCE, NormReLUInLoss

_HOMES = {
    "AdaptiveWing": "losses",
    "Augment": "augment",
    "Clamp": "heads",
    "LiteralAugment": "augment",
    "LiteralDeepSupervision": "losses",
    "LiteralDiceCE": "losses",
    "MonaiChain": "augment",
    "NormReLU": "heads",
    "NormReLUInLoss": "losses",
    "RobustMaximum": "heads",
}
__all__ = [
    "AdaptiveWing",
    "Augment",
    "Clamp",
    "LiteralAugment",
    "LiteralDeepSupervision",
    "LiteralDiceCE",
    "MonaiChain",
    "NormReLU",
    "NormReLUInLoss",
    "RobustMaximum",
]


def __getattr__(name: str) -> Any:
    """Import a component's module when it is asked for: `mriad --help` reads this package too."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mriad_softseg' has no attribute '{name}'")
    return getattr(import_module(f"mriad_softseg.{_HOMES[name]}"), name)
