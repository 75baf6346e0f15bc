"""Interpolation between two grids that share axes and centre, separately along each axis; imports scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from mriad_data.axis_weights import average_weights, image_weights, label_weights, nearest
from mriad_data.banded import multiply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

_TIE = 1e-6  # weights closer than this are equal: rounding must not decide which structure a voxel gets


@dataclass(frozen=True)
class Lattice:
    """New voxel k of an axis lies at old voxel `offset + ratio · k`. Arrays are (X, Y, Z).

    Beyond the centres of the outermost voxels their value is held (there is at most half a voxel).
    """

    old: tuple[int, int, int]
    shape: tuple[int, int, int]
    ratio: tuple[float, float, float]
    offset: tuple[float, float, float]

    @classmethod
    def between(cls, old: Grid, new: Grid) -> Lattice:
        """The lattice from one grid to another with the same directions and centre."""
        ratio = [b / a for a, b in zip(old.spacing, new.spacing, strict=True)]
        offset = [(n - 1) / 2 - r * (m - 1) / 2 for n, m, r in zip(old.shape, new.shape, ratio, strict=True)]
        return cls(old.shape, new.shape, tuple(ratio), tuple(offset))  # type: ignore[arg-type]

    def image(
        self,
        data: NDArray[Any],
        orders: Sequence[int],
        antialias: bool = False,
        average: bool = False,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """A spline of `orders[axis]` along each axis (0: nearest).

        Args:
            data: (X, Y, Z).
            orders: one an axis.
            antialias: smooth an axis that gets r times coarser with a Gaussian of σ = (r − 1)/2 old voxels first.
            average: instead take the mean over each new voxel's thickness along such an axis.
            out: C-contiguous array to write into; made if absent.
        """

        def weights(axis: int) -> NDArray[np.float64]:
            at, ratio, order = self._at(axis), self.ratio[axis], orders[axis]
            if average and order and ratio > 1:
                return average_weights(*at)
            sigma = max(ratio - 1, 0) / 2 if antialias and order else 0.0
            return image_weights(*at, order, sigma)

        return multiply(data, {axis: weights(axis) for axis in self._changed()}, out)

    def nearest(self, data: NDArray[Any]) -> NDArray[Any]:
        """The value of the nearest voxel; any data type, no new value."""
        return np.ascontiguousarray(data[np.ix_(*(nearest(*self._at(axis)) for axis in range(3)))])

    def soft(
        self, channels: NDArray[Any], valid: NDArray[np.bool_] | None, orders: Sequence[int] = (1, 1, 1)
    ) -> NDArray[np.float32]:
        """Channel by channel (S, X, Y, Z) by `label_weights`; 0 where nothing is annotated."""
        weights = self._label(orders)
        total = None if valid is None else multiply(valid, weights)
        out = np.zeros((len(channels), *self.shape), np.float32)
        for row, channel in zip(out, channels, strict=True):
            part = multiply(channel if valid is None else np.where(valid, channel, 0), weights)
            np.clip(part if total is None else part / np.maximum(total, _TIE), 0, 1, out=row)
        return out

    def hard(
        self, labels: NDArray[Any], valid: NDArray[np.bool_] | None, orders: Sequence[int] = (1, 1, 1)
    ) -> NDArray[Any]:
        """The label whose mask weighs most by `label_weights`; background where nothing is annotated.

        Ties go to the background, then to the lower label.
        """
        weights = self._label(orders)
        counted = labels if valid is None else np.where(valid, labels, 0)
        background = labels == 0 if valid is None else valid & (labels == 0)
        best = multiply(background, weights)
        out = np.zeros(self.shape, labels.dtype)
        present = np.unique(counted[counted > 0])
        numbered = np.searchsorted(present, counted).astype(np.int32) + (counted > 0)
        # Each structure within its own box: many are small.
        for label, box in zip(present, ndimage.find_objects(numbered), strict=True):
            there, part = self._reached(weights, box)
            weight = multiply(counted[box] == label, part)
            here = best[there]
            wins = weight > here + _TIE
            out[there][wins] = label
            here[wins] = weight[wins]
        return out

    def _reached(
        self, weights: dict[int, NDArray[np.float64]], box: tuple[slice, slice, slice]
    ) -> tuple[tuple[slice, ...], dict[int, NDArray[np.float64]]]:
        """The new voxels that take from a box of old ones, and the weights between the two."""
        there, part = list(box), {}
        for axis, matrix in weights.items():
            columns = matrix[:, box[axis]]
            rows = np.flatnonzero(columns.any(1))
            there[axis] = slice(rows[0], rows[-1] + 1) if rows.size else slice(0, 0)
            part[axis] = columns[there[axis]]
        return tuple(there), part

    def _label(self, orders: Sequence[int]) -> dict[int, NDArray[np.float64]]:
        return {
            axis: label_weights(*self._at(axis)) if orders[axis] else image_weights(*self._at(axis), 0, 0.0)
            for axis in self._changed()
        }

    def _changed(self) -> list[int]:
        """Axes that are resampled; the others are as they were."""
        return [a for a in range(3) if (self.old[a], self.ratio[a]) != (self.shape[a], 1.0)]

    def _at(self, axis: int) -> tuple[int, int, float, float]:
        return self.old[axis], self.shape[axis], self.ratio[axis], self.offset[axis]
