"""`data.resample`: voxels of another size, about the same centre."""

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

SAME_SPACING = 1e-4
"""Relative difference of spacing below which an axis is left as it is."""


class Resample(PreprocessingStep):
    """Resample to a voxel size. Axes keep their directions, the volume keeps its centre, sizes are exact.

    image: a spline of `image_order`. Soft label: linear, so values stay in [0, 1] and the sum over
    structures is kept. Hard label: each structure's mask linearly, then the largest (ties: background,
    then label-set order), which moves no border by more than half a voxel and makes no new value; never
    as an image. validity and field: nearest. Values that are not annotated do not flow into annotated
    ones: weights are taken over annotated voxels.
    """

    type: Literal["data.resample"] = "data.resample"
    spacing_mm: list[float | Literal["keep"]] = Field(
        min_length=3,
        max_length=3,
        description="Voxel size along i, j, k in mm; `keep` leaves an axis as it is.",
    )
    image_order: Literal[0, 1, 2, 3] = Field(3, description="Order of the spline for images; 0 is nearest.")
    label_order: Literal[0, 1] = Field(1, description="1: linear, as described above; 0: nearest.")
    antialias: bool = Field(
        True,
        description="Before an axis gets r times coarser (r > 1), smooth images and labels along it with a "
        "Gaussian of σ = (r − 1)/2 old voxels, as scikit-image does; order 0 is never smoothed.",
    )

    @field_validator("spacing_mm")
    @classmethod
    def _positive(cls, value: list[float | str]) -> list[float | str]:
        if any(isinstance(n, float) and not 0 < n < float("inf") for n in value):
            raise ValueError(f"{value} must hold positive numbers of mm, or `keep`")
        return value

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample on the new grid."""
        from mriad_data import interpolation

        grid = grid_at(sample.grid, self.spacing_mm)
        if grid == sample.grid:
            return sample
        lattice = interpolation.Lattice.between(sample.grid, grid, self.antialias)
        image = np.empty((len(sample.image), *grid.shape), np.float32)
        for out, channel in zip(image, sample.image, strict=True):
            out[...] = lattice.image(channel, self.image_order)
        target = None
        if sample.target is not None:
            valid = None if sample.validity is None else sample.validity[0] != 0
            if self.label_order == 0:
                target = np.stack([lattice.nearest(c) for c in sample.target])
            elif np.issubdtype(sample.target.dtype, np.integer):
                target = lattice.hard(sample.target[0], valid)[None]
            else:
                target = lattice.soft(sample.target, valid)
        return replace(
            sample,
            image=image,
            grid=grid,
            target=target,
            validity=None if sample.validity is None else lattice.nearest(sample.validity[0])[None],
            field=None if sample.field is None else lattice.nearest(sample.field[0])[None],
        )


def grid_at(grid: Grid, spacing_mm: list[float | Literal["keep"]]) -> Grid:
    """The grid of `spacing_mm` with the same directions and centre, whose extent is nearest to the old one.

    New voxel centres lie inside the old field of view, so resampling makes up no surroundings.
    """
    old = np.array(grid.spacing)
    new = np.array([o if s == "keep" else s for o, s in zip(old, spacing_mm, strict=True)], dtype=np.float64)
    new = np.where(np.abs(new / old - 1) < SAME_SPACING, old, new)
    if (new == old).all():
        return grid
    count = np.array(grid.shape)
    shape = np.where(new == old, count, np.maximum(np.floor(count * old / new + 0.5), 1)).astype(int)
    matrix = grid.matrix
    centre = grid.world((count - 1) / 2)
    matrix[:3, :3] *= new / old
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((shape - 1) / 2)
    return Grid.of([int(n) for n in shape], matrix)
