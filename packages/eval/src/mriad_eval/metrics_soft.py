"""Configs of the calibration metrics; the bins are in `calibration`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Level, Metric
from pydantic import Field

if TYPE_CHECKING:
    from mriad.metric import CaseMetric, SliceMetric


class _Calibration(Metric):
    """Of uncut soft values near the reference's boundary."""

    takes: ClassVar[tuple[str, ...]] = ("soft",)

    bins: int = Field(10, ge=2, le=100, description="Bins of equal width between 0 and 1.")
    within_mm: float = Field(3.0, gt=0, description="Voxels this near to the reference's boundary, mm.")


class CalibrationError(_Calibration):
    """Mean size of mean p − mean g over bins of the prediction, weighted by voxels; 0 to 1.

    Voxels within `within_mm` of the reference's boundary. A miss counts as 1.
    """

    direction: ClassVar[Direction] = "lower"
    best: ClassVar[float | None] = 0.0
    worst: ClassVar[float | None] = 1.0

    type: Literal["eval.calibration_error"] = "eval.calibration_error"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.calibration import calibration_error

        return partial(calibration_error, bins=self.bins, within_mm=self.within_mm)


class CalibrationCurve(_Calibration):
    """The calibration curve, one row a bin (`part`): the mean target, mean prediction or number of voxels in it."""

    level: ClassVar[Level] = "slice"
    direction: ClassVar[Direction] = "none"

    type: Literal["eval.calibration_curve"] = "eval.calibration_curve"
    quantity: Literal["target", "predicted", "voxels"] = Field(
        "target", description="What stands in the rows."
    )

    def key(self) -> str:
        """`calibration_target`, `calibration_predicted` or `calibration_voxels`."""
        return f"calibration_{self.quantity}"

    def build(self) -> SliceMetric:
        """Return the function."""
        from mriad_eval.calibration import calibration_curve

        return partial(calibration_curve, bins=self.bins, within_mm=self.within_mm, quantity=self.quantity)
