"""Probabilities on the working grid → the native grid, through world space and in slabs.

Where the grids differ only by order and direction of axes, crop and pad, voxels are moved and nothing is computed.
Otherwise values are interpolated linearly in float32. A working voxel holds up to its faces; outside them lies
background, 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from mriad.errors import ShapeError
from mriad.geometry import SAME_GRID_MM
from mriad.inference.slab import Slab, planes_per_slab

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from mriad.geometry import Grid

_FACE = 0.5 + 1e-4  # voxels; a native centre that lies on a face by design must not miss it by rounding


@dataclass(frozen=True, eq=False)
class VoxelMap:
    """Native voxel v → working voxel `linear @ v + offset`, in float64; `exact` if it is an index map."""

    linear: NDArray[np.float64]
    offset: NDArray[np.float64]
    exact: bool

    @classmethod
    def between(cls, working: Grid, native: Grid) -> VoxelMap:
        """The map between two grids; exact if no native voxel is moved by more than 1 µm when it is rounded."""
        matrix = np.linalg.inv(working.matrix) @ native.matrix
        linear, offset = matrix[:3, :3], matrix[:3, 3]
        rounded, shift = np.rint(linear), np.rint(offset)
        if (np.abs(rounded).sum(0) == 1).all() and (np.abs(rounded).sum(1) == 1).all():
            last = np.array(native.shape) - 1
            corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T * last
            moved = corners @ (rounded - linear).T + (shift - offset)
            if np.linalg.norm(moved @ working.matrix[:3, :3].T, axis=1).max() <= SAME_GRID_MM:
                return cls(rounded, shift, True)
        return cls(linear, offset, False)


def to_native(slabs: Iterable[Slab], channels: int, working: Grid, native: Grid) -> Iterator[Slab]:
    """Move a volume that passes by in slabs to another grid; the result passes by in slabs too.

    Only the planes that a piece of the native grid needs are kept, so a large volume is held whole only where the
    grids are turned against each other by tens of degrees. Slabs that no native voxel needs are not asked for.

    Args:
        slabs: (channels, *working.shape) float32 along one axis, from the first plane to the last.
        channels: number of channels.
        working: grid of `slabs`.
        native: grid of the result.

    Yields:
        slabs of (channels, *native.shape) along one axis, in ascending or descending order, each plane once.

    Raises:
        ShapeError: a slab does not fit the working grid.
    """
    mapping = VoxelMap.between(working, native)
    source = iter(slabs)
    first = next(source, None)
    if first is None:
        return
    axis = first.axis
    # The native axis that runs most along the axis of the slabs, in the direction in which they come.
    along = int(np.argmax(np.abs(mapping.linear[axis])))
    descending = mapping.linear[axis, along] < 0
    step = planes_per_slab(channels, native.shape, along)
    pieces = [(n, min(n + step, native.shape[along])) for n in range(0, native.shape[along], step)]
    kept = [first]
    _check(first, channels, working)
    for start, stop in reversed(pieces) if descending else pieces:
        low, high = _needed(mapping, axis, along, start, stop, native.shape, working.shape[axis])
        while kept[-1].stop < high:
            kept.append(next(source))
            _check(kept[-1], channels, working)
        # `low` only grows from piece to piece; the last slab stays to know how far we are.
        kept = [s for s in kept[:-1] if s.stop > low] + kept[-1:]
        box = list(native.shape)
        box[along] = stop - start
        origin = [0, 0, 0]
        origin[along] = start
        if low >= high:
            values = kept[-1].values.new_zeros((channels, *box))
        else:
            region = _region(kept, axis, low, high)
            shift = np.zeros(3)
            shift[axis] = low
            offset = mapping.offset + mapping.linear @ np.array(origin) - shift
            if mapping.exact:
                values = _index(region, mapping.linear, offset, box)
            else:
                values = _interpolate(region, mapping.linear, offset, box, shift, working.shape)
        yield Slab(along, start, values)


def _check(slab: Slab, channels: int, working: Grid) -> None:
    expected = [channels, *working.shape]
    expected[slab.axis + 1] = int(slab.values.shape[slab.axis + 1])
    if list(slab.values.shape) != expected:
        raise ShapeError(
            "probabilities do not lie on the working grid",
            where={"probabilities": tuple(slab.values.shape), "expected": tuple(expected)},
        )


def _needed(
    mapping: VoxelMap, axis: int, along: int, start: int, stop: int, shape: tuple[int, int, int], size: int
) -> tuple[int, int]:
    """Working planes [low, high) across `axis` that native planes start … stop − 1 need; low ≥ high: none."""
    row = mapping.linear[axis]
    ends = [np.array([0, n - 1]) * row[i] for i, n in enumerate(shape)]
    ends[along] = np.array([start, stop - 1]) * row[along]
    lowest = mapping.offset[axis] + sum(float(e.min()) for e in ends)
    highest = mapping.offset[axis] + sum(float(e.max()) for e in ends)
    if highest < -_FACE or lowest > size - 1 + _FACE:
        return (0, 0) if highest < -_FACE else (size, size)
    low = int(np.clip(np.floor(lowest), 0, size - 1))
    high = int(np.clip(np.ceil(highest), 0, size - 1)) + 1
    return low, high


def _region(kept: list[Slab], axis: int, low: int, high: int) -> Tensor:
    """Planes [low, high) of what is kept; a view where one slab holds them all."""
    parts = []
    for slab in kept:
        a, b = max(low, slab.start), min(high, slab.stop)
        if a < b:
            parts.append(slab.values.narrow(axis + 1, a - slab.start, b - a))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis + 1)


def _index(
    region: Tensor, linear: NDArray[np.float64], offset: NDArray[np.float64], box: list[int]
) -> Tensor:
    """Move voxels: permute, flip, crop, pad with 0. `linear` is a signed permutation, `offset` whole."""
    order = [
        int(np.argmax(np.abs(linear[:, native]))) for native in range(3)
    ]  # working axis of each native one
    moved = region.permute(0, *(1 + a for a in order))
    out = region.new_zeros((region.shape[0], *box))
    source: list[slice] = []
    target: list[slice] = []
    flips: list[int] = []
    for native, working in enumerate(order):
        sign, at, size = int(linear[working, native]), int(offset[working]), moved.shape[native + 1]
        # Working index of native voxel n is sign * n + at; keep those n for which it is inside.
        if sign > 0:
            a, b = max(0, -at), min(box[native], size - at)
            source.append(slice(a + at, max(a, b) + at))
        else:
            a, b = max(0, at - size + 1), min(box[native], at + 1)
            source.append(slice(at - max(a, b) + 1, at - a + 1))
            flips.append(native + 1)
        if a >= b:
            return out
        target.append(slice(a, b))
    part = moved[:, source[0], source[1], source[2]]
    out[:, target[0], target[1], target[2]] = part.flip(flips) if flips else part
    return out


def _interpolate(
    region: Tensor,
    linear: NDArray[np.float64],
    offset: NDArray[np.float64],
    box: list[int],
    shift: NDArray[np.float64],
    full: tuple[int, int, int],
) -> Tensor:
    """Linear interpolation of `region`, which begins at voxel `shift` of a volume of shape `full`."""
    coordinates = []
    inside: Tensor | None = None
    for axis in range(3):
        terms = [torch.from_numpy(np.arange(n) * linear[axis, i]) for i, n in enumerate(box)]
        terms[0] = terms[0] + float(offset[axis])
        # float64 is summed where it is small; only the sum of three numbers below the region's size is float32.
        x, y, z = (t.to(region.device, torch.float32) for t in terms)
        at = x[:, None, None] + y[:, None] + z
        low, high = -_FACE - float(shift[axis]), full[axis] - 1 + _FACE - float(shift[axis])
        within = (at >= low) & (at <= high)
        inside = within if inside is None else inside.logical_and_(within)
        coordinates.append(at.mul_(2 / max(region.shape[axis + 1] - 1, 1)).sub_(1))
    grid = torch.stack(coordinates[::-1], dim=-1)  # grid_sample names the last axis first
    values = F.grid_sample(
        region[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
    )[0]
    assert inside is not None
    # Rounding of the weights may leave [0, 1] by one unit in the last place.
    return values.mul_(inside).clamp_(0, 1)
