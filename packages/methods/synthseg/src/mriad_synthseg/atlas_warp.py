"""An atlas laid on a scan: affine and a smooth displacement, both found from the likelihood of the scan.

A scan voxel at world x (mm) reads the atlas at T(x + u(x)), T an affine from the scan's world to the atlas's, u a
displacement of cubic B-splines on control points along the scan's axes. Given the Gaussians and the bias, the
likelihood of the scan under the priors that it reads is maximised by L-BFGS, with a penalty on the gradient of u.
Contrast plays no part beyond the Gaussians. Source of the idea: Van Leemput, IEEE TMI 2009; Puonti et al., NeuroImage
2016, where a tetrahedral mesh deforms in place of our B-splines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray
    from torch import Tensor

TINY = 1e-6
"""Least prior of a class: what few maps never show is improbable, not impossible."""
_RADIUS_MM = 100.0  # a unit step of the affine's matrix moves points about this far from the centre by 1 mm


@dataclass(frozen=True, eq=False)
class Axes:
    """A scan's directions: world = origin + directions @ (mm along each axis).

    `extents`: mm at which the field of view begins and ends along each axis; positions are mm from its centre.
    """

    centre: NDArray[np.float64]
    directions: NDArray[np.float64]
    extents: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, grid: Grid) -> Axes:
        """Those of a grid."""
        half = np.array(grid.shape) * np.array(grid.spacing) / 2
        return cls(
            grid.world((np.array(grid.shape) - 1) / 2),
            grid.matrix[:3, :3] / np.array(grid.spacing),
            tuple((-float(h), float(h)) for h in half),
        )

    def positions(self, grid: Grid) -> list[NDArray[np.float64]]:
        """mm of a grid's voxels along each axis; the grid must have these directions."""
        first = np.linalg.solve(self.directions, grid.world([0, 0, 0]) - self.centre)
        return [
            first[a] + np.arange(n) * s for a, (n, s) in enumerate(zip(grid.shape, grid.spacing, strict=True))
        ]


