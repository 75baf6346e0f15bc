"""The paper's U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.interfaces import Model
from pydantic import Field

if TYPE_CHECKING:
    from mriad.vocabulary import Task
    from torch import nn


class UNet(Model):
    """The U-Net of Billot et al., MIDL 2020, section 2.3: (B, C, *D) → raw outputs (B, O, *D).

    `levels` resolutions of two convolutions (3³ voxels, ELU) each, features doubling from `features`; max-pooling
    down, nearest-neighbour upsampling and concatenation up. The public code adds a batch norm (ε 1e-3) at the end of
    each level, after the way across has left; with one image a step it normalises by that image in training and by
    running averages afterwards, so instance norm, which is the same in both, is the default here.

    Raises:
        ShapeError: an input size that is no multiple of 2^(levels − 1), or so small that the coarsest resolution is
            a single voxel under instance norm (the module).
    """

    type: Literal["synthseg.unet"] = "synthseg.unet"
    levels: int = Field(5, ge=2, le=8, description="Resolutions.")
    features: int = Field(
        24, ge=1, description="Channels of the finest level; each coarser one has twice as many."
    )
    convs_per_level: int = Field(2, ge=1, description="Convolutions of each level, down and up.")
    norm: Literal["instance", "batch", "none"] = Field(
        "instance", description="At the end of each level; batch is literally the public code."
    )

    def divisor(self) -> int:
        """What every spatial size of an input must be a multiple of."""
        return int(2 ** (self.levels - 1))

    def build(self, task: Task) -> nn.Module:
        """Return the network on the CPU."""
        from mriad_synthseg.unet import LevelUNet

        return LevelUNet(self, len(task.channels), task.outputs(), task.dimensions)
