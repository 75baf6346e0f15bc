"""Sliding window with Gaussian blending that holds a band of the volume, not the volume.

Windows are visited row by row along one axis. A row overlaps only with its neighbours, so that accumulators for one
window's thickness are enough: what no later window reaches is divided by its weights and passed on.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from mriad.errors import ExperimentError, MriadError, NonFiniteError, ShapeError
from mriad.inference.slab import Slab, planes_per_slab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

SIGMA = 1 / 8
"""Standard deviation of the blending weights as a fraction of the window (nnU-Net: Isensee et al. 2021; MONAI)."""
LEAST_WEIGHT = 1e-3
"""Weights below this are raised to it, as MONAI does, so that no voxel rests on a rounding error."""


def window_shape(
    shape: Sequence[int], size: Sequence[int | Literal["full"]], divisor: Sequence[int]
) -> tuple[int, int, int]:
    """The window in voxels for a volume of `shape`.

    Args:
        shape: X, Y, Z of the volume.
        size: one entry an axis, a number of voxels or `full`; empty means `full` everywhere.
        divisor: what each size must be a multiple of; sizes are rounded up, and the volume is padded with 0 where
            it is smaller than its window.

    Raises:
        ExperimentError: not 3 sizes, or one is below 1.
    """
    asked = list(size) or ["full"] * 3
    if len(asked) != 3 or any(isinstance(n, int) and n < 1 for n in asked):
        raise ExperimentError(
            "predict.window needs one positive size or `full` for each of the 3 axes",
            where={"window": list(size)},
            remedy="predict: {window: [96, 96, full]}",
        )
    voxels = [n if isinstance(n, int) else full for n, full in zip(asked, shape, strict=True)]
    x, y, z = (math.ceil(n / d) * d for n, d in zip(voxels, divisor, strict=True))
    return x, y, z


def starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis of `length` ≥ `window`; the last window ends with the axis."""
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil((length - window) / step) + 1
    return [min(i * step, length - window) for i in range(count)]


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """Blending weights of a window, float32 of its shape, in [1e-3, 1], largest in the centre."""
    axes = []
    for size in window:
        x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        axes.append(torch.exp(-0.5 * (x / (SIGMA * size)) ** 2))
    weights = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return weights.clamp_min_(max(float(weights.min()), LEAST_WEIGHT))


