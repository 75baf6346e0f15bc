"""Hard masks as they come: values, blobs and emptiness checked; slices brought to the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError
from mriad.geometry import Grid
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALED = 255
"""Value of a binary mask that was stored as 0–255."""


@dataclass(frozen=True, eq=False)
class Mask:
    """A hard mask with slices along the last axis.

    inside: bool (X, Y, Z), Z the voxel axis nearest to inferior-superior. grid: of these axes. axis: where Z is in
    the file. annotated: bool (Z,), slices that hold something.
    """

    inside: NDArray[np.bool_]
    grid: Grid
    axis: int
    annotated: NDArray[np.bool_]

    @classmethod
    def of(cls, data: NDArray[Any], grid: Grid, value: int = 1) -> Mask:
        """Check a mask and turn its slices to the last axis.

        Args:
            data: (X, Y, Z) of any data type; 0 is background, `value` is inside.
            grid: of `data`.
            value: what stands for the structure in label files; 255 alone does too.

        Raises:
            DataError: values that a hard mask does not have, nothing inside, or a slice with several blobs.
        """
        inside = _binary(np.asarray(data), value)
        if not inside.any():
            raise DataError(
                "the mask is empty",
                where={"grid": grid.describe(), "expected": "at least one slice with the structure"},
                remedy="segment the scan, or leave the contrast out with `contrasts`",
            )
        axis = slice_axis(grid)
        inside = np.moveaxis(inside, axis, -1)
        annotated: NDArray[np.bool_] = np.asarray(inside.any(axis=(0, 1)))
        _one_blob(inside, annotated)
        return cls(inside, moved(grid, axis), axis, annotated)

    @property
    def thickness(self) -> float:
        """Distance of slices in mm."""
        return self.grid.spacing[2]

    def back(self, data: NDArray[Any]) -> NDArray[Any]:
        """Voxels (X, Y, Z) of this order in the order of the file."""
        return np.ascontiguousarray(np.moveaxis(data, -1, self.axis))


def slice_axis(grid: Grid) -> int:
    """The voxel axis nearest to inferior-superior."""
    return next(i for i, letter in enumerate(grid.orientation) if letter in "IS")


def moved(grid: Grid, axis: int) -> Grid:
    """The grid with one voxel axis brought to the last place."""
    order = [*(i for i in range(3) if i != axis), axis]
    matrix = grid.matrix
    matrix[:, :3] = matrix[:, order]
    return Grid.of([grid.shape[i] for i in order], matrix)


def _binary(data: NDArray[Any], value: int) -> NDArray[np.bool_]:
    found = np.unique(data)
    other = found[found != 0]
    if len(other) <= 1 and (not len(other) or other[0] in (value, SCALED)):
        binary: NDArray[np.bool_] = data != 0
        return binary
    low, high = float(found[0]), float(found[-1])
    # Whole numbers up to 255 in many steps are a soft map that was scaled; a few are a label map.
    scaled = low >= 0 and high == SCALED and len(found) > 3
    fractional = scaled or bool((found != np.rint(found)).any())
    raise DataError(
        "a soft mask stands where a hard one is meant" if fractional else "the mask is not binary",
        where={
            "values": f"{len(found)} different ones from {low:g} to {high:g}",
            "expected": f"0 and {value} (or 0 and 255)",
        },
        remedy="binarise it at > .5 of its largest value, or name the hard label in `masks`",
    )


def _one_blob(inside: NDArray[np.bool_], annotated: NDArray[np.bool_]) -> None:
    """A centre of mass between two blobs lies in neither. Several pieces along the cord are a gap, which is fine."""
    touching = np.ones((3, 3), bool)
    several = {}
    for k in np.flatnonzero(annotated):
        _, count = ndimage.label(inside[:, :, k], touching)
        if count > 1:
            several[int(k)] = count
    if several:
        shown = ", ".join(f"{k} ({n} blobs)" for k, n in list(several.items())[:6])
        more = f" and {len(several) - 6} more" if len(several) > 6 else ""
        raise DataError(
            "the mask has several blobs on one slice",
            where={"slices": shown + more, "expected": "one connected section a slice"},
            remedy="remove stray voxels, for example all but the largest component",
        )
