"""`data.z_score`: intensities to mean 0 and standard deviation 1."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.interfaces import PreprocessingStep
from pydantic import Field

from mriad_data.counted import OVER, PER_CHANNEL, Over, channel_groups, constant_image, counted_voxels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample


class ZScore(PreprocessingStep):
    """x ← (x − mean) / standard deviation, over what was acquired.

    Padding (where `field` is 0) does not count and becomes 0, the mean. With `over: nonzero` only voxels
    other than 0 count and change, for skull-stripped images, whose background stays 0.

    Raises:
        DataError: the voxels that count are constant, or there are none; an image holds NaN.
    """

    type: Literal["data.z_score"] = "data.z_score"
    over: Over = Field("field", description=OVER)
    per_channel: bool = Field(True, description=PER_CHANNEL)

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with scaled channels; labels and geometry stay."""
        image = np.zeros(sample.image.shape, np.float32)
        counts = counted_voxels(sample, self.over)
        for group in channel_groups(sample, self.per_channel):
            image[group] = self._scaled(sample, group, counts[group])
        return replace(sample, image=image)

    def _scaled(self, sample: Sample, group: list[int], counts: np.ndarray) -> np.ndarray:
        values = sample.image[group].astype(np.float64)
        chosen = values[counts]
        spread = float(chosen.std()) if chosen.size else 0.0
        if not spread > 1e-6 * max(abs(float(chosen.mean())) if chosen.size else 0.0, 1e-30):
            raise constant_image(
                "where its mean and standard deviation are taken", group, chosen.size, over=self.over
            )
        return np.where(counts, (values - chosen.mean()) / spread, 0.0)
