"""What is random about a generated sample, drawn before anything is computed.

Everything is drawn for each sample whether it is used or not, in a fixed order, so that a setting that is changed
leaves the draws of the others. Grids, whose size is a setting, come last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mriad_synthseg.presets import Settings  # noqa: TC001 (a dataclass field)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Draws
    from torch import Tensor

    from mriad_synthseg.priors import Priors
    from mriad_synthseg.roles import Roles

LOW_MEAN, LOW_STD = 15.0, 5.0  # largest mean and deviation of a dark background
THICKNESS_SIGMA = 0.75  # σ of the blur that stands for a slice profile, in units of its thickness


@dataclass(frozen=True)
class Acquisition:
    """A simulated scan, in voxels of the map along each axis: slices every `step`, of a Gaussian profile of `sigma`.

    The profile is all the blur that such a sample gets.
    """

    step: tuple[float, float, float]
    sigma: tuple[float, float, float]


@dataclass(frozen=True)
class Drawn:
    """Parameters of one sample; float32 on the CPU unless said otherwise. C channels, K classes, N shapes."""

    origin: tuple[int, int, int]
    """Voxel of the map at which the crop begins; may be negative where the map is smaller."""
    matrix: Tensor
    """(3, 3) float64: Scale·Shear·Rotation."""
    translation: Tensor
    """(3,) float64, voxels."""
    velocity: Tensor
    """(3, g, g, g) coarse stationary velocity, in full-resolution voxels."""
    flip: bool
    strip: bool
    mean: Tensor
    """(C, K) of the Gaussian of each class; 0 is the background."""
    std: Tensor
    """(C, K)."""
    shape_mean: Tensor
    """(C, N) of the shapes that the background is cut into."""
    shape_std: Tensor
    shapes: Tensor
    """(N, h, h, h) coarse random fields; a background voxel belongs to the greatest."""
    blur: float
    """σ in voxels; 0 where an acquisition blurs."""
    bias: Tensor
    """(C, b, b, b) log of the field at its nodes; 0 where there is none."""
    exponent: Tensor
    """(C,) > 0."""
    acquisition: Acquisition | None
    """None: the image is as fine as the map."""


def draw(
    settings: Settings,
    roles: Roles,
    draws: Draws,
    *,
    channels: int,
    inside: Sequence[int],
    size: Sequence[int],
    spacing: Sequence[Sequence[float]],
    priors: Priors | None = None,
    shapes: int = 0,
    shape_nodes: int = 6,
) -> list[Drawn]:
    """Draw the parameters of every sample of a batch.

    Args:
        settings: what is drawn from.
        roles: classes.
        draws: the batch's.
        channels: images to paint.
        inside: (3) voxels of the map.
        size: (3) voxels of what is made.
        spacing: (B, 3) mm.
        priors: drawn from instead of `settings.mean` and `.std`, class by class.
        shapes: parts that the background is cut into.
        shape_nodes: nodes of their fields along each axis.
    """
    host = draws.host
    classes = len(roles.class_names)
    place = host.uniform(0, 1, (3,))
    angles = host.uniform(-1, 1, (3,)).double() * math.radians(settings.rotation_deg)
    scaling = 1 + host.uniform(-1, 1, (3,)).double() * settings.scaling
    shears = host.uniform(-1, 1, (6,)).double() * settings.shear
    translation = host.uniform(-1, 1, (3,)).double() * settings.translation_voxels
    velocity_std = _between(host.uniform(0, 1), settings.velocity_std)
    flip = host.chance(settings.flip_probability)
    strip = host.chance(settings.strip_probability)
    which_background = host.uniform(0, 1)
    low = host.uniform(0, 1, (channels, 2)) * torch.tensor([LOW_MEAN, LOW_STD])
    contrast = host.uniform(0, 1)
    mean = _between(host.uniform(0, 1, (channels, classes)), settings.mean)
    std = _between(host.uniform(0, 1, (channels, classes)), settings.std)
    normal = host.normal((2, channels, classes))
    blur = host.uniform(-1, 1)
    bias_on = host.chance(settings.bias_probability)
    bias_std = _between(host.uniform(0, 1, (channels,)), settings.bias_std)
    gamma_uniform, gamma_normal = host.uniform(-1, 1, (channels,)), host.normal((channels,))
    coarser = host.chance(settings.resolution_probability)
    acquisition = host.uniform(0, 1, (4,))
    velocity = host.normal((3, *[settings.velocity_nodes] * 3))
    bias = host.normal((channels, *[settings.bias_nodes] * 3))
    shape_mean = _between(host.uniform(0, 1, (channels, shapes)), settings.mean)
    shape_std = _between(host.uniform(0, 1, (channels, shapes)), settings.std)
    fields = host.normal((shapes, *[shape_nodes] * 3))

    if priors is not None:
        mean, std = priors.applied(mean, std, normal, contrast)
    zero, dark = settings.background_zero_probability, settings.background_low_probability
    gamma = gamma_uniform if settings.gamma_draw == "uniform" else gamma_normal
    exponent = (settings.gamma * gamma).exp()
    found = []
    for b in range(len(draws)):
        mu, sigma = mean[b].clone(), std[b].clone()
        share = float(which_background[b])
        if share < zero:
            mu[:, 0], sigma[:, 0] = 0, 0
        elif share < zero + dark:
            mu[:, 0], sigma[:, 0] = low[b, :, 0], low[b, :, 1]
        plain = share >= zero + dark  # a background of one kind is not cut into shapes
        factor = settings.blur_factor ** float(blur[b])
        scan = _acquisition(settings, acquisition[b].tolist(), spacing[b], factor) if coarser[b] else None
        n = shapes if plain else 0
        found.append(
            Drawn(
                origin=_origin(place[b].tolist(), inside, size),
                matrix=affine(angles[b], scaling[b], shears[b]),
                translation=translation[b],
                velocity=velocity[b] * velocity_std[b],
                flip=bool(flip[b]),
                strip=bool(strip[b]),
                mean=mu,
                std=sigma,
                shape_mean=shape_mean[b, :, :n],
                shape_std=shape_std[b, :, :n],
                shapes=fields[b, :n],
                blur=settings.blur_voxels * factor if scan is None else 0.0,
                bias=bias[b] * bias_std[b].reshape(-1, 1, 1, 1) * float(bias_on[b]),
                exponent=exponent[b],
                acquisition=scan,
            )
        )
    return found


def _between(share: Tensor, limits: tuple[float, float]) -> Tensor:
    return limits[0] + share * (limits[1] - limits[0])


def _origin(place: Sequence[float], inside: Sequence[int], size: Sequence[int]) -> tuple[int, int, int]:
    """Anywhere inside the map; in its middle where the map is not larger."""
    x, y, z = (
        int(p * (n - s + 1)) if n > s else (n - s) // 2 for p, n, s in zip(place, inside, size, strict=True)
    )
    return x, y, z


def affine(angles: Tensor, scaling: Tensor, shears: Tensor) -> Tensor:
    """Scale·Shear·Rotation, (3, 3) float64; R = R_z·R_y·R_x, angles in radians.

    Args:
        angles: (3,) about x, y, z.
        scaling: (3,) factors.
        shears: (6,) off-diagonal entries, row by row.
    """
    rotation = torch.eye(3, dtype=torch.float64)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        c, s = math.cos(float(angles[axis])), math.sin(float(angles[axis]))
        turn = torch.eye(3, dtype=torch.float64)
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        rotation = turn @ rotation
    shear = torch.eye(3, dtype=torch.float64)
    shear[0, 1], shear[0, 2], shear[1, 0], shear[1, 2], shear[2, 0], shear[2, 1] = shears.double()
    return torch.diag(scaling.double()) @ shear @ rotation


def _acquisition(
    settings: Settings, share: Sequence[float], native: Sequence[float], factor: float
) -> Acquisition:
    """Slices along each axis.

    Isotropic: one spacing ~ U(native, limit) for all axes. Anisotropic: one axis, drawn alike often, has a spacing
    ~ U(native, limit). The thickness ~ U(native, spacing): slices may have gaps, but do not overlap. Axes that are
    not coarser are blurred as an image without an acquisition is.

    Args:
        settings: limits and blur.
        share: (4,) uniform in [0, 1): kind, axis, spacing, thickness.
        native: (3,) mm of the map.
        factor: of every σ.
    """
    isotropic = share[0] < settings.resolution_isotropic_probability
    limit = settings.resolution_isotropic_mm if isotropic else settings.resolution_anisotropic_mm
    axes = (0, 1, 2) if isotropic else (min(int(share[1] * 3), 2),)
    step, sigma = [1.0] * 3, [settings.blur_voxels * factor] * 3
    for axis in axes:
        step[axis] = 1 + share[2] * max(0.0, limit / native[axis] - 1)
        if step[axis] > 1:
            sigma[axis] = THICKNESS_SIGMA * (1 + share[3] * (step[axis] - 1)) * factor
    return Acquisition((step[0], step[1], step[2]), (sigma[0], sigma[1], sigma[2]))
