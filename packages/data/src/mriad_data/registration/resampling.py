"""Pulling a volume through a transform onto a grid, in one interpolation; imports scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.vocabulary import Volume
from scipy import ndimage

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.registration.transform import Transform

Kind = Literal["image", "soft", "hard"]
_TIE = 1e-6  # weights closer than this are equal: rounding must not decide which label a voxel gets
_EDGE = 1e-4  # voxels by which rounding may put a border voxel outside


def pulled(
    volume: Volume,
    transform: Transform,
    grid: Grid,
    kind: Kind,
    order: int = 3,
    fill: float = 0.0,
    valid: NDArray[np.bool_] | None = None,
) -> Volume:
    """The volume on another grid; see `Transform` for its direction.

    Where the new voxels are larger than the old ones, a Gaussian of half the excess (in old voxels, each axis
    by itself) is applied first, as in `data.resample`.

    Args:
        volume: (X, Y, Z), or (S, X, Y, Z) of kind soft.
        transform: world of `grid` → world of the volume.
        grid: what the result lies on.
        kind: "image": spline of `order`, float32, `fill` outside what was acquired. "soft": linear, in [0, 1],
            the sum over structures kept; 0 outside. "hard": the value whose mask, interpolated linearly,
            weighs most; data type kept, 0 outside.
        order: of the spline, 0 to 5.
        fill: intensity of voxels outside the moving image.
        valid: of a label, where it is annotated (X, Y, Z): only these voxels are mixed, each result divided by
            their weight; 0 where none is near. None: everywhere.
    """
    inner = np.linalg.inv(volume.grid.matrix) @ transform.array @ grid.matrix
    if _is_still(inner, volume, grid):
        data = volume.data if kind == "hard" else volume.data.astype(np.float32)
        return Volume(data, grid)
    # The step of a new voxel along each old axis, in old voxels.
    ratio = np.linalg.norm(inner[:3, :3], axis=1)
    sample = _Sampler(inner, grid.shape, tuple(np.maximum(ratio - 1, 0) / 2))
    if kind == "image":
        out = sample(volume.data.astype(np.float32), order)
        inside = sample.inside(volume.grid.shape)
        return Volume(np.where(inside, out, np.float32(fill)), grid)
    inside = sample.inside(volume.grid.shape)
    if kind == "soft":
        channels = volume.data if volume.data.ndim == 4 else volume.data[None]
        soft = np.stack([_soft(c.astype(np.float32), sample, valid) for c in channels])
        soft *= inside
        return Volume(soft.reshape(volume.data.shape[:-3] + grid.shape), grid)
    return Volume(_hard(volume.data, sample, inside, valid), grid)


def covered(moving: Grid, transform: Transform, grid: Grid) -> NDArray[np.bool_]:
    """Where a grid (X, Y, Z) lies inside the field of view of a moving image."""
    inner = np.linalg.inv(moving.matrix) @ transform.array @ grid.matrix
    return _Sampler(inner, grid.shape, (0.0, 0.0, 0.0)).inside(moving.shape)


def _is_still(inner: NDArray[np.float64], volume: Volume, grid: Grid) -> bool:
    """Whether every voxel stays where it is: nothing is interpolated then."""
    last = np.array(grid.shape) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1)
    moved = inner[:3, :3] @ corners + inner[:3, 3:] - corners
    return volume.grid.shape == grid.shape and bool(np.abs(moved).max() < _EDGE)


def _soft(
    channel: NDArray[np.float32], sample: _Sampler, valid: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    if valid is None:
        return np.clip(sample(channel, 1), 0, 1)
    part = sample(np.where(valid, channel, np.float32(0)), 1)
    return np.clip(part / np.maximum(sample(valid.astype(np.float32), 1), np.float32(_TIE)), 0, 1)


def _hard(
    labels: NDArray[Any], sample: _Sampler, inside: NDArray[np.bool_], valid: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """Only annotated voxels vote: dividing by their weight, one for all values, would change no winner."""
    if not np.issubdtype(labels.dtype, np.integer):
        whole = np.rint(labels)
        if not np.array_equal(whole, labels):
            raise DataError("a hard label holds values that are not whole numbers")
        labels = whole.astype(np.int32)
    out = np.zeros(sample.shape, labels.dtype)
    background = labels == 0
    if valid is not None:
        background, labels = background & valid, np.where(valid, labels, 0)
    best = sample(background.astype(np.float32), 1)
    for value in np.unique(labels[labels != 0]):
        weight = sample((labels == value).astype(np.float32), 1)
        wins = (weight > best + _TIE) & inside
        out[wins] = value
        best = np.where(wins, weight, best)
    return out


class _Sampler:
    """Values at `inner @ voxel` for all voxels of a shape; beyond the border its value is held."""

    def __init__(
        self, inner: NDArray[np.float64], shape: tuple[int, int, int], sigma: tuple[float, ...]
    ) -> None:
        self.inner, self.shape, self.sigma = inner, shape, sigma

    def __call__(self, data: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        if order and max(self.sigma) > 1e-3:
            data = ndimage.gaussian_filter(data, self.sigma, mode="nearest")
        out: NDArray[np.float32] = ndimage.affine_transform(
            data, self.inner[:3, :3], self.inner[:3, 3], self.shape, np.float32, order, mode="nearest"
        )
        return out

    def inside(self, old: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Where the centre of a new voxel lies within the old image, to its outer faces."""
        result = np.ones(self.shape, bool)
        i, j, k = (np.arange(n, dtype=np.float64) for n in self.shape)
        for axis, row in enumerate(self.inner[:3]):
            place = row[0] * i[:, None, None] + row[1] * j[None, :, None] + (row[2] * k[None, None] + row[3])
            result &= (place >= -0.5 - _EDGE) & (place <= old[axis] - 0.5 + _EDGE)
        return result
