"""The network of `synthseg.unet`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mriad.errors import ShapeError
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from mriad_synthseg.models import UNet

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
POOLS: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
NORMS: dict[str, dict[int, type[nn.Module]]] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}


BATCH_NORM_EPSILON = 1e-3
"""Keras's, which the public weights were trained with; torch's default is another."""


class Level(nn.Module):
    """Convolutions with ELU, and a norm: gives what leaves before the norm and what leaves after it."""

    def __init__(self, config: UNet, before: int, after: int, dimensions: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            CONVOLUTIONS[dimensions](before if n == 0 else after, after, 3, padding=1)
            for n in range(config.convs_per_level)
        )
        self.norm: nn.Module = nn.Identity()
        if config.norm == "batch":
            self.norm = NORMS["batch"][dimensions](after, eps=BATCH_NORM_EPSILON)
        elif config.norm == "instance":
            self.norm = NORMS["instance"][dimensions](after, affine=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, C, *D) twice."""
        for convolution in self.convs:
            x = F.elu(convolution(x))
        return x, self.norm(x)


class LevelUNet(nn.Module):
    """See `mriad_synthseg.models.UNet`; levels are numbered from the finest, 0."""

    def __init__(self, config: UNet, channels: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        self.divisor = config.divisor()
        self._needs_voxels = config.norm == "instance"
        width = [config.features * 2**level for level in range(config.levels)]
        self.pool = POOLS[dimensions](2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.down = nn.ModuleList(
            Level(config, channels if level == 0 else width[level - 1], width[level], dimensions)
            for level in range(config.levels)
        )
        self.up = nn.ModuleList(
            Level(config, width[level + 1] + width[level], width[level], dimensions)
            for level in range(config.levels - 1)
        )
        self.last = CONVOLUTIONS[dimensions](width[0], outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return raw outputs.

        Raises:
            ShapeError: see the config.
        """
        self._check(tuple(image.shape[2:]))
        kept: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            across, x = block(x if level == 0 else self.pool(x))
            kept.append(across)
        kept.pop()
        for block in reversed(self.up):
            _, x = block(torch.cat([kept.pop(), self.upsample(x)], 1))
        raw: Tensor = self.last(x)
        return raw

    def _check(self, size: tuple[int, ...]) -> None:
        if any(n % self.divisor for n in size):
            raise ShapeError(
                "the network cannot take an input of this size",
                where={"size": size, "expected": f"multiples of {self.divisor}"},
                remedy=f"make it {[-(-n // self.divisor) * self.divisor for n in size]}, or use fewer levels",
            )
        if self._needs_voxels and math.prod(size) == self.divisor ** len(size):
            raise ShapeError(
                "the coarsest level would be a single voxel, which instance norm cannot take",
                where={"size": size, "expected": f"more than {self.divisor} along an axis"},
                remedy="choose a larger size, fewer levels, or norm: none",
            )
