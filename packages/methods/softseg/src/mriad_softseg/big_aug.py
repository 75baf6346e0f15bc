"""BigAug (Zhang et al., IEEE TMI 2020), stacked augmentation for unseen domains; numbers in `mriad_softseg.stacked`.

Steps in order: sharpen, blur, noise (quality); brightness, contrast, perturbation (appearance); rotation and scale,
deformation (space). Each sample draws each step with its own probability. docs/reference/softseg.md lists sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mriad_softseg.augment import (
    Engine,
    NotNegative,
    NotNegativeRange,
    PerAxis,
    PositiveRange,
    Probability,
    Range,
)

if TYPE_CHECKING:
    from mriad.batch import Draws
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import Task
    from torch import Tensor

Either = Annotated[NotNegative, Field(description="Largest change, either way.")]


class Stack(Engine):
    """What the published and the literal version share; the defaults are the published ranges, each p = 0.5."""

    sharpen_probability: Probability = Field(0.5, description="Of sharpening.")
    sharpen: NotNegativeRange = Field(
        (10.0, 30.0), description="α: b + α·(b − b blurred again), b the image blurred."
    )
    sharpen_sigma: PositiveRange = Field(
        (0.5, 1.0),
        description="σ of the first blur, in voxels; the second lies between the low end and the first. MONAI's.",
    )
    blur_probability: Probability = Field(0.5, description="Of blurring.")
    blur_sigma: NotNegativeRange = Field(
        (0.25, 1.5), description="σ along each axis, drawn apart, in voxels."
    )
    noise_probability: Probability = Field(0.5, description="Of adding Gaussian noise.")
    noise_std: NotNegativeRange = Field(
        (0.1, 1.0), description="Standard deviation, in units of what `start` makes of the image."
    )
    brightness_probability: Probability = Field(0.5, description="Of shifting the intensities.")
    brightness: Either = Field(0.1, description="Largest shift, either way, in units of `start`.")
    gamma_probability: Probability = Field(0.5, description="Of changing the contrast curve.")
    gamma: PositiveRange = Field((0.5, 4.5), description="γ: x ↦ x^γ on the image's own range.")
    perturbation_probability: Probability = Field(0.5, description="Of scaling and shifting the intensities.")
    perturbation_scale: Either = Field(0.1, description="Factor 1 ± at most this.")
    perturbation_shift: Either = Field(
        0.1, description="Shift by at most this, either way, in units of `start`."
    )
    affine_probability: Probability = Field(0.5, description="Of rotating and scaling.")
    rotation_deg: PerAxis = Field(
        (20.0, 20.0, 20.0), description="Largest angle about each axis in degrees, either way."
    )
    elastic_probability: Probability = Field(0.5, description="Of deforming.")
    elastic_sigma: PositiveRange = Field(
        (10.0, 13.0), description="σ of the Gaussian that smooths the displacements, in voxels."
    )
    elastic_magnitude: NotNegativeRange = Field(
        (0.0, 1000.0),
        description="Factor on uniform noise after smoothing, as in softseg.augment: up to 2.7 voxels of standard "
        "deviation. From secondary sources; the publication should be looked up before it is called BigAug's.",
    )
    start: Literal["range", "z_score"] = Field(
        "range",
        description="What is done to each channel first: its range brought to [0, 1] as the ranges assume, or "
        "(x − mean)/standard deviation.",
    )
    z_score: Literal["field", "all", "off"] = Field(
        "field", description="Last step, per channel, as in softseg.augment, so that networks see one scale."
    )

    def sampling_steps(self, host: Draws) -> Tensor:
        """(B, 3): the sampling step along each axis; 1 leaves a length, 2 halves it."""
        raise NotImplementedError

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_softseg.stacked import StackedAugmentation

        return StackedAugmentation(self)


class BigAug(Stack):
    """BigAug with the published ranges, for one resampling of image, target, validity and field.

    Soft targets move linearly, integer ones take the nearest voxel; see `softseg.augment`, whose engine this is.

    Raises:
        ExperimentError: `backend: compiled` without numba (`build`), or with a batch that is not on the CPU.
    """

    type: Literal["softseg.big_aug"] = "softseg.big_aug"
    scale: PositiveRange = Field((0.4, 1.6), description="Factor by which anatomy grows, one for all axes.")

    def sampling_steps(self, host: Draws) -> Tensor:
        """One over the factor, alike along all axes."""
        return (1 / host.uniform(*self.scale))[:, None].repeat(1, 3)


class LiteralBigAug(Stack):
    """BigAug as the spinal cord paper's branch ran it.

    Z-score first, noise from 0, a deformation of at most a tenth of a voxel, rotation about two axes. The range
    (0.4, 1.6) reached MONAI as one number an axis, an offset around 1: the second axis is scaled through zero and
    mirrored. The rest of that variant (AHNet, crops, Dice on NormReLU) is for an experiment to say.
    """

    type: Literal["softseg.literal_big_aug"] = "softseg.literal_big_aug"
    noise_std: NotNegativeRange = Field((0.0, 1.0), description="As in softseg.big_aug.")
    gamma: PositiveRange = Field((0.5, 3.0), description="As in softseg.big_aug.")
    rotation_deg: PerAxis = Field(
        (20.0, 20.0, 0.0), description="As in softseg.big_aug; none about the last axis."
    )
    elastic_magnitude: NotNegativeRange = Field((25.0, 35.0), description="As in softseg.big_aug.")
    steps: tuple[Range, Range, Range] = Field(
        ((0.6, 1.4), (-0.6, 2.6), (1.0, 1.0)),
        description="Range of the sampling step along each axis; a negative one mirrors.",
    )
    image_order: Literal[1, 2] = Field(1, description="As in softseg.augment.")
    beyond: Literal["border", "mirror"] = Field("mirror", description="As in softseg.augment.")
    start: Literal["range", "z_score"] = Field("z_score", description="As in softseg.big_aug.")
    z_score: Literal["field", "all", "off"] = Field("off", description="As in softseg.big_aug.")

    def sampling_steps(self, host: Draws) -> Tensor:
        """Each axis for itself."""
        import torch

        unit = host.uniform(0, 1, (3,))
        low, high = torch.tensor(self.steps).T
        return low + unit * (high - low)
