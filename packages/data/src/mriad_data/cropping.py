"""`data.center_crop`: one size for all cases, by cropping and padding about the centre."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mriad.interfaces import PreprocessingStep
from pydantic import Field, field_validator

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample


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
