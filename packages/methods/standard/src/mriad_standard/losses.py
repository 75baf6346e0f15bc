"""Segmentation losses as configs; the numbers are in `mriad_standard.loss_functions`.

Every built loss is called as `loss(prediction, target, weight=None)`:

- prediction: raw outputs (B, O, *D), float; O = S + 1 with background first for softmax, else S.
- target: integer (B, 1, *D), 0 background and s + 1 structure s; or float (B, S, *D) in [0, 1].
- weight: (B, 1, *D) ≥ 0, where 0 hides a voxel: neither value nor gradient depends on what is there.

It returns the mean over samples of one value a sample, () float32 (float64 for float64 input), lower is
better, and computes in float32 inside autocast. A sample without any visible voxel contributes 0 to that
mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from mriad.interfaces import Loss
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.interfaces import LossFunction
    from mriad.vocabulary import Link, Task

DiceForm = Literal["linear", "squared"]


class DiceCE(Loss):
    """Soft Dice of the structures plus cross-entropy: `dice_weight·(1 − Dice) + ce_weight·CE`.

    The nnU-Net loss (Isensee et al., Nature Methods 2021), but with Dice per sample instead of over the
    batch, so that ranks average to the joint batch. The parts are those of `standard.dice` and
    `standard.cross_entropy`; they share one softmax.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["standard.dice_ce"] = "standard.dice_ce"
    link_: Literal["softmax", "sigmoid"] = Field(
        "softmax",
        alias="link",
        description="softmax: against background; sigmoid: one a structure, binary CE.",
    )
    dice_weight: float = Field(1.0, ge=0, description="Factor of 1 − Dice; unitless.")
    ce_weight: float = Field(1.0, ge=0, description="Factor of the cross-entropy in nats.")
    form: DiceForm = Field("linear", description="Denominator of Dice; see standard.dice.")
    smooth: float = Field(1e-5, gt=0, description="Added to numerator and denominator of Dice; in voxels.")

    @model_validator(mode="after")
    def _not_both_zero(self) -> Self:
        if self.dice_weight == 0 and self.ce_weight == 0:
            raise ValueError("dice_weight and ce_weight are both 0: one of the two must be positive")
        return self

    @property
    def link(self) -> Link:
        """How raw outputs are read."""
        return self.link_

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_standard.loss_functions import OverlapAndEntropy

        return OverlapAndEntropy(
            task, self.type, self.link_, self.dice_weight, self.ce_weight, self.form, self.smooth
        )


class Dice(Loss):
    """1 − soft Dice, per sample and structure, background left out (Milletari et al., 3DV 2016, section 3).

    With p the probability, g the target, w the weight, sums over voxels and ε = `smooth`:

    - linear: Dice = (2 Σ w·p·g + ε) / (Σ w·p + Σ w·g + ε). For a fractional g its optimum is not p = g: it
      drives p to 0 or 1. This is the form of nnU-Net.
    - squared: Dice = (2 Σ w·p·g + ε) / (Σ w·p² + Σ w·g² + ε), which is 1 if and only if p = g where w > 0.

    A structure that a sample lacks is not skipped: its Dice is ε / (Σ w·p + ε), 1 if nothing is predicted and
    near 0 as soon as something is, so that false positives count.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["standard.dice"] = "standard.dice"
    link_: Literal["softmax", "sigmoid", "raw"] = Field(
        "softmax", alias="link", description="softmax, sigmoid, or raw: outputs are the probabilities."
    )
    form: DiceForm = Field("linear", description="linear, or squared, which is exact for soft targets.")
    smooth: float = Field(1e-5, gt=0, description="ε, in voxels.")

    @property
    def link(self) -> Link:
        """How raw outputs are read."""
        return self.link_

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_standard.loss_functions import OverlapAndEntropy

        return OverlapAndEntropy(task, self.type, self.link_, 1.0, 0.0, self.form, self.smooth)


class CrossEntropy(Loss):
    """Cross-entropy in nats: weighted mean over voxels, then over samples.

    softmax: −Σ_c g_c log p_c with the background g_0 = 1 − Σ_s g_s. sigmoid: binary cross-entropy, mean over
    structures. For a soft target the minimum is its entropy, reached at p = g.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["standard.cross_entropy"] = "standard.cross_entropy"
    link_: Literal["softmax", "sigmoid"] = Field("softmax", alias="link", description="softmax or sigmoid.")

    @property
    def link(self) -> Link:
        """How raw outputs are read."""
        return self.link_

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_standard.loss_functions import OverlapAndEntropy

        return OverlapAndEntropy(task, self.type, self.link_, 0.0, 1.0, "linear", 1e-5)


class MSE(Loss):
    """Mean squared error over structures and visible voxels, then over samples.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["standard.mse"] = "standard.mse"
    link_: Literal["raw", "sigmoid"] = Field(
        "raw", alias="link", description="raw: outputs are the prediction; sigmoid: their sigmoid is."
    )

    @property
    def link(self) -> Link:
        """How raw outputs are read."""
        return self.link_

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_standard.loss_functions import MeanSquaredError

        return MeanSquaredError(task, self.type, self.link_)


class DeepSupervision(Loss):
    """Weighs a loss over the outputs of a U-Net, finest first: weights 1, ½, ¼, …, divided by their sum.

    Targets and weight are brought to each coarser grid: soft targets by area mean, hard ones by the nearest
    voxel, the weight by its minimum, so that a coarse voxel counts only where all that it covers was visible.
    A prediction that is a single tensor (a network in evaluation mode) goes to the loss as it is. Source: Dou
    et al., MedIA 2017, equation 3; weights as in nnU-Net.

    Raises:
        ShapeError: from the inner loss, or the outputs do not get coarser.
    """

    type: Literal["standard.deep_supervision"] = "standard.deep_supervision"
    loss: Loss = Field(description="The loss at every resolution.")

    @property
    def link(self) -> Link | None:
        """The inner loss's."""
        return self.loss.link

    def build(self, task: Task) -> LossFunction:
        """Return a function that also takes a list of outputs as prediction."""
        from mriad_standard.deep_supervision import DeeplySupervised

        return DeeplySupervised(self.loss.build(task))
