"""The numbers of `standard.augment`.

Shape letters: B samples, N those chosen for a step, C channels, S structures, D two or three spatial axes.
What is chosen is drawn on the CPU, so that only chosen samples are computed and the device is never waited
for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from mriad.batch import Batch, Draws
    from torch import Tensor

    from mriad_standard.augment import Augment

MIXED = 0.999  # a linear mix of validity below this had a hidden voxel in it


@dataclass(frozen=True)
class _Choices:
    """What each of B samples gets; all on the CPU."""

    flip: Tensor  # (B, 3) bool
    affine: Tensor  # (B,) bool
    angles: Tensor  # (B, 3) radians about x, y, z
    scale: Tensor  # (B,)
    shift: Tensor  # (B, 3) mm
    gamma: Tensor  # (B,); 1 leaves the sample
    factor: Tensor  # (B,); 1 leaves the sample
    noise: Tensor  # (B,); 0 leaves the sample


def _choose(config: Augment, draws: Draws) -> _Choices:
    """Draw everything for every sample, used or not, so that steps do not shift each other's draws."""
    host = draws.host

    def maybe(probability: float, limits: tuple[float, float], neutral: float) -> Tensor:
        chosen, value = host.chance(probability), host.uniform(*limits)
        return torch.where(chosen, value, neutral)

    flip = host.uniform(0, 1, (3,)) < config.flip_probability
    for axis, name in enumerate("xyz"):
        if name not in config.flip_axes:
            flip[:, axis] = False
    affine = host.chance(config.affine_probability)
    angles = host.uniform(-1, 1, (3,)) * torch.tensor(config.rotation_deg) * (math.pi / 180)
    scale = host.uniform(*config.scale)
    shift = host.uniform(-1, 1, (3,)) * torch.tensor(config.translation_mm)
    gamma = maybe(config.gamma_probability, config.gamma, 1.0)
    factor = maybe(config.scaling_probability, config.scaling, 1.0)
    noise = maybe(config.noise_probability, config.noise_std, 0.0)
    return _Choices(flip, affine, angles, scale, shift, gamma, factor, noise)