@dataclass(frozen=True, eq=False)
class Warp:
    """affine: (4, 4) scan world → atlas world. control: (3, a, b, c) mm along the scan's axes; spacing_mm: of it."""

    axes: Axes
    affine: NDArray[np.float64]
    control: NDArray[np.float64]
    spacing_mm: float

    @classmethod
    def start(cls, axes: Axes, affine: NDArray[np.float64], spacing_mm: float) -> Warp:
        """No displacement yet."""
        counts = [_controls(low, high, spacing_mm) for low, high in axes.extents]
        return cls(axes, affine, np.zeros((3, *counts)), spacing_mm)

    def tables(self, positions: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Weights (n, k) of the control points at positions along each axis."""
        return [
            bspline_table(where, low, high, self.spacing_mm)
            for where, (low, high) in zip(positions, self.axes.extents, strict=True)
        ]


def _controls(low: float, high: float, spacing: float) -> int:
    return int(np.ceil((high - low) / spacing)) + 3


def bspline_table(where: NDArray[np.float64], low: float, high: float, spacing: float) -> NDArray[np.float64]:
    """Cubic B-spline weights (n, k); rows sum to 1. Positions beyond the ends get the value there."""
    count = _controls(low, high, spacing)
    place = (np.clip(np.asarray(where, float), low, high) - low) / spacing
    first = np.minimum(np.floor(place).astype(int), count - 4)
    t = place - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    out = np.zeros((len(place), count))
    for k, w in enumerate(weights):
        out[np.arange(len(place)), first + k] = w / 6
    return out


class PriorReader:
    """Reads class priors of an atlas at scan voxels.

    Args:
        priors: (K, X, Y, Z) float32 that sum to 1, background first.
        grid: of the priors.
        axes: of the scan.
    """

    def __init__(self, priors: NDArray[np.float32], grid: Grid, axes: Axes) -> None:
        self.priors = torch.from_numpy(np.ascontiguousarray(priors))[None]
        self.grid, self.axes = grid, axes
        self._to_voxel = torch.from_numpy(np.linalg.inv(grid.matrix)).float()
        self._half = torch.tensor([(n - 1) / 2 for n in grid.shape])

    def places(self, warp: Warp, positions: Sequence[NDArray[np.float64]]) -> Tensor:
        """World positions (X, Y, Z, 3) in the atlas of all scan voxels at these positions along the axes."""
        affine = torch.from_numpy(warp.affine).float()
        points = self.displaced(torch.from_numpy(warp.control).float(), warp, positions)
        return points @ affine[:3, :3].T + affine[:3, 3]

    def displaced(self, control: Tensor, warp: Warp, positions: Sequence[NDArray[np.float64]]) -> Tensor:
        """World positions (X, Y, Z, 3) x + u(x) in the scan; differentiable in `control` (3, a, b, c)."""
        x, y, z = (torch.from_numpy(t).float() for t in warp.tables(positions))
        u = torch.einsum("iabc,zc->iabz", control, z)
        u = torch.einsum("iabz,yb->iayz", u, y)
        u = torch.einsum("iayz,xa->xyzi", u, x)
        along = [torch.from_numpy(p).float() for p in positions]
        mm = u + torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1)
        directions = torch.from_numpy(self.axes.directions).float()
        return mm @ directions.T + torch.from_numpy(self.axes.centre).float()

    def read(self, places: Tensor) -> Tensor:
        """Priors (K, N) at atlas world positions (N, 3); outside the atlas lies background. Differentiable."""
        voxels = places @ self._to_voxel[:3, :3].T + self._to_voxel[:3, 3]
        normal = voxels / self._half - 1
        found = F.grid_sample(
            self.priors, normal.flip(-1)[None, None, None], mode="bilinear", padding_mode="border", align_corners=True
        )[0, :, 0, 0]  # fmt: skip
        inside = ((normal >= -1) & (normal <= 1)).all(-1)
        first = torch.zeros(len(found), 1)
        first[0] = 1
        return torch.where(inside, found, first)


@dataclass(frozen=True)
class Deform:
    """How a warp is improved. stiffness: weight of the mean |∇u|², and of the affine's squared strain, against the
    log-likelihood per voxel."""

    affine: bool
    displacement: bool
    stiffness: float
    iterations: int = 20


def improved(
    warp: Warp,
    reader: PriorReader,
    positions: Sequence[NDArray[np.float64]],
    mask: NDArray[np.bool_],
    log_likelihood: NDArray[np.float64],
    how: Deform,
) -> tuple[Warp, float]:
    """A warp with a higher objective, never a lower one.

    Args:
        warp: the start.
        reader: of class priors (C classes).
        positions: mm of the working voxels along each axis.
        mask: (X, Y, Z) with N true voxels that count.
        log_likelihood: (N, C) log p(y | class).
        how: what moves.

    Returns:
        the warp and the gain in log-likelihood per voxel less penalty.
    """
    top = log_likelihood.max(1, keepdims=True)
    likelihood = torch.from_numpy(np.exp(log_likelihood - top).T.copy()).float()
    inside = torch.from_numpy(mask)
    start = torch.from_numpy(warp.affine).float()
    centre = torch.from_numpy(warp.axes.centre).float()
    step = torch.zeros(12, requires_grad=how.affine)
    control = torch.from_numpy(warp.control).float().requires_grad_(how.displacement)
    moving = [x for x in (step, control) if x.requires_grad]
    optimiser = torch.optim.LBFGS(
        moving, max_iter=how.iterations, history_size=12, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def objective() -> Tensor:
        points = reader.displaced(control, warp, positions)[inside] - centre
        linear = torch.eye(3) + step[:9].reshape(3, 3) / _RADIUS_MM
        points = points @ linear.T + step[9:] + centre
        priors = reader.read(points @ start[:3, :3].T + start[:3, 3])
        mean = torch.log((likelihood * (priors + TINY)).sum(0)).mean()
        return -mean + how.stiffness * (
            _roughness(control, warp.spacing_mm) + _strain(start[:3, :3] @ linear)
        )

    with torch.no_grad():
        before = float(objective())

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        after = float(objective())
    if not after < before:  # a step into nothing, or none: the start stays
        return warp, 0.0
    found = step.detach().double().numpy()
    move = np.eye(4)
    move[:3, :3] += found[:9].reshape(3, 3) / _RADIUS_MM
    move[:3, 3] = found[9:] + warp.axes.centre - move[:3, :3] @ warp.axes.centre
    return replace(warp, affine=warp.affine @ move, control=control.detach().double().numpy()), before - after


def _strain(linear: Tensor) -> Tensor:
    """Squared Frobenius norm of Green's strain ½(AᵀA − 1): 0 for a rotation, whatever the shift."""
    return (0.5 * (linear.T @ linear - torch.eye(3))).square().sum()


def _roughness(control: Tensor, spacing_mm: float) -> Tensor:
    """Mean of |∇u|² over control points, without unit."""
    total = control.new_zeros(())
    for axis in range(1, 4):
        total = total + (control.diff(dim=axis) / spacing_mm).square().sum(0).mean()
    return total
