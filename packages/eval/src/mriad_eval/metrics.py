"""Configs of the overlap, volume and surface metrics: name, unit, direction, worst value, behaviour on empty masks.

The numbers are in `overlap` and `surface`. Conventions, one for all: masks are values > .5 (a tie is background),
invalid voxels are not looked at, distances are in mm through the grid's spacing. Notes name the situation:

| situation                          | note             | Dice | distance | volume error |
|------------------------------------|------------------|------|----------|--------------|
| both empty                         | "empty"          | NaN  | NaN      | NaN          |
| reference empty, prediction not    | "false positive" | 0    | NaN      | NaN          |
| prediction empty, reference not    | "miss"           | 0    | NaN      | −100 %       |

`evaluate.empty` and `evaluate.both_empty` say what is written down in place of NaN.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Metric, Undefined
from pydantic import Field

if TYPE_CHECKING:
    from mriad.metric import CaseMetric


class _Fraction(Metric):
    """Between 0 and 1, 1 is best; what fails counts as 0."""

    best: ClassVar[float | None] = 1.0
    worst: ClassVar[float | None] = 0.0


class Dice(_Fraction):
    """Overlap of the binarised masks, 2·#(P∩G) / (#P + #G); 0 to 1, a miss counts as 0."""

    if_missed: ClassVar[Undefined] = 0.0
    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.dice"] = "eval.dice"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import dice

        return dice


class SoftDice(_Fraction):
    """Overlap of uncut soft values; 0 to 1, a miss counts as 0.

    linear: 2Σpg / (Σp + Σg), below 1 even for p = g where values lie strictly between 0 and 1.
    squared: 2Σpg / (Σp² + Σg²), exactly 1 for p = g (V-Net, Milletari et al., 3DV 2016, section 3).
    """

    if_missed: ClassVar[Undefined] = 0.0
    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.soft_dice"] = "eval.soft_dice"
    form: Literal["linear", "squared"] = Field("linear", description="Denominator: sums, or sums of squares.")

    def key(self) -> str:
        """`soft_dice` or `soft_dice_squared`: the two forms differ in number and never share a column."""
        return "soft_dice" if self.form == "linear" else "soft_dice_squared"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import soft_dice_linear, soft_dice_squared

        return soft_dice_linear if self.form == "linear" else soft_dice_squared


class Sensitivity(_Fraction):
    """Share of the reference's voxels that were found, TP / (TP + FN); a miss is 0, no reference: no value."""

    if_missed: ClassVar[Undefined] = 0.0

    type: Literal["eval.sensitivity"] = "eval.sensitivity"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import sensitivity

        return sensitivity


class Precision(_Fraction):
    """Share of the predicted voxels that are right, TP / (TP + FP); nothing predicted: no value, counts as 0."""

    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.precision"] = "eval.precision"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import precision

        return precision


class Specificity(_Fraction):
    """Share of the background that was left alone, TN / (TN + FP); it depends on the field of view.

    A prediction that finds nothing would have 1; it has no value here and counts as 0.
    """

    if_false_positive: ClassVar[Undefined] = "measured"

    type: Literal["eval.specificity"] = "eval.specificity"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import specificity

        return specificity


class _VolumeError(Metric):
    """In % of the reference's volume, best at 0."""

    unit: ClassVar[str] = "%"
    direction: ClassVar[Direction] = "toward"
    toward: ClassVar[float | None] = 0.0
    best: ClassVar[float | None] = 0.0

    volume: Literal["binary", "soft"] = Field(
        "binary",
        description="Volume of the mask > .5, or the sum of uncut soft values times the voxel volume.",
    )


class RelativeVolumeError(_VolumeError):
    """Signed relative volume error 100·(V_P − V_G)/V_G in %; best at 0, a miss is −100."""

    worst: ClassVar[float | None] = -100.0
    if_missed: ClassVar[Undefined] = -100.0

    type: Literal["eval.rve"] = "eval.rve"

    def key(self) -> str:
        """`rve` or `soft_rve`."""
        return "rve" if self.volume == "binary" else "soft_rve"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import rve_binary, rve_soft

        return rve_binary if self.volume == "binary" else rve_soft


class AbsoluteVolumeError(_VolumeError):
    """Relative absolute volume difference 100·|V_P − V_G|/V_G in %; best at 0, a miss is 100."""

    worst: ClassVar[float | None] = 100.0
    if_missed: ClassVar[Undefined] = 100.0

    type: Literal["eval.ravd"] = "eval.ravd"

    def key(self) -> str:
        """`ravd` or `soft_ravd`."""
        return "ravd" if self.volume == "binary" else "soft_ravd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import ravd_binary, ravd_soft

        return ravd_binary if self.volume == "binary" else ravd_soft


