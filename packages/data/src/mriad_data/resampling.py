"""`data.resample`: voxels of another size, about the same centre."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.interfaces import PreprocessingStep
from mriad.memory import memory_bytes, readable_bytes
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample

SAME_SPACING = 1e-4
"""Relative difference of spacing below which an axis is left as it is."""
FINEST_MM = 0.001
SCRATCH_BYTES = 12
"""Per new voxel, for arrays that live while one channel is made."""

Spacing = list[float | Literal["keep"] | None]


class Resample(PreprocessingStep):
    """Resample to a voxel size. Axes keep their directions, the volume keeps its centre, sizes are exact.

    image: a spline of `image_order`, equal to scipy's `affine_transform(..., mode="nearest")` (after scipy's
    `gaussian_filter` where an axis gets coarser, see `antialias`) to 1e-5 of the range. Labels: along an axis that
    gets finer linear weights, along one that gets coarser the mean over the new voxel's thickness, by covered
    length. Soft label: those values; they stay in [0, 1], the sum over structures is kept, and so is the volume of
    each structure away from the border. Hard label: the structure that weighs most (ties: background, then
    label-set order), which makes no new value; never as an image. validity and field: nearest. Values that are not
    annotated do not flow into annotated ones: weights are taken over annotated voxels.

    Raises:
        DataError: the new volume needs more memory than the machine has.
    """

    type: Literal["data.resample"] = "data.resample"
    version: ClassVar[int] = 2  # 2: soft labels keep their volume; averages where an axis gets coarser
    spacing_mm: Spacing = Field(
        min_length=3,
        max_length=3,
        description="Voxel size along i, j, k in mm; `keep` or null leaves an axis as it is.",
    )
    image_order: Literal[0, 1, 2, 3] = Field(3, description="Order of the spline for images; 0 is nearest.")
    label_order: Literal[0, 1] = Field(1, description="1: linear, as described above; 0: nearest.")
    through_image_order: Literal[0, 1, 2, 3] | None = Field(
        None,
        description="Order for images along the slices of an anisotropic scan (see `anisotropy`), for example 0, "
        "as nnU-Net does, because a spline rings across slices far apart; null: `image_order`.",
    )
    through_label_order: Literal[0, 1] | None = Field(
        None, description="The same for labels; null: `label_order`."
    )
    anisotropy: float = Field(
        3.0,
        ge=1,
        description="A scan is anisotropic if its largest voxel size is more than this many times its smallest; "
        "if the scan is not, the wanted voxel size is asked. The axis of the largest is the one across slices; "
        "where two axes share it there is none.",
    )
    antialias: bool = Field(
        True,
        description="Before an axis gets r times coarser (r > 1), smooth images along it with a "
        "Gaussian of σ = (r − 1)/2 old voxels, as scikit-image does; order 0 is never smoothed.",
    )
    slice_profile: bool = Field(
        False,
        description="Where an axis gets coarser, images are the mean over the thickness of each new voxel, by "
        "covered length, as a rectangular slice profile of that thickness sees the old slices; in place of "
        "`antialias` and the spline. Order 0 is never averaged.",
    )

    @field_validator("spacing_mm")
    @classmethod
    def _positive(cls, value: Spacing) -> Spacing:
        if any(isinstance(n, float) and not FINEST_MM <= n < float("inf") for n in value):
            raise ValueError(f"{value} must hold positive numbers of mm ({FINEST_MM} at least), or `keep`")
        return ["keep" if n is None else n for n in value]  # one spelling, one identity

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample on the new grid."""
        from mriad_data import interpolation

        grid = grid_at(sample.grid, self.spacing_mm)
        if grid == sample.grid:
            return sample
        require_memory(sample, grid)
        lattice = interpolation.Lattice.between(sample.grid, grid)
        slices = across_slices(sample.grid, grid, self.anisotropy)
        orders = _orders(self.image_order, self.through_image_order, slices)
        image = np.empty((len(sample.image), *grid.shape), np.float32)
        for out, channel in zip(image, sample.image, strict=True):
            lattice.image(channel, orders, self.antialias, self.slice_profile, out)
        target = None
        if sample.target is not None:
            valid = None if sample.validity is None else sample.validity[0] != 0
            orders = _orders(self.label_order, self.through_label_order, slices)
            if not any(orders):
                target = np.stack([lattice.nearest(c) for c in sample.target])
            elif np.issubdtype(sample.target.dtype, np.integer):
                target = lattice.hard(sample.target[0], valid, orders)[None]
            else:
                target = lattice.soft(sample.target, valid, orders)
        return replace(
            sample,
            image=image,
            grid=grid,
            target=target,
            validity=None if sample.validity is None else lattice.nearest(sample.validity[0])[None],
            field=None if sample.field is None else lattice.nearest(sample.field[0])[None],
        )


def grid_at(grid: Grid, spacing_mm: Spacing) -> Grid:
    """The grid of `spacing_mm` with the same directions and centre, whose extent is nearest to the old one.

    New voxel centres lie inside the old field of view, so resampling makes up no surroundings.
    """
    old = np.array(grid.spacing)
    wanted = zip(old, spacing_mm, strict=True)
    new = np.array([o if s is None or s == "keep" else s for o, s in wanted], dtype=np.float64)
    new = np.where(np.abs(new / old - 1) < SAME_SPACING, old, new)
    if (new == old).all():
        return grid
    count = np.array(grid.shape)
    rounded = np.maximum(np.floor(count * old / new + 0.5), 1)
    shape = [int(n) for n in np.where(new == old, count, rounded)]
    matrix = grid.matrix
    centre = grid.world((count - 1) / 2)
    matrix[:3, :3] *= new / old
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid.of(shape, matrix)


def across_slices(old: Grid, new: Grid, anisotropy: float) -> int | None:
    """The axis across the slices of an anisotropic scan, or None; the rule of nnU-Net 2."""
    for grid in (old, new):
        spacing = np.array(grid.spacing)
        if spacing.max() > anisotropy * spacing.min():
            largest = np.flatnonzero(np.isclose(spacing, spacing.max(), rtol=1e-3))
            return int(largest[0]) if len(largest) == 1 else None
    return None


def _orders(order: int, across: int | None, slices: int | None) -> list[int]:
    """The order along each axis."""
    return [across if axis == slices and across is not None else order for axis in range(3)]


def require_memory(sample: Sample, grid: Grid) -> None:
    """Refuse a grid whose arrays do not fit into this machine, before anything is allocated.

    Raises:
        DataError: with both grids, the bytes that the new one needs and those that there are.
    """
    arrays = [sample.image, sample.target, sample.validity, sample.field]
    each = sum(len(a) * max(a.dtype.itemsize, 1) for a in arrays if a is not None) + SCRATCH_BYTES
    needed, there = math.prod(grid.shape) * each, memory_bytes()
    if there is not None and needed > there:
        raise DataError(
            "resampling needs more memory than this machine has",
            where={
                "case": sample.case,
                "from": sample.grid.describe(),
                "to": grid.describe(),
                "needed": readable_bytes(needed),
                "memory": readable_bytes(there),
            },
            remedy="a larger spacing_mm in data.resample; look at the voxel size of the file, too",
        )
