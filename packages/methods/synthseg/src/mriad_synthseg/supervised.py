"""The augmentation of the supervised baseline: real images, the generator's deformation; a light config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Augmenter
from pydantic import Field

if TYPE_CHECKING:
    from mriad.interfaces import BatchFunction
    from mriad.vocabulary import Task


class SupervisedAugment(Augmenter):
    """Random affine and diffeomorphic deformation, min–max, then gamma, of real images with their labels.

    The baseline of the SynthSeg paper (section 2.4): the deformation of its generator (Table 1), intensities by
    x ← x^γ alone; no noise and no bias field. x is an image scaled to [0, 1] by its own minimum and maximum; γ is
    exp(U(−0.3, 0.3)), the form of the published code, since the paper's bare exponent inverts the image below 0.
    Image and soft targets are interpolated linearly, integer targets by the nearest voxel, in one resampling; what
    comes from outside is 0 and not valid.
    """

    type: Literal["synthseg.supervised_augment"] = "synthseg.supervised_augment"
    rotation_deg: float = Field(10.0, ge=0, description="Largest angle about each axis, degrees.")
    scaling: float = Field(0.1, ge=0, lt=1, description="Largest deviation of each axis's factor from 1.")
    shear: float = Field(0.01, ge=0, description="Largest entry of the shear matrix.")
    translation_voxels: float = Field(20.0, ge=0, description="Largest shift along each axis, voxels.")
    velocity_grid: int = Field(10, ge=2, description="Nodes of the coarse velocity field along each axis.")
    velocity_std: float = Field(
        3.0,
        ge=0,
        description="Largest standard deviation of a node's velocity, voxels; drawn from U(0, this).",
    )
    log_gamma: float = Field(0.3, ge=0, description="Largest |log γ|.")

    def build(self, task: Task) -> BatchFunction:
        """Return the callable."""
        from mriad_synthseg.supervised_augmentation import SupervisedAugmentation

        return SupervisedAugmentation(self)
