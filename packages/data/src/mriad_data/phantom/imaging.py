"""From noise-free signal to a magnitude image: point spread, receive field, noise, scanner units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

F = np.float32
WHITE = 400.0  # mean signal of white matter in scanner units


def point_spread(image: NDArray[np.float32], sd_voxels: Sequence[float]) -> NDArray[np.float32]:
    """Blur by the point spread beyond the voxel, in place: kernel (σ²/2, 1 − σ², σ²/2) along each axis.

    The kernel has the variance σ² (voxels²) of the Gaussian it stands for; σ must be below .8. Edges repeat.
    """
    for axis, sd in enumerate(sd_voxels):
        if sd <= 0 or image.shape[axis] < 2:
            continue
        side = F(min(sd, 0.8) ** 2 / 2)
        line = np.moveaxis(image, axis, 0)
        step = np.diff(line, axis=0)
        step *= side
        line[:-1] += step
        line[1:] -= step
    return image


def receive_field(
    shape: Sequence[int], strength: float, rng: np.random.Generator, to_anterior: float = -0.18
) -> NDArray[np.float32]:
    """Multiplicative bias field (X, Y, Z), mean near 1: exp of a Legendre polynomial of total degree 3.

    `to_anterior` is the mean slope along the second axis: coils behind the neck make the field fall; the other
    coefficients are drawn. With strength 1 the field spans about a factor of 2 over the volume.
    """
    basis = [_legendre(n) for n in shape]
    c = np.zeros((4, 4, 4))
    for i in range(4):
        for j in range(4 - i):
            for k in range(4 - i - j):
                if i + j + k:
                    c[i, j, k] = rng.standard_normal() * 0.10 / (i + j + k)
    c[0, 1, 0] += to_anterior
    yz = np.einsum("ijk,yj,zk->iyz", c * strength, basis[1], basis[2]).astype(F)
    field = (basis[0].astype(F) @ yz.reshape(4, -1)).reshape(shape)
    out: NDArray[np.float32] = np.exp(field, out=field)
    return out


def magnitude(image: NDArray[np.float32], sd: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rician magnitude in place: |image + n₁ + i n₂| with both parts Gaussian of standard deviation `sd`."""
    if sd <= 0:
        return image
    noise = rng.standard_normal(image.shape, dtype=F)
    noise *= F(sd)
    image += noise
    image *= image
    rng.standard_normal(out=noise, dtype=F)
    noise *= F(sd)
    noise *= noise
    image += noise
    return np.sqrt(image, out=image)


def _legendre(n: int) -> Any:
    x = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return np.stack([np.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2], -1)
