"""`data.orient`: axes in a named anatomical order, by permuting and flipping alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.geometry import Grid
from mriad.interfaces import PreprocessingStep
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


class Orient(PreprocessingStep):
    """Permute and flip the axes so that each points the way that `axes` names; no value changes.

    An oblique image keeps its obliqueness: its axes are the ones *nearest* to the named directions.
    Letters name where an axis points *to*, as nibabel and MONAI do; the spinal cord toolbox names where
    it comes *from*, so that its "RPI" is "LAS" here. Axes are permuted without moving a byte: only a flip copies,
    in the order in which the voxels lie in memory, and `mriad.preparation` brings the end of a chain into C order.
    """

    type: Literal["data.orient"] = "data.orient"
    axes: str = Field(description='One letter an axis, such as "RAS" or "RPI": where i, j and k point to.')

    @field_validator("axes")
    @classmethod
    def _three_axes(cls, value: str) -> str:
        if len(value) != 3 or {frozenset((a, OPPOSITE.get(a, ""))) for a in value} != {
            frozenset(pair) for pair in ("RL", "AP", "SI")
        }:
            raise ValueError(f"'{value}' must hold one of R L, one of A P and one of S I, such as RAS")
        return value

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with its axes in order."""
        here = sample.grid.orientation
        if here == self.axes:
            return sample
        order = [next(i for i, a in enumerate(here) if a in (code, OPPOSITE[code])) for code in self.axes]
        flips = [here[axis] != code for axis, code in zip(order, self.axes, strict=True)]

        def turn(array: NDArray[Any] | None) -> NDArray[Any] | None:
            if array is None:
                return None
            moved = array.transpose(0, *(axis + 1 for axis in order))
            steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
            # torch knows no negative strides, so a flip is a copy; "K" keeps it sequential.
            return np.array(moved[(slice(None), *steps)], order="K") if any(flips) else moved

        image = turn(sample.image)
        assert image is not None
        return replace(
            sample,
            image=image,
            grid=_turned(sample.grid, order, flips),
            target=turn(sample.target),
            validity=turn(sample.validity),
            field=turn(sample.field),
        )


def _turned(grid: Grid, order: list[int], flips: list[bool]) -> Grid:
    """The grid after taking its axes in `order` and flipping some: new voxel → old voxel → world."""
    shape = [grid.shape[axis] for axis in order]
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, 3] = shape[new] - 1 if flip else 0
    return Grid.of(shape, grid.matrix @ to_old)
