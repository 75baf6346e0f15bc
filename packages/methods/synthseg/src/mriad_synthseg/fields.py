"""Smooth fields on a volume's grid, in PyTorch: upsampling, integration of a velocity, coordinates of a lookup.

The half-resolution grid has n // 2 + 1 nodes along an axis of n voxels; node i lies on voxel 2·i, so that the last
may lie one voxel beyond the volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mriad_synthseg.drawing import Drawn

STEPS = 7
"""Squarings; the paper says "scaling and squaring", the code 7."""


def half(size: Sequence[int]) -> tuple[int, ...]:
    """Nodes of the half-resolution grid."""
    return tuple(n // 2 + 1 for n in size)


def hats(nodes: int, voxels: int, device: torch.device | str = "cpu") -> Tensor:
    """(voxels, nodes) float32: weights of linear interpolation between nodes spread from first to last voxel."""
    at = torch.linspace(0, nodes - 1, voxels, dtype=torch.float64)
    weights = (1 - (at[:, None] - torch.arange(nodes, dtype=torch.float64)).abs()).clamp_min(0)
    return weights.float().to(device)


def upsampled(nodes: Tensor, size: Sequence[int]) -> Tensor:
    """(C, g, g, g) values at nodes that span the volume from first to last voxel → (C, *size), trilinear."""
    x, y, z = (hats(g, n, nodes.device) for g, n in zip(nodes.shape[1:], size, strict=True))
    # Axis by axis, the last one in one large matrix product: the cheapest trilinear interpolation there is.
    planes = torch.einsum("xi,yj,cijk->cxyk", x, y, nodes)
    return planes @ z.T


def doubled(nodes: Tensor, size: Sequence[int]) -> Tensor:
    """(C, *half(size)) → (C, *size): even voxels are nodes, odd ones the mean of their neighbours."""
    for axis, n in enumerate(size, 1):
        m = nodes.shape[axis]
        made = nodes.new_empty([2 * m - 1 if a == axis else s for a, s in enumerate(nodes.shape)])
        along: list[slice] = [slice(None)] * nodes.ndim

        def cut(
            start: int, stop: int | None, step: int, axis: int = axis, along: list[slice] = along
        ) -> tuple[slice, ...]:
            return tuple(slice(start, stop, step) if a == axis else s for a, s in enumerate(along))

        made[cut(0, None, 2)] = nodes
        torch.add(nodes[cut(0, m - 1, 1)], nodes[cut(1, None, 1)], out=made[cut(1, None, 2)])
        made[cut(1, None, 2)] *= 0.5
        nodes = made[cut(0, n, 1)]
    return nodes


def identity(size: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """(3, *size) float32: each voxel's own index."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def integrated(velocity: Tensor) -> Tensor:
    """Displacement (3, X, Y, Z) of following a stationary velocity (3, X, Y, Z) for one unit of time; both in voxels.

    Scaling and squaring (Arsigny et al., MICCAI 2006): u ← v / 2⁷, then seven times u(x) ← u(x) + u(x + u(x)),
    trilinear, border repeated.
    """
    size = velocity.shape[1:]
    scale = velocity.new_tensor([2.0 / max(n - 1, 1) for n in size]).flip(0)
    base = (identity(size, velocity.device).permute(1, 2, 3, 0).flip(-1) * scale - 1)[None]
    u = velocity[None] / 2**STEPS
    for _ in range(STEPS):
        # grid_sample names its axes from the last; -1 and 1 are the centres of the first and last voxel.
        grid = u.flip(1).permute(0, 2, 3, 4, 1) * scale
        grid += base
        u = u + F.grid_sample(u, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return u[0]


def coordinates(
    drawn: Drawn, inside: Sequence[int], size: Sequence[int], doubling: bool, device: torch.device
) -> Tensor:
    """Where each node of the half-resolution grid is read in the map: (3, *half(size)) float32, in the map's voxels.

    y = o + c + M·(x + φ_v(x) − c) + t with the crop's origin o and centre c, mirrored in the map's first axis where
    the sample is flipped. Linear interpolation of y is exact for its affine part, so it is y that goes to full
    resolution, not φ_v.
    """
    nodes = half(size)
    # Voxels of half resolution are twice as large: half the velocity, twice the result. The public code does neither.
    voxel = 2.0 if doubling else 1.0
    u = integrated(upsampled(drawn.velocity.to(device), nodes) / voxel) * voxel
    u += identity(nodes, device) * 2
    matrix, offset = placement(drawn, inside, size)
    moved = (matrix.float().to(device) @ u.reshape(3, -1)).reshape(3, *nodes)
    moved += offset.float().to(device).reshape(3, 1, 1, 1)
    return moved


def placement(drawn: Drawn, inside: Sequence[int], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(3, 3) and (3,) float64 such that a displaced voxel x of the crop is read at A·x + b in the map."""
    centre = (torch.tensor(list(size), dtype=torch.float64) - 1) / 2
    origin = torch.tensor(drawn.origin, dtype=torch.float64)
    matrix = drawn.matrix.clone()
    offset = origin + centre + drawn.translation - matrix @ centre
    if drawn.flip:
        matrix[0] = -matrix[0]
        offset[0] = inside[0] - 1 - offset[0]
    return matrix, offset
