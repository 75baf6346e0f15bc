"""What is drawn: one recipe a sample, plain numbers on the CPU. `mriad_softseg.fused` applies them.

Everything is drawn for every sample, used or not, so that switching a step on leaves the others' draws as they are.
Axes are always three; a 2D sample is a volume that is one voxel thick along the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Draws
    from torch import Tensor

    from mriad_softseg.augment import Ranges

Three = tuple[float, float, float]
LEGENDRE = tuple((i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j))
"""Orders along the axes of the 20 products of Legendre polynomials up to total degree 3."""


@dataclass(frozen=True)
class Affine:
    """x = R·(S·y + t) from the patch's centre, y where a voxel is written, x where it is read.

    angles: radians about the axes, R = R_0·R_1·R_2. steps: the diagonal of S. shift: t in voxels.
    """

    angles: Three = (0.0, 0.0, 0.0)
    steps: Three = (1.0, 1.0, 1.0)
    shift: Three = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Elastic:
    """A displacement with the statistics of uniform noise, smoothed by a Gaussian of σ, times a magnitude."""

    sigma: float
    magnitude: float

    def std(self, dimensions: int) -> float:
        """Standard deviation of the displacement along each axis in voxels."""
        return self.magnitude / math.sqrt(3) * (2 * math.sqrt(math.pi) * self.sigma) ** (-dimensions / 2)


@dataclass(frozen=True)
class Recipe:
    """What one sample gets; None or 1 leaves a step out."""

    affine: Affine | None = None
    elastic: Elastic | None = None
    flip: tuple[bool, bool, bool] = (False, False, False)
    zoom: float = 1.0
    gamma: float = 1.0
    bias: tuple[float, ...] | None = None
    noise: float = 0.0
    blur: Three | None = None
    factor: float = 1.0


def _three(row: Tensor) -> Three:
    a, b, c = row.tolist()
    return a, b, c


def affine_of(rotation_deg: Three, scale: Three, shift: Three, unit: Tensor, dimensions: int) -> Affine:
    """An affine from numbers in [−1, 1).

    Args:
        rotation_deg: largest angles.
        scale: largest change of the sampling steps.
        shift: largest shifts in voxels.
        unit: (3, 3): rows for angles, steps, shifts.
        dimensions: 2 leaves the last axis as it is.
    """
    angles = unit[0] * torch.tensor(rotation_deg) * (math.pi / 180)
    steps = 1 + unit[1] * torch.tensor(scale)
    moved = unit[2] * torch.tensor(shift)
    if dimensions == 2:
        angles = angles * torch.tensor([0.0, 0.0, 1.0])
        steps[2], moved[2] = 1, 0
    return Affine(_three(angles), _three(steps), _three(moved))


def draw_chain(config: Ranges, draws: Draws, size: Sequence[int], dimensions: int) -> list[Recipe]:
    """A recipe for each sample of `size` voxels along three axes."""
    host = draws.host
    shift = config.translation
    if config.translation_unit == "extent":
        shift = (shift[0] * size[0], shift[1] * size[1], shift[2] * size[2])

    turned, unit = host.chance(config.affine_probability), host.uniform(-1, 1, (3, 3))
    bent = host.chance(config.elastic_probability)
    sigma, magnitude = host.uniform(*config.elastic_sigma), host.uniform(*config.elastic_magnitude)
    coarse, zoom = host.chance(config.low_resolution_probability), host.uniform(*config.low_resolution_zoom)
    curved, gamma = host.chance(config.gamma_probability), host.uniform(*config.gamma)
    biased = host.chance(config.bias_probability)
    coefficients = host.uniform(*config.bias_coefficient, (len(LEGENDRE),))
    noisy, std = host.chance(config.noise_probability), host.uniform(*config.noise_std)
    blurred, blur = host.chance(config.blur_probability), host.uniform(*config.blur_sigma, (3,))
    scaled, factor = host.chance(config.scaling_probability), host.uniform(*config.scaling)
    flip = host.uniform(0, 1, (3,)) < config.flip_probability
    if config.flip == "together":
        flip = flip[:, :1].expand(-1, 3)
    recipes = []
    for i in range(len(draws)):
        a, b, c = flip[i].tolist()
        recipes.append(
            Recipe(
                affine=affine_of(config.rotation_deg, config.scale, shift, unit[i], dimensions)
                if turned[i]
                else None,
                elastic=Elastic(float(sigma[i]), float(magnitude[i])) if bent[i] else None,
                flip=(a, b, c if dimensions == 3 else False),
                zoom=float(zoom[i]) if coarse[i] else 1.0,
                gamma=float(gamma[i]) if curved[i] else 1.0,
                bias=tuple(coefficients[i].tolist()) if biased[i] else None,
                noise=float(std[i]) if noisy[i] else 0.0,
                blur=_three(blur[i]) if blurred[i] else None,
                factor=1 + float(factor[i]) if scaled[i] else 1.0,
            )
        )
    return recipes
