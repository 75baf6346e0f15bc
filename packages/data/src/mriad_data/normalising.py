"""`data.z_score`: intensities to mean 0 and standard deviation 1."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Sample


class ZScore(PreprocessingStep):
    """x ← (x − mean) / standard deviation, over what was acquired.

    Padding (where `field` is 0) does not count and becomes 0, the mean. With `over: nonzero` only voxels
    other than 0 count and change, for skull-stripped images, whose background stays 0.

    Raises:
        DataError: the voxels that count are constant, or there are none.
    """

    type: Literal["data.z_score"] = "data.z_score"
    over: Literal["field", "nonzero"] = Field(
        "field", description="Voxels that count: the acquired field of view, or those of it that are not 0."
    )
    per_channel: bool = Field(
        True,
        description="Each channel by itself; false: one mean and deviation, which keeps channels comparable.",
    )

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with scaled channels; labels and geometry stay."""
        image = np.zeros(sample.image.shape, np.float32)
        counts = np.ones(sample.image.shape, bool)
        if sample.field is not None:
            counts &= sample.field.astype(bool)
        if self.over == "nonzero":
            counts &= sample.image != 0
        channels = range(len(image))
        for group in [[c] for c in channels] if self.per_channel else [list(channels)]:
            if group:
                image[group] = self._scaled(sample, group, counts[group])
        return replace(sample, image=image)

    def _scaled(self, sample: Sample, group: list[int], counts: np.ndarray) -> np.ndarray:
        values = sample.image[group].astype(np.float64)
        chosen = values[counts]
        spread = float(chosen.std()) if chosen.size else 0.0
        if not spread > 1e-6 * max(abs(float(chosen.mean())) if chosen.size else 0.0, 1e-30):
            raise DataError(
                "an image is constant where its mean and standard deviation are taken",
                where={"channel": ", ".join(map(str, group)), "voxels": chosen.size, "over": self.over},
                remedy="look at the file and at the crop before this step",
            )
        return np.where(counts, (values - chosen.mean()) / spread, 0.0)
