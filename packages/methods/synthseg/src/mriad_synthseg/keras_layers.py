"""The layers of SynthSeg's Keras U-Net and where their arrays go in ours. Names and shapes only; no arrays.

The published network (BBillot/SynthSeg, built by its copy of neuron's `unet`): at each level two 3³ convolutions with
bias and ELU; then batch norm; then max pooling. A level's way across leaves before its batch norm. On the way up:
nearest-neighbour upsampling, concatenation (the way across first), two convolutions, batch norm. At last a 1³
convolution to one channel a label. Keras keeps kernels as (3, 3, 3, in, out), torch as (out, in, 3, 3, 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "unet"
SEGMENTED = (
    2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28,
    41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60,
)  # fmt: skip
"""FreeSurfer's values of the published model's channels after background: the output is in ascending order."""

CONVOLUTION = {"kernel": "weight", "bias": "bias"}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network."""

    labels: int
    """Output channels, background included."""
    levels: int = 5
    features: int = 24
    channels: int = 1
    convolutions: int = 2
    norm: bool = True

    def width(self, level: int) -> int:
        """Channels of a level: they double."""
        return self.features << level


@dataclass(frozen=True)
class Layer:
    """One Keras layer. arrays: its name of an array → (name of a tensor in ours, shape in Keras)."""

    name: str
    kind: Literal["convolution", "norm"]
    arrays: dict[str, tuple[str, tuple[int, ...]]]


def layers(net: Architecture) -> Iterator[Layer]:
    """Every layer with arrays, in the order of the network.

    Our names: `down.L.convs.I`, `down.L.norm`, `up.L.convs.I`, `up.L.norm` and `last`, with L the level whose
    resolution it has (0 the finest) and I the convolution, each with the tensors of torch's module.
    """
    taken = net.channels
    for level in range(net.levels):
        for i in range(net.convolutions):
            yield _convolution(
                f"conv_downarm_{level}_{i}", f"down.{level}.convs.{i}", taken, net.width(level)
            )
            taken = net.width(level)
        if net.norm:
            yield _norm(f"bn_down_{level}", f"down.{level}.norm", taken)
    for step in range(net.levels - 1):
        level = net.levels - 2 - step
        taken += net.width(level)
        for i in range(net.convolutions):
            name = f"conv_uparm_{net.levels + step}_{i}"
            yield _convolution(name, f"up.{level}.convs.{i}", taken, net.width(level))
            taken = net.width(level)
        if net.norm:
            yield _norm(f"bn_up_{step}", f"up.{level}.norm", taken)
    yield _convolution("likelihood", "last", taken, net.labels, size=1)


def _convolution(name: str, ours: str, taken: int, given: int, size: int = 3) -> Layer:
    shapes = {"kernel": (size, size, size, taken, given), "bias": (given,)}
    return Layer(
        f"{PREFIX}_{name}", "convolution", {k: (f"{ours}.{CONVOLUTION[k]}", s) for k, s in shapes.items()}
    )


def _norm(name: str, ours: str, width: int) -> Layer:
    return Layer(f"{PREFIX}_{name}", "norm", {k: (f"{ours}.{v}", (width,)) for k, v in NORM.items()})