def cut(image: NDArray[np.float32], start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """A copy (1, C, *shape) of the box of (C, X, Y, Z) that begins at `start`; 0 outside the volume."""
    low = [max(0, s) for s in start]
    high = [max(a, min(n, s + w)) for a, n, s, w in zip(low, image.shape[1:], start, shape, strict=True)]
    inside = np.asarray(image[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]], dtype=np.float32)
    if inside.shape[1:] == tuple(shape):
        return torch.from_numpy(inside.copy())[None]
    box = np.zeros((image.shape[0], *shape), dtype=np.float32)
    x, y, z = (slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    box[:, x, y, z] = inside
    return torch.from_numpy(box)[None]


@torch.no_grad()
def blend(
    image: NDArray[np.float32],
    forward: Callable[[Tensor], Tensor],
    outputs: int,
    window: Sequence[int],
    overlap: Sequence[float],
    device: torch.device | str = "cpu",
    on_window: Callable[[int, int], None] | None = None,
) -> Iterator[Slab]:
    """Yield `forward` of every window, blended, in slabs from the first plane to the last.

    Args:
        image: (C, X, Y, Z) float32, may be a read-only memory map.
        forward: (1, C, *window) on `device` → (outputs, *window).
        outputs: channels of the result.
        window: window in voxels; the volume is padded with 0, half on each side, where it is smaller.
        overlap: per axis, the fraction of a window shared with its neighbour.
        device: where windows and accumulators live.
        on_window: called with (windows done, windows in all).

    Yields:
        slabs of (outputs, X, Y, Z) along the axis in which the window covers the smallest part of the volume.

    Raises:
        ShapeError: `forward` gives another shape.
        NonFiniteError: it gives NaN or infinity.
        MriadError: memory does not suffice; the message holds sizes and what to make smaller.
    """
    shape = image.shape[1:]
    padded = [max(n, w) for n, w in zip(shape, window, strict=True)]
    before = [(p - n) // 2 for p, n in zip(padded, shape, strict=True)]
    # The band along this axis is the thinnest part of the volume.
    axis = min(range(3), key=lambda i: window[i] / padded[i])
    others = [i for i in range(3) if i != axis]
    rows = starts(padded[axis], window[axis], overlap[axis])
    across = [starts(padded[i], window[i], overlap[i]) for i in others]
    total = len(rows) * len(across[0]) * len(across[1])
    band_shape = [window[i] if i == axis else padded[i] for i in range(3)]
    try:
        weights = gaussian_weights(window).to(device)
        band = torch.zeros((outputs, *band_shape), device=device)
        norm = torch.zeros((1, *band_shape), device=device)
        done = 0
        for row, start in enumerate(rows):
            for corner in itertools.product(*across):
                at = [0, 0, 0]
                at[axis] = start
                for i, value in zip(others, corner, strict=True):
                    at[i] = value
                box = cut(image, [a - b for a, b in zip(at, before, strict=True)], window).to(device)
                result = forward(box)
                if tuple(result.shape) != (outputs, *window):
                    raise ShapeError(
                        "a network's output does not fit its task",
                        where={"output": tuple(result.shape), "expected": (outputs, *window)},
                    )
                at[axis] = 0
                x, y, z = (slice(a, a + w) for a, w in zip(at, window, strict=True))
                band[:, x, y, z].addcmul_(result, weights)
                norm[:, x, y, z].add_(weights)
                done += 1
                if on_window is not None:
                    on_window(done, total)
            finished = (rows[row + 1] if row + 1 < len(rows) else padded[axis]) - start
            yield from _finished(band, norm, axis, start - before[axis], finished, before, shape)
            for accumulator in (band, norm):
                _shift(accumulator, axis + 1, finished)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(shape, window, outputs, band_shape, device) from error
    except RuntimeError as error:  # the CPU allocator has no exception class of its own
        if "can't allocate memory" not in str(error):
            raise
        raise _out_of_memory(shape, window, outputs, band_shape, device) from error


def _finished(
    band: Tensor,
    norm: Tensor,
    axis: int,
    start: int,
    planes: int,
    before: Sequence[int],
    shape: Sequence[int],
) -> Iterator[Slab]:
    """Slabs of the first planes of a band, without padding; `start` is the volume's plane of the band's first."""
    step = planes_per_slab(band.shape[0], band.shape[1:], axis)
    first, last = max(0, -start), min(planes, shape[axis] - start)
    for low in range(first, last, step):
        picks = [slice(b, b + n) for b, n in zip(before, shape, strict=True)]
        picks[axis] = slice(low, min(low + step, last))
        x, y, z = picks
        values = band[:, x, y, z] / norm[:, x, y, z]
        # A sum is one pass without a temporary; it is not finite if any value is not, or rarely by overflow.
        if not math.isfinite(float(values.sum())) and not bool(torch.isfinite(values).all()):
            raise NonFiniteError(
                "the network gives values that are not finite",
                where={"planes": f"{start + low} to {start + picks[axis].stop - 1} of axis {axis}"},
                remedy="look for NaN in the image and in the weights",
            )
        yield Slab(axis, start + low, values)


def _shift(accumulator: Tensor, dim: int, planes: int) -> None:
    """Drop the first planes in place, move the rest up and clear what becomes free."""
    size = accumulator.shape[dim]
    for low in range(0, size - planes, planes):  # blocks that do not overlap with where they go
        count = min(planes, size - planes - low)
        accumulator.narrow(dim, low, count).copy_(accumulator.narrow(dim, low + planes, count))
    accumulator.narrow(dim, size - planes, planes).zero_()


def _out_of_memory(
    shape: Sequence[int],
    window: Sequence[int],
    outputs: int,
    band_shape: Sequence[int],
    device: torch.device | str,
) -> MriadError:
    gib = 4 * (outputs + 1) * math.prod(band_shape) / 2**30
    return MriadError(
        "memory does not suffice for this prediction",
        where={
            "volume": "×".join(map(str, shape)),
            "outputs": outputs,
            "window": "×".join(map(str, window)),
            "device": str(device),
            "accumulators": f"{gib:.2f} GiB, and the network's own activations for one window",
        },
        remedy="a smaller predict.window, coarser data.resample, or --device cpu",
    )
