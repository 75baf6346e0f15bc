"""What several methods of mriad share: U-Nets, losses, the supervised learner, augmentation, adapters.

Everything here is a component's config; torch and the libraries that do the work are imported by `build`.
"""

from mriad_standard.adapters import Monai, TorchIO
from mriad_standard.augment import Augment
from mriad_standard.heads import Identity, Sigmoid, Softmax
from mriad_standard.learners import Supervised
from mriad_standard.losses import MSE, CrossEntropy, DeepSupervision, Dice, DiceCE
from mriad_standard.models import PlainUNet, ResidualUNet
from mriad_standard.optimisers import SGD, Adam, AdamW
from mriad_standard.postprocessors import LargestComponent
from mriad_standard.schedules import Constant, Cosine, Polynomial

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
