"""The two losses of SynthSeg's training; the numbers are in `mriad_synthseg.loss_functions`.

Both are called as `loss(prediction, target, weight=None)`:

- prediction: raw outputs (B, S + 1, *D), background first.
- target: integer (B, 1, *D), 0 background and s + 1 structure s; or float (B, S, *D) in [0, 1].
- weight: (B, 1, *D) ≥ 0, where 0 hides a voxel.

They return the mean over samples of a value per sample, () float32 (float64 for float64 input), lower is better. A
sample without any visible voxel counts as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Loss
from pydantic import Field

if TYPE_CHECKING:
    from mriad.interfaces import LossFunction
    from mriad.vocabulary import Link, Task


class Dice(Loss):
    """1 − mean soft Dice over all labels, background included, of the softmax of raw outputs.

    Dice_k = (2 Σ w·p_k·g_k) / (Σ w·p_k² + Σ w·g_k² + ε), sums over the voxels of a sample: the form of the public
    code (ε = 1e-7). It is 1 if and only if p = g. Hard targets stay an index volume: neither a one-hot copy nor the
    softmax is kept, the latter is computed again, part by part, for the gradient. Gradients of gradients are not
    offered.

    A label that a sample lacks has no overlap to gain: by default it is left out of that sample's mean;
    `absent: include` counts its Dice of about 0, as the public code does, which adds a constant.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
        DataError: an index beyond the labels where the weight shows it.
    """

    type: Literal["synthseg.dice"] = "synthseg.dice"
    absent: Literal["mask", "include"] = Field("mask", description="Labels that a sample lacks.")
    epsilon: float = Field(1e-7, gt=0, description="ε, in voxels.")

    @property
    def link(self) -> Link:
        """Softmax."""
        return "softmax"

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_synthseg.loss_functions import SoftDice

        return SoftDice(task, self.absent == "mask", self.epsilon)


class LogitRegression(Loss):
    """Squared error of raw outputs against +5 at a voxel's label and −5 elsewhere, to start training ("WL2").

    Σ_v w_v·b_v·Σ_k (x_k − t_k)² / (K·Σ_v w_v·b_v), K labels, t_k = 10·g_k − 5, and b_v = 1 − g_background +
    `background`: the public code's, which precedes its Dice phase by it.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
        DataError: an index beyond the labels where the weight shows it.
    """

    type: Literal["synthseg.logit_regression"] = "synthseg.logit_regression"
    target: float = Field(5.0, gt=0, description="Logit of the true label; others have its negative.")
    background: float = Field(1e-4, gt=0, description="Weight of background voxels; others have 1 + this.")

    @property
    def link(self) -> Link:
        """Softmax, so that the same head reads the outputs."""
        return "softmax"

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_synthseg.loss_functions import RegressedLogits

        return RegressedLogits(task, self.target, self.background)
