"""One resampling of image, target, validity and field, in PyTorch; `mriad_softseg.compiled` does the same on CPUs.

Volumes are (C, X, Y, Z).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mriad_softseg.coordinates import Coordinates

SLAB = 2**19  # voxels of the output that are read at a time on the CPU
MIXED = 0.999  # a linear mix of validity below this had a hidden voxel in it
Beyond = Literal["border", "mirror"]
_PADDING = {"border": "border", "mirror": "reflection"}


@dataclass(frozen=True, eq=False)
class Parts:
    """The tensors of one sample, each (C, X, Y, Z) or None."""

    image: Tensor
    target: Tensor | None = None
    validity: Tensor | None = None
    field: Tensor | None = None

    @property
    def soft(self) -> bool:
        """Whether there is a soft target."""
        return self.target is not None and self.target.is_floating_point()


def flipped(parts: Parts, flip: Sequence[bool]) -> Parts:
    """The parts mirrored along axes; copies."""
    axes = [axis + 1 for axis, yes in enumerate(flip) if yes]

    def turn(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.flip(axes)

    return Parts(parts.image.flip(axes), turn(parts.target), turn(parts.validity), turn(parts.field))


def resampled(parts: Parts, where: Coordinates, order: int, beyond: Beyond) -> Parts:
    """Read every part at the coordinates.

    Image by `order`, soft target linearly, integer target, validity and field by the nearest voxel. With `border`
    what is read outside of the patch is invalid and not acquired.
    """
    image, target = parts.image, parts.target
    device = image.device
    hard = target is not None and not parts.soft
    smooth = [] if order == 2 else [image]
    if parts.soft and target is not None:
        smooth.append(target)
    if parts.soft and parts.validity is not None:
        smooth.append((parts.validity != 0).to(image.dtype))
    blocky = [x for x in (parts.validity, parts.field) if x is not None]
    if hard and target is not None:
        blocky.append(target.to(image.dtype))
    sources = [torch.cat(s) if len(s) > 1 else s[0] if s else None for s in (smooth, blocky)]
    read = [None if s is None else torch.empty_like(s) for s in sources]
    inside = torch.empty_like(image[:1]) if beyond == "border" else None
    splined = torch.empty_like(image) if order == 2 else None
    coefficients = spline_coefficients(image).flatten(1) if order == 2 else None
    # Planes at a time on the CPU, so that the grid stays in its cache.
    step = where.size[0] if device.type != "cpu" else max(1, SLAB // (where.size[1] * where.size[2]))
    for start in range(0, where.size[0], step):
        stop = min(start + step, where.size[0])
        grid = where.grid(start, stop, device)
        for source, out, mode in zip(sources, read, ("bilinear", "nearest"), strict=True):
            if source is not None and out is not None:
                out[:, start:stop] = F.grid_sample(
                    source[None], grid[None], mode=mode, padding_mode=_PADDING[beyond], align_corners=False
                )[0]
        if splined is not None and coefficients is not None:
            splined[:, start:stop] = _splined(coefficients, grid, where.size, beyond)
        if inside is not None:
            inside[0, start:stop] = (grid.abs() <= 1).all(-1)

    linear = [] if read[0] is None else list(read[0].split([x.shape[0] for x in smooth]))
    nearest = [] if read[1] is None else list(read[1].split([x.shape[0] for x in blocky]))
    return combined(parts, linear.pop(0) if splined is None else splined, linear, nearest, inside)


def combined(
    parts: Parts, image: Tensor, linear: list[Tensor], nearest: list[Tensor], inside: Tensor | None
) -> Parts:
    """What was read as parts again.

    Args:
        parts: what it was read from.
        image: the new one.
        linear: soft target, then what is visible beside it.
        nearest: validity, field, hard target.
        inside: 1 within the patch, (1, X, Y, Z); None where all is.
    """
    target = None
    if parts.target is not None:
        target = linear[0].clamp_(0, 1) if parts.soft else nearest.pop().to(parts.target.dtype)
    validity = nearest.pop(0) if parts.validity is not None else None
    if validity is not None and parts.soft:
        validity = validity * (linear[1] > MIXED)
    field = nearest.pop(0) if parts.field is not None else None
    return Parts(image, target, _both(validity, inside), _both(field, inside))


def _both(mask: Tensor | None, inside: Tensor | None) -> Tensor | None:
    """A mask that also ends where the patch ends."""
    return mask if inside is None else inside if mask is None else mask * inside


@lru_cache(maxsize=16)
def spline_inverse(length: int) -> Tensor:
    """(length, length): samples → coefficients of the quadratic B-spline through them, mirrored at the faces."""
    weights = torch.zeros(length, length, dtype=torch.float64)
    rows = torch.arange(length)
    for shift, weight in ((-1, 0.125), (0, 0.75), (1, 0.125)):
        weights.index_put_(
            (rows, (rows + shift).clamp(0, length - 1)),
            torch.tensor(weight, dtype=torch.float64),
            accumulate=True,
        )
    inverse = torch.linalg.inv(weights)
    # It falls by 0.17 a voxel; numbers too small for float32 would slow the products a hundredfold.
    return torch.where(inverse.abs() > 1e-9, inverse, 0).float()


def spline_coefficients(image: Tensor) -> Tensor:
    """Coefficients (C, X, Y, Z) of the quadratic B-spline that passes through the voxels."""
    ax, ay, az = (spline_inverse(n).to(image.device) for n in image.shape[1:])
    c = torch.matmul(ay, image @ az.T)
    return torch.matmul(ax, c.flatten(2)).view(c.shape)


def _splined(coefficients: Tensor, grid: Tensor, size: Sequence[int], beyond: Beyond) -> Tensor:
    """Read flat coefficients (C, X·Y·Z) at a grid (P, Y, Z, 3)."""
    strides = (size[1] * size[2], size[2], 1)
    taps = [
        _taps((grid[..., 2 - axis] * size[axis] + size[axis] - 1) / 2, size[axis], strides[axis], beyond)
        for axis in range(3)
    ]
    total = grid.new_zeros((coefficients.shape[0], *grid.shape[:3]))
    for ix, wx in taps[0]:
        for iy, wy in taps[1]:
            index, weight = ix + iy, wx * wy
            for iz, wz in taps[2]:
                total.addcmul_(coefficients[:, (index + iz).flatten()].view(total.shape), weight * wz)
    return total


def _taps(x: Tensor, n: int, stride: int, beyond: Beyond) -> list[tuple[Tensor, Tensor]]:
    """Flat offset and weight of the three coefficients along one axis; `x` counts voxels from the first."""
    if beyond == "border":
        x = x.clamp(0, n - 1)
    else:
        x = torch.remainder(x + 0.5, 2 * n)
        x = torch.minimum(x, 2 * n - x) - 0.5
    middle = torch.floor(x + 0.5)
    t = x - middle
    weights = (0.5 * (0.5 - t) ** 2, 0.75 - t * t, 0.5 * (0.5 + t) ** 2)
    base = middle.long()
    return [((base + k - 1).clamp(0, n - 1) * stride, w) for k, w in enumerate(weights)]
