"""`data.crop_to_foreground`: the box around what an image shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep
from pydantic import Field

from mriad_data.boxes import cut_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample


class CropToForeground(PreprocessingStep):
    """Cut to the smallest box that holds the foreground of any channel, and a margin as far as the volume goes.

    The image alone decides, never the target, so that a scan without labels is cut like those of the training set.
    Of a skull-stripped head this is the box of the brain. What a step padded is never foreground. Nothing is
    padded, so `field` stays as it is.

    Raises:
        DataError: no voxel is foreground; the case and the range of its values are named.
    """

    type: Literal["data.crop_to_foreground"] = "data.crop_to_foreground"
    above: float | None = Field(
        None,
        description="Foreground is what lies above this value, in the units of the image at this step; null: what "
        "is not exactly 0.",
    )
    margin_mm: float = Field(0.0, ge=0, description="Kept around the box, in mm; rounded up to whole voxels.")

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the box around the foreground."""
        shown = (sample.image != 0) if self.above is None else (sample.image > self.above)
        inside = shown.any(0)
        if sample.field is not None:
            inside &= sample.field[0] != 0
        start, shape = [], []
        for axis, (count, spacing) in enumerate(zip(sample.grid.shape, sample.grid.spacing, strict=True)):
            used = np.flatnonzero(inside.any(tuple(a for a in range(3) if a != axis)))
            if not used.size:
                raise self._empty(sample)
            margin = int(np.ceil(self.margin_mm / spacing - 1e-6))
            low, high = max(int(used[0]) - margin, 0), min(int(used[-1]) + 1 + margin, count)
            start.append(low)
            shape.append(high - low)
        return sample if tuple(shape) == sample.grid.shape else cut_box(sample, start, shape)

    def _empty(self, sample: Sample) -> DataError:
        where: dict[str, object] = {
            "case": sample.case,
            "foreground": "values that are not 0" if self.above is None else f"values above {self.above:g}",
            "volume": sample.grid.describe(),
        }
        if sample.image.size:
            where["values"] = f"{float(sample.image.min()):g} to {float(sample.image.max()):g}"
        else:
            where["values"] = "none: the case has no image"
        return DataError(
            "a volume has no foreground to crop to",
            where=where,
            remedy="choose another `above`, or put the step before the one that changes the values",
        )
