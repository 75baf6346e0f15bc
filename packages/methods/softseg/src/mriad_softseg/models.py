"""The network that the spinal cord paper ran BigAug with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mriad.errors import ExperimentError
from mriad.interfaces import Model
from pydantic import Field

if TYPE_CHECKING:
    from mriad.vocabulary import Task
    from torch import nn


class AHNet(Model):
    """MONAI's AHNet (Liu et al., MICCAI 2018): a ResNet-like encoder whose kernels are thin along the last axis.

    About 38 million weights, all random. The publications initialise the encoder from 2D weights that this project
    does not ship.

    Raises:
        ExperimentError: a task that is not 3D (`build`).
    """

    type: Literal["softseg.ahnet"] = "softseg.ahnet"
    pyramid_levels: Literal[0, 1, 2, 3, 4] = Field(
        3,
        description="Levels of the pooling pyramid, which pool 16, 32, 64 and 128 voxels of the input in plane.",
    )

    def divisor(self) -> int:
        """Strides multiply to 32; the pyramid's widest pooling may be larger."""
        return max(32, 8 * 2**self.pyramid_levels)

    def build(self, task: Task) -> nn.Module:
        """Return the network on the CPU; imports MONAI."""
        if task.dimensions != 3:
            raise ExperimentError(
                f"model '{self.type}' is built for volumes",
                where={"task": f"{task.dimensions}D"},
                remedy="use standard.plain_unet",
            )
        from monai.networks.nets import AHNet as Network

        return Network(
            spatial_dims=3,
            in_channels=len(task.channels),
            out_channels=task.outputs(),
            psp_block_num=self.pyramid_levels,
            upsample_mode="transpose",
        )
