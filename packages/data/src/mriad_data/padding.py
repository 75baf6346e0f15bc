"""`data.pad`: voxels around a volume, marked as not acquired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mriad.interfaces import PreprocessingStep
from pydantic import Field, field_validator

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample


class Pad(PreprocessingStep):
    """Add voxels at both ends of each axis; nothing is cut away.

    Padding is marked: `field` is 0 there (not acquired), and so is `validity` (not annotated). What `multiple` asks
    for beyond `margin` is shared by both ends; an odd voxel is added to the beginning.
    """

    type: Literal["data.pad"] = "data.pad"
    margin: list[int] = Field(
        default=[0, 0, 0], min_length=3, max_length=3, description="Voxels added at either end of i, j, k."
    )
    multiple: list[int] = Field(
        default=[1, 1, 1],
        min_length=3,
        max_length=3,
        description="After the margin, each size is rounded up to a multiple of this many voxels.",
    )
    fill: float = Field(0.0, description="Image value of padding, in the units of the image at this step.")

    @field_validator("margin")
    @classmethod
    def _not_negative(cls, value: list[int]) -> list[int]:
        if min(value) < 0:
            raise ValueError(f"{value} must hold numbers of voxels from 0; data.crop takes voxels away")
        return value

    @field_validator("multiple")
    @classmethod
    def _positive(cls, value: list[int]) -> list[int]:
        if min(value) < 1:
            raise ValueError(f"{value} must hold positive numbers of voxels")
        return value

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with its padding."""
        whole = sample.grid.shape
        wide = [n + 2 * m for n, m in zip(whole, self.margin, strict=True)]
        shape = [-(-n // k) * k for n, k in zip(wide, self.multiple, strict=True)]
        start = [(n - size) // 2 for n, size in zip(whole, shape, strict=True)]
        return sample if tuple(shape) == whole else cut_box(sample, start, shape, self.fill)
