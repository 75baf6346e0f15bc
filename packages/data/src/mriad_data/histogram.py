"""`data.histogram_match`: the intensity scale of Nyúl and Udupa, learned from training persons."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from mriad.errors import DataError
from mriad.interfaces import PreprocessingStep
from pydantic import Field, field_validator

from mriad_data.counted import constant_image, counted_voxels, is_constant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mriad.vocabulary import Sample
    from numpy.typing import NDArray

SCALE = 100.0
"""The standard scale runs from 0 (first landmark) to this (last one)."""


class HistogramMatch(PreprocessingStep):
    """Piecewise linear map of each channel's percentiles to those of the training persons.

    Fit: the percentiles of an image are mapped linearly so that the first is 0 and the last 100, then
    averaged, first over the images of a person, then over persons, so that each person counts once. Apply:
    the percentiles of the image go to these landmarks, what lies between them linearly, what lies beyond by
    the slope of the outermost piece. Padding becomes 0. With `over: nonzero` voxels that are 0 stay 0: the
    background of a skull-stripped image is not an intensity, and later steps know it by its 0.

    Source: L. G. Nyúl, J. K. Udupa, X. Zhang, "New variants of a method of MRI scale standardization",
    IEEE Transactions on Medical Imaging 19 (2000) 143-150, landmarks L4 (deciles), with the percentiles of
    the foreground (voxels above the mean) as published.

    Raises:
        DataError: an image is constant between its outermost percentiles, has another number of channels
            than the training images, or the step was not fitted.
    """

    type: Literal["data.histogram_match"] = "data.histogram_match"
    version: ClassVar[int] = 2  # 2: with `over: nonzero` zeros stay 0
    fitted: ClassVar[bool] = True
    percentiles: list[float] = Field(
        default_factory=lambda: [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99],
        min_length=2,
        description="Landmarks in %, ascending, each from 0 to 100.",
    )
    over: Literal["above_mean", "field", "nonzero"] = Field(
        "above_mean",
        description="Voxels whose percentiles are taken: those brighter than the mean of the acquired field of "
        "view (the foreground, as published), all of it, or those of it that are not 0.",
    )
    unit: bool = Field(
        False, description="End in [0, 1]: the scale divided by 100, values beyond held at 0 and 1."
    )

    @field_validator("percentiles")
    @classmethod
    def _ascending(cls, value: list[float]) -> list[float]:
        if any(b <= a for a, b in pairwise(value)) or value[0] < 0 or value[-1] > 100:
            raise ValueError(f"percentiles must ascend and lie in 0 to 100, not {value}")
        return value

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, Any]:
        """Return `landmarks`, a list of numbers a channel on the scale 0 to 100, and how many `persons`."""
        by_person: dict[str, list[NDArray[np.float64]]] = {}
        for sample in samples:
            rows = [self._percentiles(values, c, sample.case) for c, values in self._foreground(sample)]
            marks = np.stack(rows)
            marks = SCALE * (marks - marks[:, :1]) / (marks[:, -1:] - marks[:, :1])
            known = next(iter(by_person.values()), [marks])[0]
            if known.shape != marks.shape:
                raise DataError(
                    "training images have different numbers of channels",
                    where={"case": sample.case, "channels": len(marks), "others": len(known)},
                )
            by_person.setdefault(sample.person or sample.case, []).append(marks)
        if not by_person:
            raise DataError(
                "there is no training case to learn the intensity scale from",
                remedy="give the split a training side, or leave data.histogram_match out",
            )
        mean = np.mean([np.mean(rows, axis=0) for rows in by_person.values()], axis=0)
        return {"landmarks": mean.tolist(), "persons": len(by_person)}

    def apply(self, sample: Sample, parameters: Mapping[str, Any] | None) -> Sample:
        """Return the sample with mapped channels; labels and geometry stay."""
        if parameters is None:
            raise DataError(
                "data.histogram_match has no landmarks: it was not fitted",
                remedy="fit the chain on training cases (`fit_steps`); a trial and `mriad data prepare` do",
            )
        landmarks = np.asarray(parameters["landmarks"], np.float64)
        if len(landmarks) != len(sample.image):
            raise DataError(
                "an image has another number of channels than those that the scale was learned from",
                where={"channels": len(sample.image), "expected": len(landmarks)},
            )
        image = np.zeros(sample.image.shape, np.float32)
        for c, values in self._foreground(sample):
            marks = self._percentiles(values, c, sample.case)
            image[c] = _piecewise(sample.image[c], marks, landmarks[c])
        if self.over == "nonzero":
            image[sample.image == 0] = 0
        if self.unit:
            image = np.clip(image / np.float32(SCALE), 0, 1)
        if sample.field is not None:
            image *= sample.field.astype(bool)
        return replace(sample, image=image)

    def _foreground(self, sample: Sample) -> Iterable[tuple[int, NDArray[np.float32]]]:
        """Each channel's number and the values (N,) whose percentiles are taken."""
        counts = counted_voxels(sample, "nonzero" if self.over == "nonzero" else "field")
        for c, (channel, counted) in enumerate(zip(sample.image, counts, strict=True)):
            values = channel[counted]
            if self.over == "above_mean" and values.size:
                values = values[values > values.mean(dtype=np.float64)]
            yield c, values

    def _percentiles(self, values: NDArray[np.float32], channel: int, case: str) -> NDArray[np.float64]:
        marks = np.percentile(values, self.percentiles) if values.size else np.zeros(len(self.percentiles))
        if is_constant(float(marks[0]), float(marks[-1])):
            first, last = self.percentiles[0], self.percentiles[-1]
            between = f"between its percentiles {first:g} and {last:g}"
            raise constant_image(between, [channel], values.size, case=case, over=self.over)
        return marks.astype(np.float64)


def _piecewise(
    values: NDArray[np.float32], marks: NDArray[np.float64], landmarks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear between the marks, and on with the slope of the outermost pieces.

    Where several percentiles are one value (an image with few grey levels) it goes to the mean of their
    landmarks.
    """
    old, group = np.unique(marks, return_inverse=True)
    new = np.bincount(group, landmarks) / np.bincount(group)
    flat = values.astype(np.float64)
    out = np.interp(flat, old, new)
    slopes = np.diff(new) / np.diff(old)
    out = np.where(flat < old[0], new[0] + slopes[0] * (flat - old[0]), out)
    return np.where(flat > old[-1], new[-1] + slopes[-1] * (flat - old[-1]), out)
