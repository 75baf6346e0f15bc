"""U-Nets of the nnU-Net family (Isensee et al., Nature Methods 2021), by dynamic-network-architectures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from mriad.errors import ExperimentError
from mriad.interfaces import Model
from pydantic import Field, model_validator

if TYPE_CHECKING:
    from mriad.vocabulary import Task
    from torch import nn

Norm = Literal["instance", "batch", "none"]
PositiveInt = Annotated[int, Field(ge=1)]
PerAxis = PositiveInt | Annotated[list[PositiveInt], Field(min_length=2, max_length=3)]
"""One number for all axes, or one an axis."""

_FEATURES = Field(
    default_factory=lambda: [32, 64, 128, 256, 320, 320],
    min_length=2,
    description="Channels of each resolution.",
)
_STRIDES = Field(
    default_factory=list[PerAxis],
    description="Stride into each resolution, a number or one an axis; the first is 1. Empty: 1, then 2.",
)
_KERNELS = Field(
    default_factory=list[PerAxis], description="Kernel size of each resolution in voxels, odd. Empty: 3."
)


class _Resolutions(Model):
    """What both U-Nets share: a list of resolutions."""

    features: list[PositiveInt] = _FEATURES
    strides: list[PerAxis] = _STRIDES
    kernel_sizes: list[PerAxis] = _KERNELS
    deep_supervision: bool = Field(
        False, description="In training also return an output at each coarser resolution but the last."
    )
    norm: Norm = Field("instance", description="instance, batch or none.")

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        for name in ("strides", "kernel_sizes"):
            given = getattr(self, name)
            if given and len(given) != len(self.features):
                raise ValueError(
                    f"{name} has {len(given)} entries, features {len(self.features)}: one each a resolution"
                )
        even = [k for size in self.kernel_sizes for k in _axes(size, 1) if k % 2 == 0]
        if even:
            raise ValueError(f"kernel_sizes must be odd, so that sizes are kept; {even[0]} is even")
        if self.strides and set(_axes(self.strides[0], 1)) != {1}:
            raise ValueError(
                f"the first of strides is {self.strides[0]}; it must be 1, so that sizes are kept"
            )
        return self

    def divisors(self, dimensions: int) -> tuple[int, ...]:
        """What the size along each axis must be a multiple of."""
        strides = [_axes(s, dimensions) for s in self.strides or [1, *[2] * (len(self.features) - 1)]]
        return tuple(math.prod(axis) for axis in zip(*strides, strict=True))

    def divisor(self) -> int:
        """What every spatial size of an input must be a multiple of."""
        lengths = {len(s) for s in self.strides if isinstance(s, list)}
        return math.lcm(*self.divisors(lengths.pop() if lengths else 1))

    def axes_of(self, field: str, dimensions: int, default: int) -> list[list[int]]:
        """The entries of `strides` or `kernel_sizes` with a number an axis.

        Raises:
            ExperimentError: an entry has another number of axes than the task.
        """
        given: list[PerAxis] = getattr(self, field)
        rows = [_axes(s, dimensions) for s in given or [default] * len(self.features)]
        if not given and field == "strides":
            rows[0] = [1] * dimensions
        wrong = [row for row in rows if len(row) != dimensions]
        if wrong:
            raise ExperimentError(
                f"model '{self.type_name()}': {field} does not fit a {dimensions}D task",
                where={"entry": wrong[0], "expected": f"a number, or {dimensions} numbers"},
            )
        return rows


def _axes(value: PerAxis, dimensions: int) -> list[int]:
    return list(value) if isinstance(value, list) else [value] * dimensions


class PlainUNet(_Resolutions):
    """The plain U-Net of nnU-Net: strided convolutions down, transposed ones up, leaky ReLU (0.01).

    The module maps (B, C, *D) to raw outputs (B, O, *D); in training mode with deep supervision to a list of
    them, finest first, one for each resolution but the coarsest. Weights are He-normal, biases 0.

    Raises:
        ExperimentError: lists that do not fit the task's dimensions (`build`).
        ShapeError: an input size that is no multiple of the strides' product, or so small that the coarsest
            resolution is a single voxel, which instance norm cannot take (the module).
    """

    type: Literal["standard.plain_unet"] = "standard.plain_unet"
    convs_per_stage: int = Field(2, ge=1, description="Convolutions of each resolution, down and up.")

    def build(self, task: Task) -> nn.Module:
        """Return the network on the CPU."""
        from mriad_standard.unet import plain_unet

        return plain_unet(self, task)


class ResidualUNet(_Resolutions):
    """The U-Net with a residual encoder of nnU-Net (Isensee et al., MICCAI 2024); the default is its size M.

    Inputs, outputs and errors as `standard.plain_unet`.
    """

    type: Literal["standard.residual_unet"] = "standard.residual_unet"
    blocks_per_stage: list[PositiveInt] = Field(
        default_factory=lambda: [1, 3, 4, 6, 6, 6],
        description="Residual blocks of each resolution of the encoder.",
    )
    convs_per_stage: int = Field(1, ge=1, description="Convolutions of each resolution of the decoder.")

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        if len(self.blocks_per_stage) != len(self.features):
            raise ValueError(
                f"blocks_per_stage has {len(self.blocks_per_stage)} entries, "
                f"features {len(self.features)}: one each a resolution"
            )
        return self

    def build(self, task: Task) -> nn.Module:
        """Return the network on the CPU."""
        from mriad_standard.unet import residual_unet

        return residual_unet(self, task)