class Volume(Metric):
    """Volume of the mask > .5 in mm³: a measurement, neither good nor bad; 0 where nothing is found."""

    unit: ClassVar[str] = "mm3"
    direction: ClassVar[Direction] = "none"
    if_missed: ClassVar[Undefined] = 0.0

    type: Literal["eval.volume"] = "eval.volume"
    of: Literal["prediction", "reference"] = Field("prediction", description="Which of the two is measured.")

    def key(self) -> str:
        """`volume` or `reference_volume`."""
        return "volume" if self.of == "prediction" else "reference_volume"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import volume_of_prediction, volume_of_reference

        return volume_of_prediction if self.of == "prediction" else volume_of_reference


class SoftVolume(Metric):
    """Sum of uncut soft values times the voxel volume, v·Σp, in mm³: a measurement, neither good nor bad."""

    unit: ClassVar[str] = "mm3"
    direction: ClassVar[Direction] = "none"

    type: Literal["eval.soft_volume"] = "eval.soft_volume"
    of: Literal["prediction", "reference"] = Field("prediction", description="Which of the two is measured.")

    def key(self) -> str:
        """`soft_volume` or `reference_soft_volume`."""
        return "soft_volume" if self.of == "prediction" else "reference_soft_volume"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import soft_volume_of_prediction, soft_volume_of_reference

        return soft_volume_of_prediction if self.of == "prediction" else soft_volume_of_reference


class _Distance(Metric):
    """In mm, 0 is best; one mask empty: no value, counts as the image diagonal."""

    unit: ClassVar[str] = "mm"
    direction: ClassVar[Direction] = "lower"
    best: ClassVar[float | None] = 0.0


class AverageSurfaceDistance(_Distance):
    """Directed average surface distance in mm: mean distance from one boundary to the other."""

    type: Literal["eval.asd"] = "eval.asd"
    start: Literal["prediction", "reference"] = Field(
        "prediction", description="Boundary whose voxels are averaged; the distance is to the other one."
    )

    def key(self) -> str:
        """`asd` from the prediction, `asd_from_reference` the other way."""
        return "asd" if self.start == "prediction" else "asd_from_reference"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import asd_from_prediction, asd_from_reference

        return asd_from_prediction if self.start == "prediction" else asd_from_reference


class AverageSymmetricSurfaceDistance(_Distance):
    """Average symmetric surface distance in mm.

    pooled (ASSD): (ΣA + ΣB) / (#A + #B) over the directed distances A and B of all boundary voxels.
    mean_of_two (MASD): (mean A + mean B) / 2, as MedPy and the crossMoDA challenge.
    """

    type: Literal["eval.assd"] = "eval.assd"
    form: Literal["pooled", "mean_of_two"] = Field("pooled", description="How the two directions are joined.")

    def key(self) -> str:
        """`assd` pooled, `masd` as the mean of two."""
        return "assd" if self.form == "pooled" else "masd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import assd_mean_of_two, assd_pooled

        return assd_pooled if self.form == "pooled" else assd_mean_of_two


class HausdorffDistance(_Distance):
    """Hausdorff distance in mm, max(max A, max B)."""

    type: Literal["eval.hd"] = "eval.hd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import hausdorff

        return hausdorff


class MaximumSymmetricSurfaceDistance(_Distance):
    """Maximum symmetric surface distance in mm: the Hausdorff distance under the multi-domain paper's name."""

    type: Literal["eval.mssd"] = "eval.mssd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import hausdorff

        return hausdorff


class HausdorffPercentile(_Distance):
    """A percentile of the surface distances in mm, linear between ranks.

    max_of_two: max(q(A), q(B)). pooled: q(A ∪ B), as MedPy.
    """

    type: Literal["eval.hd95"] = "eval.hd95"
    percentile: float = Field(95.0, gt=0, le=100, description="Which percentile.")
    form: Literal["max_of_two", "pooled"] = Field(
        "max_of_two", description="How the two directions are joined."
    )

    def key(self) -> str:
        """`hd95`, `hd95_pooled`; another percentile in place of 95."""
        return f"hd{self.percentile:g}{'_pooled' if self.form == 'pooled' else ''}"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import percentile_max_of_two, percentile_pooled

        measure = percentile_max_of_two if self.form == "max_of_two" else percentile_pooled
        return partial(measure, percentile=self.percentile)


class SurfaceDice(_Fraction):
    """Normalised surface Dice: share of both boundaries that lies within a tolerance of the other, 0 to 1.

    (#{A ≤ τ} + #{B ≤ τ}) / (#A + #B) over boundary voxels. Nikolov et al. (J Med Internet Res 2021) weight surface
    elements by their area instead; see docs/reference/metrics.md for the difference.
    """

    if_missed: ClassVar[Undefined] = 0.0
    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.nsd"] = "eval.nsd"
    tolerance_mm: float = Field(1.0, ge=0, description="What lies this near, in mm, counts as right.")

    def key(self) -> str:
        """`nsd_1mm`: the tolerance is part of the name."""
        return f"nsd_{self.tolerance_mm:g}mm"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import surface_dice

        return partial(surface_dice, tolerance=self.tolerance_mm)
