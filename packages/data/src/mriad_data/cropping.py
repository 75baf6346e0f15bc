"""`data.crop`: a given box. `data.center_crop`: one size for all cases, by cropping and padding about the centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep
from pydantic import Field, field_validator, model_validator

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.geometry import Grid
    from mriad.vocabulary import Sample

Bound = float | Literal["edge"]


class Crop(PreprocessingStep):
    """Cut out a box, in voxels or in the world; what of it lies outside the volume is left away, never padded.

    In mm the box stands along the world's axes R, A, S, and what is kept is the smallest box of voxels around it:
    on an oblique grid some voxels outside the given box are kept, none inside is lost.

    Raises:
        DataError: no voxel lies in the box; the case, the box and the place of the volume are named.
    """

    type: Literal["data.crop"] = "data.crop"
    low: list[Bound] = Field(
        min_length=3,
        max_length=3,
        description="Where the box begins along i, j, k (voxels, from 0) or R, A, S (mm); `edge`: with the volume.",
    )
    high: list[Bound] = Field(
        min_length=3,
        max_length=3,
        description="Where it ends: the first voxel that is not kept, or mm, included; `edge`: with the volume.",
    )
    unit: Literal["voxel", "mm"] = Field(
        "voxel",
        description="voxel: of the arrays at this step. mm: nibabel's world, RAS; a voxel is kept by its centre.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        pairs = [(a, b) for a, b in zip(self.low, self.high, strict=True) if a != "edge" and b != "edge"]
        if any(not a < b for a, b in pairs):
            raise ValueError(f"low {self.low} must lie below high {self.high} along every axis")
        numbers = [n for n in (*self.low, *self.high) if n != "edge"]
        if self.unit == "voxel" and any(n < 0 or n != int(n) for n in numbers):
            raise ValueError(f"low {self.low} and high {self.high} must hold whole numbers of voxels from 0")
        return self

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the box."""
        low = np.array([-np.inf if n == "edge" else n for n in self.low])
        high = np.array([np.inf if n == "edge" else n for n in self.high])
        if self.unit == "mm":
            low, high = _voxel_box(sample.grid, low, high)
        shape = np.array(sample.grid.shape)
        start, stop = np.clip(low, 0, shape).astype(int), np.clip(high, 0, shape).astype(int)
        if (start >= stop).any():
            corners = sample.grid.corners()
            raise DataError(
                "no voxel lies in the box of data.crop",
                where={
                    "case": sample.case,
                    "box": f"{self.low} to {self.high} {self.unit}",
                    "volume": sample.grid.describe(),
                    "it spans": f"{corners.min(0).round(1).tolist()} to {corners.max(0).round(1).tolist()} mm",
                },
                remedy="correct low and high; is the unit right?",
            )
        return cut_box(sample, start.tolist(), (stop - start).tolist())


def _voxel_box(grid: Grid, low: Any, high: Any) -> tuple[Any, Any]:
    """World bounds (3,) in mm, perhaps infinite → the first and the one past the last voxel of the box around."""
    inverse = np.linalg.inv(grid.matrix)
    turn, shift = inverse[:3, :3], inverse[:3, 3]
    # An axis that does not contribute must not turn an infinite bound into NaN.
    flat = np.abs(turn) < 1e-9
    with np.errstate(invalid="ignore"):
        ends = [np.where(flat, 0, turn * bound) for bound in (low, high)]
    first = np.ceil(np.minimum(*ends).sum(1) + shift - 1e-6)
    last = np.floor(np.maximum(*ends).sum(1) + shift + 1e-6)
    return first, last + 1


class CenterCrop(PreprocessingStep):
    """Crop, and pad where the volume is smaller, about its centre to `size` voxels.

    Padding is marked: `field` is 0 there (not acquired), and so is `validity` (not annotated). Where one
    voxel is left over, a crop takes it off the end and a pad adds it to the beginning.
    """

    type: Literal["data.center_crop"] = "data.center_crop"
    size: list[int | Literal["full"]] = Field(
        min_length=3, max_length=3, description="Voxels along each axis; `full` keeps an axis as it is."
    )
    fill: float = Field(0.0, description="Image value of padding, in the units of the image at this step.")

    @field_validator("size")
    @classmethod
    def _positive(cls, value: list[int | str]) -> list[int | str]:
        if any(isinstance(n, int) and n < 1 for n in value):
            raise ValueError(f"{value} must hold positive numbers of voxels, or `full`")
        return value

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the box about the centre."""
        whole = sample.grid.shape
        shape = [n if size == "full" else int(size) for n, size in zip(whole, self.size, strict=True)]
        start = [(n - size) // 2 for n, size in zip(whole, shape, strict=True)]
        return sample if tuple(shape) == whole else cut_box(sample, start, shape, self.fill)
