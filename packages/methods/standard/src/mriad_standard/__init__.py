"""What several methods of mriad share: U-Nets, losses, the supervised learner, augmentation, adapters.

Everything here is a component's config; torch and the libraries that do the work are imported by `build`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mriad_standard.adapters import Monai, TorchIO
    from mriad_standard.augment import Augment
    from mriad_standard.heads import Identity, Sigmoid, Softmax
    from mriad_standard.learners import Supervised
    from mriad_standard.losses import MSE, CrossEntropy, DeepSupervision, Dice, DiceCE
    from mriad_standard.models import PlainUNet, ResidualUNet
    from mriad_standard.optimisers import SGD, Adam, AdamW
    from mriad_standard.postprocessors import LargestComponent
    from mriad_standard.schedules import Constant, Cosine, Polynomial

_HOMES = {
    "Adam": "optimisers",
    "AdamW": "optimisers",
    "Augment": "augment",
    "Constant": "schedules",
    "Cosine": "schedules",
    "CrossEntropy": "losses",
    "DeepSupervision": "losses",
    "Dice": "losses",
    "DiceCE": "losses",
    "Identity": "heads",
    "LargestComponent": "postprocessors",
    "MSE": "losses",
    "Monai": "adapters",
    "PlainUNet": "models",
    "Polynomial": "schedules",
    "ResidualUNet": "models",
    "SGD": "optimisers",
    "Sigmoid": "heads",
    "Softmax": "heads",
    "Supervised": "learners",
    "TorchIO": "adapters",
}
__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "DeepSupervision",
    "Dice",
    "DiceCE",
    "Identity",
    "LargestComponent",
    "Monai",
    "PlainUNet",
    "Polynomial",
    "ResidualUNet",
    "Sigmoid",
    "Softmax",
    "Supervised",
    "TorchIO",
]


def __getattr__(name: str) -> Any:
    """Import a component's module when it is asked for: `mriad --help` reads this package too."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mriad_standard' has no attribute '{name}'")
    return getattr(import_module(f"mriad_standard.{_HOMES[name]}"), name)
