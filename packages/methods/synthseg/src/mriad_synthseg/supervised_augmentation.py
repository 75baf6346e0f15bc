"""The numbers of `synthseg.supervised_augment`; 3D. Coordinates are voxels, from the first voxel's centre."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from mriad.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.batch import Batch, Draws
    from torch import Tensor

    from mriad_synthseg.supervised import SupervisedAugment

_STEPS = 7  # of scaling and squaring
_MIXED = 0.999  # a soft target that holds less than this of valid voxels is hidden


class SupervisedAugmentation:
    """See `mriad_synthseg.supervised.SupervisedAugment`."""

    def __init__(self, config: SupervisedAugment) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the augmented batch.

        Raises:
            ShapeError: the batch is not 3D.
        """
        if batch.image.ndim != 5:
            raise ShapeError(
                "synthseg.supervised_augment deforms volumes",
                where={"image": tuple(batch.image.shape), "expected": "(B, C, X, Y, Z)"},
            )
        config = self.config
        size = batch.image.shape[2:]
        host = draws.host
        affine = affine_matrices(
            host.uniform(-1, 1, (3,)) * config.rotation_deg,
            1 + host.uniform(-1, 1, (3,)) * config.scaling,
            host.uniform(-1, 1, (6,)) * config.shear,
            host.uniform(-1, 1, (3,)) * config.translation_voxels,
        ).to(batch.image.device)
        std = draws.uniform(0, config.velocity_std)
        gamma = torch.exp(draws.uniform(-config.log_gamma, config.log_gamma))
        nodes = draws.noise((3, *[config.velocity_grid] * 3)) * std.view(-1, 1, 1, 1, 1)
        moved = displacement(nodes, size)
        places = identity(size, batch.image.device) + moved
        centre = torch.tensor([(n - 1) / 2 for n in size], device=places.device).view(3, 1, 1, 1)
        turned = torch.einsum("bij,bjxyz->bixyz", affine[:, :, :3], places - centre)
        places = turned + centre + affine[:, :, 3, None, None, None]
        return _resampled(batch, places, gamma)


def affine_matrices(angles_deg: Tensor, scale: Tensor, shear: Tensor, shift: Tensor) -> Tensor:
    """(B, 3, 4): Scale · Shear · Rotation, then the shift; about the volume's centre.

    Args:
        angles_deg: (B, 3) about the axes, the first axis's turn is done first.
        scale: (B, 3).
        shear: (B, 6), the off-diagonal entries in row order.
        shift: (B, 3) voxels.
    """
    a = angles_deg * (math.pi / 180)
    rotation = torch.eye(3).expand(len(a), 3, 3)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3).repeat(len(a), 1, 1)
        turn[:, i, i] = turn[:, j, j] = a[:, axis].cos()
        turn[:, i, j], turn[:, j, i] = -a[:, axis].sin(), a[:, axis].sin()
        rotation = turn @ rotation
    sheared = torch.eye(3).repeat(len(a), 1, 1)
    rows, columns = (torch.tensor([i for i, _ in _OFF]), torch.tensor([j for _, j in _OFF]))
    sheared[:, rows, columns] = shear
    return torch.cat([torch.diag_embed(scale) @ sheared @ rotation, shift[:, :, None]], dim=2)


_OFF = [(i, j) for i in range(3) for j in range(3) if i != j]


def displacement(nodes: Tensor, size: Sequence[int]) -> Tensor:
    """Velocities at coarse nodes (B, 3, g, g, g), voxels → displacement (B, 3, X, Y, Z), voxels.

    The stationary velocity field is integrated at half resolution by scaling and squaring (Arsigny et al., MICCAI
    2006), in half-resolution voxels, and its vectors doubled on the way up.
    """
    half = [max(2, math.ceil(n / 2)) for n in size]
    velocity = F.interpolate(nodes / 2, size=half, mode="trilinear", align_corners=True)
    out = velocity / 2**_STEPS
    here = identity(half, nodes.device)
    for _ in range(_STEPS):
        out = out + _sampled(out, here + out, "bilinear", "border")
    return 2 * F.interpolate(out, size=list(size), mode="trilinear", align_corners=True)


def identity(size: Sequence[int], device: torch.device) -> Tensor:
    """(1, 3, X, Y, Z): where each voxel is."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _sampled(values: Tensor, places: Tensor, mode: str, padding: str) -> Tensor:
    """Values (B, K, X, Y, Z) at places (B, 3, X', Y', Z')."""
    last = torch.tensor([max(n - 1, 1) for n in values.shape[2:]], device=values.device).view(3, 1, 1, 1)
    grid = (places / last * 2 - 1).flip(1).permute(0, 2, 3, 4, 1)
    return F.grid_sample(values, grid, mode=mode, padding_mode=padding, align_corners=True)


def _resampled(batch: Batch, places: Tensor, gamma: Tensor) -> Batch:
    """One lookup of everything, then min–max and gamma of the image."""
    image = _sampled(batch.image, places, "bilinear", "border")
    valid = torch.ones_like(batch.image[:, :1]) if batch.validity is None else batch.validity
    valid = _sampled(valid, places, "nearest", "zeros")
    image = image * (_sampled(torch.ones_like(batch.image[:, :1]), places, "nearest", "zeros") > 0)
    target = batch.target
    if target is not None:
        if target.is_floating_point():
            target = _sampled(target, places, "bilinear", "zeros").clamp(0, 1)
            if batch.validity is not None:
                known = _sampled((batch.validity != 0).float(), places, "bilinear", "zeros")
                valid = valid * (known > _MIXED)
        else:
            target = _sampled(target.float(), places, "nearest", "zeros").to(target.dtype)
    field = batch.field
    if field is not None:
        field = _sampled(field.float(), places, "nearest", "zeros").to(field.dtype)
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    scaled = (image - low) / (high - low).clamp_min(1e-8)
    image = scaled ** gamma.to(image).view(-1, 1, 1, 1, 1)
    return replace(batch, image=image, target=target, validity=valid, field=field)
