"""Losses of the soft segmentation paper; numbers in `mriad_softseg.loss_functions`.

Called like every loss of `mriad_standard.losses`: `loss(prediction, target, weight=None)` with raw outputs
(B, S, *D), a soft target (B, S, *D) in [0, 1] or an integer one (B, 1, *D), a weight (B, 1, *D) where 0 hides
a voxel; the mean over samples of one value a sample. All of them read outputs raw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from mriad.interfaces import Loss
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.interfaces import LossFunction
    from mriad.vocabulary import Link, Task


class AdaptiveWing(Loss):
    """Adaptive wing loss (Wang et al., ICCV 2019, equations 3 and 4), for regression of soft labels.

    With target y, output p, d = |y − p|, e = α − y:

    - d < θ: ω·ln(1 + (d/ε)^e)
    - else: A·d − C, with A = (ω/ε)·e·(θ/ε)^(e−1) / (1 + (θ/ε)^e) and C = θ·A − ω·ln(1 + (θ/ε)^e), so that value
      and slope are continuous at θ.

    Near y = 1 the exponent is 1.1 and small errors cost much; near y = 0 it is 2.1 and they cost little. The
    soft segmentation paper prints the exponent α; the loss's own publication and both codes use α − y, as here.
    The mean over voxels and structures; the public code sums, which with Adam is the same up to its ε.

    Targets carry no gradient.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["softseg.adaptive_wing"] = "softseg.adaptive_wing"
    omega: float = Field(8.0, gt=0, description="ω, scale of the curved part; unitless. Paper: 8, also 12.")
    epsilon: float = Field(
        1.0, gt=0, description="ε, its curvature, in units of the target. Paper: 1, also 0.5."
    )
    theta: float = Field(
        0.5, gt=0, description="θ, where it becomes linear, in units of the target. Paper: 0.5."
    )
    alpha: float = Field(
        2.1,
        gt=2,
        description="α; more than 2, so that the slope at no error is 0 for targets up to 1. Paper: 2.1.",
    )
    edge_weight: float = Field(
        0.0,
        ge=0,
        description="Extra weight of voxels whose 3³ neighbourhood reaches a target above 0.2. The wing paper has "
        "10; the public softseg code asks for it and in effect gets 0.",
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="Over the voxels of a sample: mean, or sum as in the public code."
    )

    @property
    def link(self) -> Link:
        """raw."""
        return "raw"

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_softseg.loss_functions import AdaptiveWingLoss

        return AdaptiveWingLoss(task, self)


class NormReLUInLoss(Loss):
    """Gives a loss NormReLU of the outputs instead of the outputs; a variant to ablate (`normrelu_in_loss`).

    The soft segmentation paper draws NormReLU as the network's last layer; its code trains on raw outputs. With
    it the maximum's gradient goes through one voxel of the volume. Hidden voxels cannot be the maximum.

    Raises:
        ShapeError: from the inner loss.
    """

    type: Literal["softseg.norm_relu_in_loss"] = "softseg.norm_relu_in_loss"
    loss: Loss = Field(description="A loss that reads outputs raw.")
    maximum: Literal["sample", "batch"] = Field(
        "sample",
        description="Of each sample and structure; or of the whole batch, as in the public code: then a sample's "
        "loss depends on its neighbours.",
    )

    @model_validator(mode="after")
    def _inner_is_raw(self) -> Self:
        if self.loss.link != "raw":
            raise ValueError(
                f"{self.loss.type_name()} reads outputs as {self.loss.link}; NormReLU gives values, so choose "
                "a loss with `link: raw`"
            )
        return self

    @property
    def link(self) -> Link:
        """raw."""
        return "raw"

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_softseg.loss_functions import Normalised

        return Normalised(self.loss.build(task), self.maximum)


class LiteralDiceCE(Loss):
    """What the paper's "DiceCE" rows were trained with: Dice of NormReLU, and no cross-entropy.

    The public code adds a softmax cross-entropy over its single output channel, which is 0 for any logits. What
    remains is 1 − soft Dice with linear denominator and ε = 1 voxel, of outputs divided by the batch's maximum
    (the code's value lies 1 lower: it minimises −Dice). For the loss that the name promises use
    `standard.dice_ce` with `link: sigmoid`.

    Raises:
        ShapeError: prediction, target or weight do not fit each other.
    """

    type: Literal["softseg.literal_dice_ce"] = "softseg.literal_dice_ce"

    @property
    def link(self) -> Link:
        """raw."""
        return "raw"

    def build(self, task: Task) -> LossFunction:
        """Return the function described in the module's docstring."""
        from mriad_standard.losses import Dice

        return NormReLUInLoss(loss=Dice(link_="raw", smooth=1.0), maximum="batch").build(task)


class LiteralDeepSupervision(Loss):
    """Deep supervision as in the public code: Σ_i ½^i·loss_i / n, so 0.3875 for five losses of 1.

    `standard.deep_supervision` divides by the sum of the weights instead. Targets are shrunk trilinearly without
    smoothing, hard ones as floats too; below half size that skips voxels where the area mean does not. The weight
    of a coarse voxel is the minimum over what it covers, as in standard: the public code has none.

    Raises:
        ShapeError: from the inner loss.
    """

    type: Literal["softseg.literal_deep_supervision"] = "softseg.literal_deep_supervision"
    loss: Loss = Field(description="The loss at every resolution.")

    @property
    def link(self) -> Link | None:
        """The inner loss's."""
        return self.loss.link

    def build(self, task: Task) -> LossFunction:
        """Return a function that also takes a list of outputs as prediction."""
        from mriad_softseg.loss_functions import LiterallySupervised

        return LiterallySupervised(self.loss.build(task))
