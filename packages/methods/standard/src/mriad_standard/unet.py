"""The U-Nets of dynamic-network-architectures; sizes are checked, coarser outputs in training only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from mriad.errors import ShapeError
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.vocabulary import Task
    from torch import Tensor

    from mriad_standard.models import Norm, PlainUNet, ResidualUNet

LEAK = 0.01  # slope of the leaky ReLU below 0
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[Norm, dict[int, type[nn.Module] | None]] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "none": {2: None, 3: None},
}


class UNet(nn.Module):
    """A U-Net (B, C, *D) → (B, O, *D); with deep supervision in training a list of those, finest first."""

    def __init__(
        self,
        network: PlainConvUNet | ResidualEncoderUNet,
        divisors: Sequence[int],
        deep_supervision: bool,
        norm: Norm,
    ) -> None:
        super().__init__()
        if norm == "none":  # the library's own initialisation expects each residual block to end in a norm
            network.apply(InitWeights_He(LEAK))
        else:
            network.apply(network.initialize)
        _name_layers_once(network)
        self.encoder: nn.Module = network.encoder
        self.decoder: nn.Module = network.decoder
        self.divisors = tuple(divisors)
        self.deep_supervision = deep_supervision
        # Instance norm needs more than one voxel; batch norm may find a second value in the batch.
        self._needs_voxels = norm == "instance"
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; coarser outputs are made in training only."""
        super().train(mode)
        self.decoder.deep_supervision = self.deep_supervision and mode
        return self

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return raw outputs.

        Raises:
            ShapeError: a size is not a multiple of what the strides need, or is too small.
        """
        self._check(tuple(image.shape[2:]))
        outputs: Tensor | list[Tensor] = self.decoder(self.encoder(image))
        return outputs

    def _check(self, size: tuple[int, ...]) -> None:
        fits = len(size) == len(self.divisors)
        if not fits or any(n % d for n, d in zip(size, self.divisors, strict=True)):
            nearest = [-(-n // d) * d for n, d in zip(size, self.divisors, strict=False)]
            raise ShapeError(
                "the network cannot take an input of this size",
                where={"size": size, "expected": f"multiples of {self.divisors}"},
                remedy=f"pad or cut to {nearest}, choose such a patch or window, or use fewer resolutions"
                if fits
                else f"a {len(self.divisors)}D network takes {len(self.divisors)} spatial axes",
            )
        if self._needs_voxels and math.prod(size) == math.prod(self.divisors):
            raise ShapeError(
                "the coarsest resolution would be a single voxel, which instance norm cannot take",
                where={"size": size, "expected": f"more than {self.divisors}"},
                remedy="choose a larger patch, fewer resolutions, or norm: none",
            )


def _name_layers_once(network: nn.Module) -> None:
    """Leave each layer registered under one name.

    The library registers the encoder again inside the decoder, and every layer of a block beside the sequence
    that runs it. State dicts would hold each tensor up to four times, which safetensors refuses. The
    attributes stay.
    """

    def unregister(module: nn.Module, name: str) -> None:
        child = module._modules.pop(name, None)
        if child is not None:
            object.__setattr__(module, name, child)

    for module in list(network.modules()):
        if isinstance(module, ConvDropoutNormReLU):
            for name in ("conv", "dropout", "norm", "nonlin"):
                unregister(module, name)
    unregister(network.decoder, "encoder")


def _shared(config: PlainUNet | ResidualUNet, task: Task) -> dict[str, Any]:
    norm = NORMS[config.norm][task.dimensions]
    return {
        "input_channels": len(task.channels),
        "n_stages": len(config.features),
        "features_per_stage": list(config.features),
        "conv_op": CONVOLUTIONS[task.dimensions],
        "kernel_sizes": config.axes_of("kernel_sizes", task.dimensions, 3),
        "strides": config.axes_of("strides", task.dimensions, 2),
        "num_classes": task.outputs(),
        "n_conv_per_stage_decoder": config.convs_per_stage,
        "conv_bias": True,
        "norm_op": norm,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True} if norm else None,
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"negative_slope": LEAK, "inplace": True},
        "deep_supervision": config.deep_supervision,
    }


def plain_unet(config: PlainUNet, task: Task) -> UNet:
    """Build `standard.plain_unet`."""
    network = PlainConvUNet(n_conv_per_stage=config.convs_per_stage, **_shared(config, task))
    return UNet(network, config.divisors(task.dimensions), config.deep_supervision, config.norm)


def residual_unet(config: ResidualUNet, task: Task) -> UNet:
    """Build `standard.residual_unet`."""
    network = ResidualEncoderUNet(n_blocks_per_stage=list(config.blocks_per_stage), **_shared(config, task))
    return UNet(network, config.divisors(task.dimensions), config.deep_supervision, config.norm)
