"""The steps on intensities, in PyTorch, each on one sample (C, X, Y, Z); those with a trailing _ write in place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from mriad_softseg.recipes import LEGENDRE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def low_resolution(image: Tensor, zoom: float, pick: Literal["nearest", "floor"]) -> Tensor:
    """Keep round(zoom·n) voxels along every axis, then interpolate linearly back."""
    size = tuple(image.shape[1:])
    # A size of 1 stays: that is a slice, not a coarse volume.
    coarse = tuple(max(1, round(n * zoom)) for n in size)
    mode = "nearest-exact" if pick == "nearest" else "nearest"
    small = F.interpolate(image[None], size=coarse, mode=mode)
    return F.interpolate(small, size=size, mode="trilinear", align_corners=False)[0]


def extremes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and range of each channel, (C, 1, 1, 1)."""
    low, high = torch.aminmax(image.flatten(1), dim=1)
    return low[:, None, None, None], (high - low)[:, None, None, None]


def gamma_(image: Tensor, gamma: float) -> Tensor:
    """x ↦ x^γ on each channel's own range, which it keeps."""
    low, span = extremes(image)
    unit = image.sub_(low).div_(torch.where(span > 0, span, 1))
    return unit.pow_(gamma).mul_(span).add_(low)


def bias_field(
    coefficients: Sequence[float], size: Sequence[int], flip: Sequence[bool], device: torch.device
) -> Tensor:
    """exp(Σ c_ijk·P_i(x)·P_j(y)·P_k(z)), (X, Y, Z): Legendre polynomials over [−1, 1] along each axis.

    Args:
        coefficients: in the order of `LEGENDRE`.
        size: X, Y, Z.
        flip: axes along which the field is mirrored, so that it lies on an image flipped afterwards.
        device: where to compute.
    """
    matrix = torch.zeros(4, 4, 4, dtype=torch.float64)
    for (i, j, k), c in zip(LEGENDRE, coefficients, strict=True):
        sign = (-1) ** (i * flip[0] + j * flip[1] + k * flip[2])  # P_i(−x) = (−1)^i·P_i(x)
        matrix[i, j, k] = sign * c
    px, py, pz = (_legendre(n) for n in size)
    rows = torch.einsum("ijk,xi,yj->xyk", matrix, px, py).float().to(device)
    return (rows.flatten(0, 1) @ pz.T.float().to(device)).view(tuple(size)).exp_()


def _legendre(n: int) -> Tensor:
    """P_0 to P_3 at n places from −1 to 1, (n, 4), float64."""
    x = torch.linspace(-1, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
    return torch.stack([torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2], dim=1)


def gaussian(sigma: float, truncate: float = 4.0) -> Tensor:
    """Weights (2r + 1,) of a Gaussian integrated over voxels, summing to 1, r = truncate·σ; float64."""
    radius = max(1, int(truncate * sigma + 0.5))
    edges = torch.arange(-radius, radius + 2, dtype=torch.float64) - 0.5
    weights = torch.erf(edges / (math.sqrt(2) * sigma)).diff() / 2
    return weights / weights.sum()


def blur_matrix(n: int, sigma: float, border: Literal["repeat", "zeros"]) -> Tensor:
    """(n, n): smoothing along an axis of n voxels, float32."""
    weights = gaussian(sigma)
    radius = len(weights) // 2
    matrix = torch.zeros(n, n + 2 * radius, dtype=torch.float64)
    for offset, weight in enumerate(weights):
        matrix.diagonal(offset).fill_(float(weight))
    inner = matrix[:, radius : radius + n].clone()
    if border == "repeat":
        inner[:, 0] += matrix[:, :radius].sum(1)
        inner[:, -1] += matrix[:, radius + n :].sum(1)
    return inner.float()


def blur(image: Tensor, sigmas: Sequence[float], border: Literal["repeat", "zeros"]) -> Tensor:
    """Gaussian blur along each axis; σ in voxels. Products of matrices cost the same for every σ."""
    for axis, sigma in enumerate(sigmas):
        n = image.shape[axis + 1]
        if sigma < 1e-3 or n == 1:
            continue
        matrix = blur_matrix(n, sigma, border).to(image.device)
        if axis == 2:
            image = image @ matrix.T
        elif axis == 1:
            image = torch.matmul(matrix, image)
        else:
            image = torch.matmul(matrix, image.flatten(2)).view(image.shape)
    return image


def moments(image: Tensor, field: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over a field (1, X, Y, Z) or everything, (C, 1, 1, 1).

    The deviation is 1 where an image is constant; an empty field counts as everything.
    """
    seen, count = image, torch.tensor(image[0].numel(), dtype=image.dtype, device=image.device)
    mask = None
    if field is not None:
        mask = (field != 0).to(image.dtype)
        count = mask.sum()
        mask += count == 0
        count = torch.where(count > 0, count, mask.numel())
        seen = image * mask
    mean = (seen.flatten(1).sum(1) / count)[:, None, None, None]
    away = image - mean
    if mask is not None:
        away *= mask
    std = (torch.linalg.vector_norm(away.flatten(1), dim=1) / count.sqrt())[:, None, None, None]
    return mean, torch.where(std > 0, std, 1)
