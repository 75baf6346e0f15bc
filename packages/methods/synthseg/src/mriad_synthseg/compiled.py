"""The compiled back end of the generator: what `fields` and `painting` say, in loops for one CPU core (numba)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from mriad_synthseg import kernels
from mriad_synthseg.fields import STEPS, half, placement, upsampled
from mriad_synthseg.painting import FLAT, Palette, compact, kernel, with_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mriad_synthseg.drawing import Drawn
    from mriad_synthseg.presets import Settings


def integrated(velocity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Displacement of following a velocity for one unit of time; both (X, Y, Z, 4), the last entry 0, in voxels."""
    u = velocity / np.float32(2**STEPS)
    other = np.empty_like(u)
    for _ in range(STEPS):
        kernels.square(u, other)
        u, other = other, u
    return u


def coordinates(
    drawn: Drawn, inside: Sequence[int], size: Sequence[int], doubling: bool
) -> NDArray[np.float32]:
    """As `mriad_synthseg.fields.coordinates`."""
    nodes = half(size)
    voxel = 2.0 if doubling else 1.0
    velocity = np.zeros((*nodes, 4), np.float32)
    velocity[..., :3] = upsampled(drawn.velocity, nodes).div_(voxel).permute(1, 2, 3, 0).numpy()
    matrix, offset = placement(drawn, inside, size)
    u = integrated(velocity)
    u *= np.float32(voxel)
    at = np.empty((3, *nodes), np.float32)
    kernels.place(u, matrix.float().numpy(), offset.float().numpy(), at)
    return at


def paint(
    target: Tensor, drawn: Drawn, palette: Palette, noise: Tensor, outputs: int, settings: Settings
) -> tuple[Tensor, list[Tensor]]:
    """One sample: what is segmented (*size), and images (C × (*size)) in [0, 1], before the acquisition.

    Args:
        target: (X, Y, Z) uint8 or int16 on the CPU.
        drawn: parameters.
        palette: tables.
        noise: (C, *size) float32, overwritten.
        outputs: labels of the network, background included.
        settings: for the clip.
    """
    size = tuple(noise.shape[1:])
    at = coordinates(drawn, tuple(target.shape), size, settings.velocity_doubled)
    volume = F.pad(target, (1,) * 6)
    label = torch.empty(size, dtype=target.dtype)
    output_of = compact(palette.output, outputs)
    output = torch.empty(size, dtype=output_of.dtype)
    kernels.look_up(volume.numpy(), at, output_of.numpy(), label.numpy(), output.numpy())
    label = with_shapes(label, drawn, palette.structures)
    weights = kernel(drawn.blur).float().numpy()
    images = []
    for c, image in enumerate(noise):
        bias = drawn.bias[c].double().numpy()
        low, high = kernels.paint(
            image.numpy(),
            label.numpy(),
            palette.mean[c].contiguous().numpy(),
            palette.std[c].contiguous().numpy(),
            weights,
            bias if bias.any() else np.empty((0, 0, 0)),
            np.float32(settings.clip),
        )
        low, high = np.float32(low), np.float32(high)
        span = np.float32(max(high - low, FLAT))
        exponent = np.float32(drawn.exponent[c])
        kernels.curve(image.numpy().reshape(-1), low, span, exponent)
        images.append(image)
    return output, images
