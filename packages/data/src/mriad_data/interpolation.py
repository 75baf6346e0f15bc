"""Interpolation between two grids that share axes and centre; imports scipy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

_TIE = 1e-6  # weights closer than this are equal: rounding must not decide which structure a voxel gets


@dataclass(frozen=True)
class Lattice:
    """New voxel k of an axis lies at old voxel `offset + ratio · k`. Arrays are (X, Y, Z).

    Beyond the centres of the outermost voxels their value is held (there is at most half a voxel).
    """

    shape: tuple[int, int, int]
    ratio: tuple[float, float, float]
    offset: tuple[float, float, float]
    sigma: tuple[float, float, float]
    """Gaussian before sampling, in old voxels."""

    @classmethod
    def between(cls, old: Grid, new: Grid, antialias: bool) -> Lattice:
        """The lattice from one grid to another with the same directions and centre."""
        ratio = [b / a for a, b in zip(old.spacing, new.spacing, strict=True)]
        offset = [(n - 1) / 2 - r * (m - 1) / 2 for n, m, r in zip(old.shape, new.shape, ratio, strict=True)]
        sigma = [max(r - 1, 0) / 2 if antialias else 0.0 for r in ratio]
        return cls(new.shape, tuple(ratio), tuple(offset), tuple(sigma))  # type: ignore[arg-type]

    def image(self, data: NDArray[Any], order: int) -> NDArray[np.float32]:
        """A spline of `order` through the (smoothed) values."""
        return self._sample(self._smooth(data) if order else data.astype(np.float32), order)

    def nearest(self, data: NDArray[Any]) -> NDArray[Any]:
        """The value of the nearest voxel; any data type, no new value."""
        picks = [
            np.clip(np.floor(o + r * np.arange(m) + 0.5).astype(int), 0, n - 1)
            for o, r, m, n in zip(self.offset, self.ratio, self.shape, data.shape, strict=True)
        ]
        return np.ascontiguousarray(data[np.ix_(*picks)])

    def soft(self, channels: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """Linear, channel by channel (S, X, Y, Z); 0 where nothing is annotated."""
        total = self._weight(valid)
        out = np.zeros((len(channels), *self.shape), np.float32)
        for row, channel in zip(out, channels, strict=True):
            part = self._linear(channel if valid is None else np.where(valid, channel, 0))
            row[...] = np.clip(part if total is None else part / np.maximum(total, _TIE), 0, 1)
        return out

    def hard(self, labels: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
        """The label whose mask, interpolated linearly, weighs most; background where nothing is annotated."""
        out = np.zeros(self.shape, labels.dtype)
        counted = labels if valid is None else np.where(valid, labels, -1)
        best = self._linear(counted == 0)
        for label in np.unique(labels[labels > 0]):
            weight = self._linear(counted == label)
            wins = weight > best + _TIE
            out[wins] = label
            best = np.where(wins, weight, best)
        return out

    def _weight(self, valid: NDArray[np.bool_] | None) -> NDArray[np.float32] | None:
        return None if valid is None else self._linear(valid)

    def _linear(self, data: NDArray[Any]) -> NDArray[np.float32]:
        return self._sample(self._smooth(data), 1)

    def _smooth(self, data: NDArray[Any]) -> NDArray[np.float32]:
        data = data.astype(np.float32)
        return ndimage.gaussian_filter(data, self.sigma, mode="nearest") if any(self.sigma) else data

    def _sample(self, data: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        if order == 0:
            return self.nearest(data)
        with warnings.catch_warnings():
            # scipy announces on every call that the meaning of a 1-D matrix changed in 2016.
            warnings.filterwarnings(
                "ignore", message="The behavior of affine_transform", category=UserWarning
            )
            out: NDArray[np.float32] = ndimage.affine_transform(
                data, self.ratio, self.offset, self.shape, np.float32, order, mode="nearest"
            )
        return out
