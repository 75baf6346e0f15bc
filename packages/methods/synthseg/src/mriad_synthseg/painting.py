"""From labels to an image, in PyTorch: lookup, mixture of Gaussians, blur, bias, range, exponent, resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from mriad_synthseg.fields import doubled, upsampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mriad_synthseg.drawing import Acquisition, Drawn
    from mriad_synthseg.roles import Roles

FLAT = 1e-8  # a range below this is that of a constant image
TRUNCATE = 4.0  # a Gaussian is cut where SciPy cuts it, in units of σ


@dataclass(frozen=True)
class Palette:
    """Tables over indices of the deformed map: 0 background, s + 1 structure s, then the background's shapes.

    Flip and skull stripping are in them, so that the map is looked up once and never changed.
    mean, std: (C, I) float32. output: (I,) index of what is segmented.
    """

    mean: Tensor
    std: Tensor
    output: Tensor
    structures: int
    """Indices that the map itself can hold."""

    @classmethod
    def of(cls, drawn: Drawn, roles: Roles) -> Palette:
        """The tables of one sample, on the CPU."""
        seen = torch.tensor(roles.partners if drawn.flip else range(len(roles.names)))
        if drawn.strip:
            seen = torch.where(torch.tensor(roles.stripped)[seen], 0, seen)
        classes = torch.tensor(roles.classes)[seen]
        shapes = drawn.shape_mean.shape[1]
        return cls(
            mean=torch.cat([drawn.mean[:, classes], drawn.shape_mean], 1),
            std=torch.cat([drawn.std[:, classes], drawn.shape_std], 1),
            output=torch.cat([torch.tensor(roles.outputs)[seen], torch.zeros(shapes, dtype=torch.int64)]),
            structures=len(roles.names),
        )


def compact(index: Tensor, structures: int) -> Tensor:
    """Integers in the smallest type that also holds the shapes of the background."""
    return index.to(torch.uint8 if structures <= 256 else torch.int16)


def looked_up(
    maps: Sequence[Tensor], at: Tensor, size: Sequence[int], outside: Sequence[int]
) -> list[Tensor]:
    """Nearest voxels of maps (X, Y, Z) at half-resolution coordinates (3, *half(size)), each (*size).

    Ties go to the even voxel; beyond a map's border is `outside`.
    """
    full = doubled(at, size)
    inside = maps[0].shape
    place = torch.zeros(tuple(size), dtype=torch.int32, device=at.device)
    for axis, n in enumerate(inside):
        # One more voxel on each side stands for all that lies beyond.
        place *= n + 2
        place += full[axis].round_().clamp_(-1, n).add_(1).to(torch.int32)
    found = []
    for x, beyond in zip(maps, outside, strict=True):
        padded = F.pad(x, (1, 1, 1, 1, 1, 1), value=beyond)
        found.append(padded.reshape(-1).index_select(0, place.reshape(-1)).reshape(tuple(size)))
    return found


def with_shapes(label: Tensor, drawn: Drawn, structures: int) -> Tensor:
    """Background voxels get the index of the shape whose field is greatest there."""
    if not len(drawn.shapes):
        return label
    best = upsampled(drawn.shapes[:1].to(label.device), label.shape)[0]
    which = torch.zeros_like(label)
    for n in range(1, len(drawn.shapes)):
        field = upsampled(drawn.shapes[n : n + 1].to(label.device), label.shape)[0]
        higher = field > best
        best = torch.where(higher, field, best)
        which.masked_fill_(higher, n)
    return torch.where(label == 0, which + structures, label)


def mixed(label: Tensor, palette: Palette, channel: int, noise: Tensor) -> Tensor:
    """μ + σ·noise of each voxel's label; `noise` (*size) is overwritten and returned."""
    flat = label.reshape(-1).to(torch.int32)
    device = label.device
    noise *= palette.std[channel].to(device).index_select(0, flat).view_as(noise)
    noise += palette.mean[channel].to(device).index_select(0, flat).view_as(noise)
    return noise


def kernel(sigma: float) -> Tensor:
    """Weights of a Gaussian, summing to one, (2r + 1,) float64; r = ⌊4σ + ½⌋ as in SciPy."""
    radius = int(TRUNCATE * sigma + 0.5)
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2) if sigma > 0 else torch.ones(1, dtype=torch.float64)
    return weights / weights.sum()


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian of σ voxels along each axis, the border repeated; (*size)."""
    weights = kernel(sigma).tolist()
    radius = len(weights) // 2
    for axis in range(3) if radius else ():
        n = image.shape[axis]
        made = image * weights[radius]
        for k in range(1, radius + 1):
            w = weights[radius + k]
            inner, beyond = max(n - k, 0), min(k, n)
            # What lies beyond the border is the border voxel.
            made.narrow(axis, 0, beyond).add_(image.narrow(axis, 0, 1), alpha=w)
            made.narrow(axis, n - beyond, beyond).add_(image.narrow(axis, n - 1, 1), alpha=w)
            if inner:
                made.narrow(axis, k, inner).add_(image.narrow(axis, 0, inner), alpha=w)
                made.narrow(axis, 0, inner).add_(image.narrow(axis, k, inner), alpha=w)
        image = made
    return image


def stretched(image: Tensor) -> Tensor:
    """In place: least value 0, greatest 1; a constant image becomes 0."""
    low, high = image.aminmax()
    image -= low
    image /= (high - low).clamp_min(FLAT)
    return image


def finished(image: Tensor, clip: float, exponent: float) -> Tensor:
    """In place: cut to [0, clip], stretch to [0, 1], raise to the exponent."""
    stretched(image.clamp_(0, clip))
    if exponent != 1:
        image.log_().mul_(exponent).exp_()  # 0 → −∞ → 0; a third of the time of pow
    return image


def coarsened(image: Tensor, scan: Acquisition) -> Tensor:
    """What a scanner with these slices would give, brought back to this grid and to [0, 1].

    Along each axis blur by the slice profile, samples at the slices' centres, and linear interpolation are one
    matrix.
    """
    for axis, (step, sigma) in enumerate(zip(scan.step, scan.sigma, strict=True)):
        operator = acquisition(image.shape[axis], step, sigma).float().to(image.device)
        image = torch.tensordot(operator, image, dims=([1], [axis])).movedim(0, axis)
    return stretched(image.contiguous())


def acquisition(n: int, step: float, sigma: float) -> Tensor:
    """(n, n) float64: blur by σ voxels, sample every `step` voxels about the centre, interpolate linearly back.

    Rows sum to one. Voxels beyond the outermost slices have those slices' values.
    """
    profile = kernel(sigma)
    radius = len(profile) // 2
    blur = torch.zeros(n, n, dtype=torch.float64)
    for k, w in enumerate(profile.tolist()):
        rows = torch.arange(n)
        blur.index_put_(
            (rows, (rows + k - radius).clamp(0, n - 1)), torch.tensor(w, dtype=torch.float64), accumulate=True
        )
    if step <= 1:
        return blur
    count = int((n - 1) / step) + 1
    first = (n - 1 - (count - 1) * step) / 2
    at = first + step * torch.arange(count, dtype=torch.float64)
    down = (1 - (at[:, None] - torch.arange(n)).abs()).clamp_min(0)
    seen = ((torch.arange(n, dtype=torch.float64) - first) / step).clamp(0, count - 1)
    up = (1 - (seen[:, None] - torch.arange(count)).abs()).clamp_min(0)
    return up @ down @ blur
