"""`data.min_max` and `data.percentile`: intensities to a fixed range, [0, 1] by default."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from mriad.interfaces import PreprocessingStep
from pydantic import Field, model_validator

from mriad_data.counted import (
    OVER,
    PER_CHANNEL,
    Over,
    channel_groups,
    constant_image,
    counted_voxels,
    is_constant,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

LOW = "The new value of the darkest voxel that counts; padding and voxels that do not count get it too."
HIGH = "The new value of the brightest voxel that counts; above `low`."


class MinMax(PreprocessingStep):
    """x ← low + (high − low) · (x − min) / (max − min), over what was acquired.

    One bright voxel sets the scale: `data.percentile` is the robust form.

    Raises:
        DataError: the voxels that count are constant, or there are none; an image holds NaN.
    """

    type: Literal["data.min_max"] = "data.min_max"
    low: float = Field(0.0, description=LOW)
    high: float = Field(1.0, description=HIGH)
    over: Over = Field("field", description=OVER)
    per_channel: bool = Field(True, description=PER_CHANNEL)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"`low` ({self.low:g}) must be below `high` ({self.high:g})")
        return self

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with scaled channels; labels and geometry stay."""
        image = np.full(sample.image.shape, self.low, np.float32)
        counts = counted_voxels(sample, self.over)
        for group in channel_groups(sample, self.per_channel):
            values = sample.image[group]
            chosen = values[counts[group]]
            low, high = (float(chosen.min()), float(chosen.max())) if chosen.size else (0.0, 0.0)
            if is_constant(low, high):
                raise constant_image(
                    "between its smallest and its largest value", group, chosen.size, over=self.over
                )
            image[group] = _to_range(values, counts[group], (low, high), (self.low, self.high), clip=True)
        return replace(sample, image=image)


class Percentile(PreprocessingStep):
    """x ← low + (high − low) · (x − p_lower) / (p_upper − p_lower), over what was acquired.

    Percentiles are linear between order statistics (method 7 of Hyndman and Fan, 1996, numpy's default).

    Raises:
        DataError: the two percentiles are equal, or no voxel counts; an image holds NaN.
    """

    type: Literal["data.percentile"] = "data.percentile"
    lower: float = Field(0.5, ge=0, le=100, description="Percentile that becomes `low`, in %.")
    upper: float = Field(99.5, ge=0, le=100, description="Percentile that becomes `high`, in %.")
    low: float = Field(0.0, description=LOW)
    high: float = Field(1.0, description=HIGH)
    clip: bool = Field(True, description="Hold what lies outside the percentiles at `low` and `high`.")
    over: Over = Field("field", description=OVER)
    per_channel: bool = Field(True, description=PER_CHANNEL)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for a, b in (("lower", "upper"), ("low", "high")):
            if not getattr(self, a) < getattr(self, b):
                raise ValueError(f"`{a}` ({getattr(self, a):g}) must be below `{b}` ({getattr(self, b):g})")
        return self

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with scaled channels; labels and geometry stay."""
        image = np.full(sample.image.shape, self.low, np.float32)
        counts = counted_voxels(sample, self.over)
        for group in channel_groups(sample, self.per_channel):
            values = sample.image[group]
            chosen = values[counts[group]]
            low, high = (
                np.percentile(chosen, [self.lower, self.upper]).tolist() if chosen.size else (0.0, 0.0)
            )
            if is_constant(low, high):
                between = f"between its percentiles {self.lower:g} and {self.upper:g}"
                raise constant_image(between, group, chosen.size, over=self.over, value=f"{low:g}")
            image[group] = _to_range(values, counts[group], (low, high), (self.low, self.high), self.clip)
        return replace(sample, image=image)


def _to_range(
    values: NDArray[np.float32],
    counts: NDArray[np.bool_],
    old: tuple[float, float],
    new: tuple[float, float],
    clip: bool,
) -> NDArray[np.float64]:
    """Map `old` to `new` linearly where voxels count; the others get the new low end."""
    scaled = (values.astype(np.float64) - old[0]) * ((new[1] - new[0]) / (old[1] - old[0])) + new[0]
    return np.where(counts, np.clip(scaled, *new) if clip else scaled, new[0])
