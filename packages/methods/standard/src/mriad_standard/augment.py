"""A small fused augmentation that runs on a batch on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from mriad.interfaces import Augmenter
from pydantic import AfterValidator, Field

if TYPE_CHECKING:
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import Task


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"a range goes from low to high, not from {value[0]} to {value[1]}")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]
PerAxis = tuple[NotNegative, NotNegative, NotNegative]


class Augment(Augmenter):
    """Flip, affine, gamma, scaling and noise, in this order. All probabilities are 0 by default.

    Each sample draws for itself, so its result does not depend on the batch that it is in, and switching one
    step on does not change the draws of the others.

    - flip: each of `flip_axes` on its own; exact.
    - affine: rotation about the patch's centre, then scale, then translation, in mm, as one resampling of
      image, target, validity and field. Image and soft targets are interpolated linearly, integer targets by
      the nearest voxel. What lies beyond the patch repeats its border in the image and is hidden by the
      validity; beside a soft target a voxel stays valid only if all that were mixed into it were.
    - gamma: ((x − min)/(max − min))^γ on its own range, per channel.
    - scaling: x·factor.  noise: x + σ·n, n standard normal.
    """

    type: Literal["standard.augment"] = "standard.augment"
    where: ClassVar[Literal["device", "worker"]] = "device"
    flip_probability: Probability = Field(0.0, description="Of flipping each axis.")
    flip_axes: tuple[Literal["x", "y", "z"], ...] = Field(
        ("x", "y", "z"), description="Axes of the working grid; z has no effect in 2D."
    )
    affine_probability: Probability = Field(0.0, description="Of rotating, scaling and moving a sample.")
    rotation_deg: PerAxis = Field(
        (15.0, 15.0, 15.0),
        description="Largest angle about x, y and z in degrees, either way; 2D uses the last.",
    )
    scale: PositiveRange = Field((0.85, 1.15), description="Range of the factor by which anatomy grows.")
    translation_mm: PerAxis = Field(
        (0.0, 0.0, 0.0), description="Largest shift along x, y and z in mm, either way."
    )
    gamma_probability: Probability = Field(0.0, description="Of changing the contrast curve.")
    gamma: PositiveRange = Field((0.7, 1.5), description="Range of γ.")
    scaling_probability: Probability = Field(0.0, description="Of multiplying the intensities.")
    scaling: PositiveRange = Field((0.75, 1.25), description="Range of the factor.")
    noise_probability: Probability = Field(0.0, description="Of adding noise.")
    noise_std: NotNegativeRange = Field((0.0, 0.1), description="Range of σ, in units of the prepared image.")
    margin_voxels: int = Field(
        0, ge=0, description="Voxels that a patch is cut larger on each side, for rotations to draw on."
    )

    def margin(self) -> int:
        """Voxels that a patch should be larger on each side."""
        return self.margin_voxels

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_standard.augmentation import FusedAugmentation

        return FusedAugmentation(self)