class FusedAugmentation:
    """See `mriad_standard.augment.Augment`."""

    def __init__(self, config: Augment) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch."""
        choices = _choose(self.config, draws)
        batch = _flip(batch, choices.flip)
        batch = _transform(batch, choices)
        return replace(batch, image=_intensity(batch.image, choices, draws))


def _flip(batch: Batch, flip: Tensor) -> Batch:
    """Flip the chosen axes of the chosen samples; (B, 3) bool."""
    space = batch.image.ndim - 2
    if not bool(flip[:, :space].any()):
        return batch

    def flipped(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        x = x.clone()
        for axis in range(space):
            rows = _rows(flip[:, axis], x)
            if len(rows):
                x[rows] = x[rows].flip(axis + 2)
        return x

    return _with(batch, flipped(batch.image), *map(flipped, (batch.target, batch.validity, batch.field)))


def _rows(chosen: Tensor, like: Tensor) -> Tensor:
    """Indices of the chosen samples on the device of `like`."""
    return chosen.nonzero()[:, 0].to(like.device, non_blocking=True)


def _with(
    batch: Batch, image: Tensor | None, target: Tensor | None, validity: Tensor | None, field: Tensor | None
) -> Batch:
    assert image is not None
    return replace(batch, image=image, target=target, validity=validity, field=field)


def affine_theta(
    angles: Tensor, scale: Tensor, shift: Tensor, spacing: Tensor, size: tuple[int, ...]
) -> Tensor:
    """Matrices for `torch.nn.functional.affine_grid` (align_corners=False).

    Anatomy at x moves to y = c + s·R·(x − c) + t in mm along the array axes, c the centre of the patch and
    R = R_z·R_y·R_x; the matrix maps where a voxel is written to where it is read, x = c + R^T·(y − c − t)/s.

    Args:
        angles: (N, 3) radians about x, y, z, counter-clockwise; in 2D only the last is used.
        scale: (N,) s.
        shift: (N, 3) t in mm.
        spacing: (N, D) voxel size in mm.
        size: D voxels.

    Returns:
        (N, D, D + 1) float32.
    """
    space = len(size)
    a = angles.double()
    if space == 2:
        a = a * torch.tensor([0.0, 0.0, 1.0], dtype=a.dtype)
    cos, sin = a.cos(), a.sin()
    rotation = torch.eye(3, dtype=a.dtype).expand(len(a), 3, 3)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=a.dtype).repeat(len(a), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cos[:, axis]
        turn[:, i, j], turn[:, j, i] = -sin[:, axis], sin[:, axis]
        rotation = turn @ rotation
    back = rotation[:, :space, :space].transpose(1, 2) / scale.double()[:, None, None]
    mm = spacing.double()
    voxels = torch.tensor(size, dtype=torch.float64)
    # Normalised coordinates run over [−1, 1] from edge to edge, so half an extent in mm is the unit of each
    # axis.
    unit = mm * voxels / 2
    linear = back * unit[:, None, :] / unit[:, :, None]
    offset = -(back @ shift.double()[:, :space, None])[..., 0] / unit
    # grid_sample names its axes from the last: x is the last array axis.
    theta = torch.cat([linear.flip(1, 2), offset.flip(1)[..., None]], dim=2)
    return theta.float()


def _transform(batch: Batch, choices: _Choices) -> Batch:
    """Resample the chosen samples once."""
    if not bool(choices.affine.any()):
        return batch
    size = tuple(batch.image.shape[2:])
    spacing = torch.tensor(batch.spacing or [[1.0] * len(size)] * len(batch))
    picked = choices.affine
    theta = affine_theta(
        choices.angles[picked], choices.scale[picked], choices.shift[picked], spacing[picked], size
    )
    rows = _rows(picked, batch.image)
    device = batch.image.device
    grid = F.affine_grid(theta.to(device), [len(theta), 1, *size], align_corners=False)

    image, target = batch.image, batch.target
    soft = target is not None and target.is_floating_point()
    validity = torch.ones_like(image[:, :1]) if batch.validity is None else batch.validity.clone()

    smooth = [image[rows]]
    blocky = [validity[rows]]  # zero padding hides what comes from outside
    if target is not None:
        (smooth if soft else blocky).append(target[rows].float())
    if soft and batch.validity is not None:
        smooth.append((validity[rows] != 0).to(image.dtype))  # a confidence between 0 and 1 is no mixture
    if batch.field is not None:
        blocky.append(batch.field[rows])
    linear = _sample(smooth, grid, "bilinear", "border")
    nearest = _sample(blocky, grid, "nearest", "zeros")

    image = image.clone()
    image[rows] = linear.pop(0)
    valid = nearest.pop(0)
    if target is not None:
        target = target.clone()
        moved = linear.pop(0).clamp(0, 1) if soft else nearest.pop(0)
        target[rows] = moved.to(target.dtype)
    if linear:
        valid = valid * (linear.pop(0) > MIXED)
    validity[rows] = valid
    field = batch.field
    if field is not None:
        field = field.clone()
        field[rows] = nearest.pop(0)
    return _with(batch, image, target, validity, field)


def _sample(parts: list[Tensor], grid: Tensor, mode: str, padding: str) -> list[Tensor]:
    """Resample tensors (N, *, *D) with one call."""
    joined = F.grid_sample(
        torch.cat(parts, dim=1), grid, mode=mode, padding_mode=padding, align_corners=False
    )
    return list(joined.split([p.shape[1] for p in parts], dim=1))


def _intensity(image: Tensor, choices: _Choices, draws: Draws) -> Tensor:
    """Gamma, scaling and noise on the chosen samples of (B, C, *D)."""
    changed = (choices.gamma != 1) | (choices.factor != 1) | (choices.noise != 0)
    if not bool(changed.any()):
        return image
    image = image.clone()

    def column(values: Tensor) -> Tensor:
        return values.to(image.device, non_blocking=True).reshape(-1, *[1] * (image.ndim - 1))

    curved = choices.gamma != 1
    if bool(curved.any()):
        rows = _rows(curved, image)
        x = image[rows]
        space = tuple(range(2, x.ndim))
        low, span = x.amin(space, keepdim=True), x.amax(space, keepdim=True) - x.amin(space, keepdim=True)
        safe = torch.where(span > 0, span, 1)
        image[rows] = ((x - low) / safe) ** column(choices.gamma[curved]) * span + low
    if bool((choices.factor != 1).any()):
        image *= column(choices.factor)  # a factor of 1 is exact
    noisy = choices.noise != 0
    if bool(noisy.any()):
        rows = _rows(noisy, image)
        image[rows] += column(choices.noise[noisy]) * draws.noise(image.shape[1:])[rows]
    return image
