"""Where every output voxel reads: flip, elastic displacement and affine as one map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from mriad_softseg.recipes import Affine, Recipe


def linear_part(affine: Affine | None, spacing: Sequence[float]) -> tuple[Tensor, Tensor]:
    """L (3, 3) and o (3,) of x = L·y + o in voxels, float64: L = D⁻¹·R·D·S, o = D⁻¹·R·D·t, D the voxel size."""
    if affine is None:
        return torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    rotation = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(affine.angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3, dtype=torch.float64)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    size = torch.tensor(list(spacing), dtype=torch.float64)
    turned = rotation * size[None, :] / size[:, None]
    steps = torch.tensor(affine.steps, dtype=torch.float64)
    return turned * steps[None, :], turned @ torch.tensor(affine.shift, dtype=torch.float64)


def nodes(size: Sequence[int], sigma: float) -> tuple[int, int]:
    """Distance of the noise's lattice in voxels, and by how many nodes it begins before the first voxel.

    A distance of σ/0.875 keeps the variance between the nodes equal to that on them within 0.1 %.
    """
    step = max(1, int(sigma / 0.875))
    return step, math.ceil(3.5 * sigma / step)


def smoothing(length: int, sigma: float, step: int, before: int) -> Tensor:
    """(length, nodes): a Gaussian of σ voxels from lattice nodes to voxels, rows of unit norm; float32.

    On white noise of unit variance it gives a field of unit variance at every voxel, borders included, whose
    autocorrelation is that of white noise smoothed by σ: exp(−d²/4σ²).
    """
    count = (length - 1) // step + 1 + 2 * before
    place = (torch.arange(count, dtype=torch.float64) - before) * step
    away = torch.arange(length, dtype=torch.float64)[:, None] - place[None, :]
    kernel = torch.exp(-0.5 * (away / sigma) ** 2)
    kernel[kernel < 1e-6] = 0  # numbers too small for float32 would slow the products a hundredfold
    return (kernel / kernel.norm(dim=1, keepdim=True)).float()


@dataclass(frozen=True, eq=False)
class Bend:
    """A smooth displacement as factors: u_r = `along_x` @ `rest`_r for r of three axes, in voxels.

    along_x: (X, K). rest: (3, K, Y, Z). Both float32 on the device.
    """

    along_x: Tensor
    rest: Tensor


def displacement(
    sigma: float,
    std: float,
    size: Sequence[int],
    lattice: tuple[int, int],
    noise: Callable[[Sequence[int]], Tensor],
) -> Bend:
    """A random field of standard deviation `std` in voxels, smooth by `sigma`.

    Args:
        sigma: of the Gaussian in voxels.
        std: of the field in voxels.
        size: X, Y, Z.
        lattice: distance of the nodes and nodes before the first voxel; see `nodes`.
        noise: gives standard normal numbers of a shape, on the device.
    """
    step, before = lattice
    # An axis of one voxel has no neighbours to agree with.
    weights = [smoothing(n, sigma, step, before if n > 1 else 0) for n in size]
    white = noise((3, *(w.shape[1] for w in weights)))
    along_x, along_y, along_z = (w.to(white.device) for w in weights)
    return Bend(along_x, torch.matmul(along_y, white @ (std * along_z.T)))


@dataclass(frozen=True, eq=False)
class Coordinates:
    """x = L·(F·y + u(y)) + o, counted in voxels from the patch's centre.

    linear: L (3, 3), and offset: o (3,), float64 on the CPU. flip: axes that F mirrors. size: X, Y, Z.
    """

    size: tuple[int, int, int]
    linear: Tensor
    offset: Tensor
    flip: tuple[bool, bool, bool] = (False, False, False)
    bend: Bend | None = None

    @classmethod
    def of(
        cls, recipe: Recipe, size: Sequence[int], spacing: Sequence[float], bend: Bend | None
    ) -> Coordinates:
        """The coordinates of a recipe on a grid of `size` voxels of `spacing` mm."""
        linear, offset = linear_part(recipe.affine, spacing)
        x, y, z = size
        return cls((x, y, z), linear, offset, recipe.flip, bend)

    def grid(self, start: int, stop: int, device: torch.device) -> Tensor:
        """(stop − start, Y, Z, 3) float32 for `torch.nn.functional.grid_sample`, align_corners=False.

        The last axis is z, y, x in units of half the patch, from face to face.
        """
        half = torch.tensor(self.size, dtype=torch.float64) / 2
        linear, offset = (self.linear / half[:, None]).flip(0), (self.offset / half).flip(0)
        lines = []
        for axis, n in enumerate(self.size):
            y = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * (-1 if self.flip[axis] else 1)
            lines.append(linear[:, axis, None] * y)
        along_x = lines[0][:, start:stop].float().to(device)
        plane = (lines[1][:, :, None] + lines[2][:, None, :] + offset[:, None, None]).float().to(device)
        out = torch.empty((stop - start, *self.size[1:], 3), device=device)
        for r in range(3):
            # Sums, not a product of matrices: a trainer that allows TF32 must not move voxels.
            torch.add(along_x[r, :, None, None], plane[r, None], out=out[..., r])
        if self.bend is not None:
            out.view(stop - start, -1).addmm_(self.bend.along_x[start:stop], self._bent)
        return out

    @cached_property
    def _bent(self) -> Tensor:
        """(K, Y·Z·3): what `along_x` is multiplied by to move a grid."""
        assert self.bend is not None
        half = torch.tensor(self.size, dtype=torch.float64) / 2
        linear = (self.linear / half[:, None]).flip(0).float().to(self.bend.rest.device)
        return torch.einsum("rc,ckyz->kyzr", linear, self.bend.rest).flatten(1)
