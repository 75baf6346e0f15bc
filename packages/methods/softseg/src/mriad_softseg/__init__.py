"""softseg: Towards contrast-agnostic soft segmentation of the spinal cord.

Everything here is a component's config; torch and the libraries that do the work are imported by `build`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriad_softseg.augment import Augment, LiteralAugment, MonaiChain
    from mriad_softseg.big_aug import BigAug, LiteralBigAug
    from mriad_softseg.heads import Clamp, NormReLU, RobustMaximum
    from mriad_softseg.losses import AdaptiveWing, LiteralDeepSupervision, LiteralDiceCE, NormReLUInLoss
    from mriad_softseg.models import AHNet

_HOMES = {
    "AHNet": "models",
    "AdaptiveWing": "losses",
    "Augment": "augment",
    "BigAug": "big_aug",
    "Clamp": "heads",
    "LiteralAugment": "augment",
    "LiteralBigAug": "big_aug",
    "LiteralDeepSupervision": "losses",
    "LiteralDiceCE": "losses",
    "MonaiChain": "augment",
    "NormReLU": "heads",
    "NormReLUInLoss": "losses",
    "RobustMaximum": "heads",
}
__all__ = [
    "AHNet",
    "AdaptiveWing",
    "Augment",
    "BigAug",
    "Clamp",
    "LiteralAugment",
    "LiteralBigAug",
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
