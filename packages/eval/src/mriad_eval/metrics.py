"""Configs of the metrics: name, unit, direction, worst value. The numbers are in `overlap` and `surface`.

Conventions, one for all: masks are values > .5 (a tie is background), invalid voxels are not looked at,
distances are in mm through the grid's spacing. A metric returns its value and a note:

| situation                          | note             | Dice | distance | volume error |
|------------------------------------|------------------|------|----------|--------------|
| both empty                         | "empty"          | NaN  | NaN      | NaN          |
| reference empty, prediction not    | "false positive" | 0    | NaN      | NaN          |
| prediction empty, reference not    | "miss"           | 0    | NaN      | −100 %       |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.interfaces import Direction, Metric
from pydantic import Field

if TYPE_CHECKING:
    from mriad.interfaces import CaseMetric


class Dice(Metric):
    """Overlap of the binarised masks, 2·#(P∩G) / (#P + #G); 0 to 1, a miss counts as 0."""

    worst: ClassVar[float | None] = 0.0

    type: Literal["eval.dice"] = "eval.dice"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import dice

        return dice


class SoftDice(Metric):
    """Overlap of uncut soft values; 0 to 1, a miss counts as 0.

    linear: 2Σpg / (Σp + Σg), below 1 even for p = g where values lie strictly between 0 and 1.
    squared: 2Σpg / (Σp² + Σg²), exactly 1 for p = g (V-Net, Milletari et al., 3DV 2016, section 3).
    """

    worst: ClassVar[float | None] = 0.0

    type: Literal["eval.soft_dice"] = "eval.soft_dice"
    form: Literal["linear", "squared"] = Field("linear", description="Denominator: sums, or sums of squares.")

    def key(self) -> str:
        """`soft_dice` or `soft_dice_squared`: the two forms differ in number and never share a column."""
        return "soft_dice" if self.form == "linear" else "soft_dice_squared"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import soft_dice_linear, soft_dice_squared

        return soft_dice_linear if self.form == "linear" else soft_dice_squared


class AverageSurfaceDistance(Metric):
    """Directed average surface distance in mm: mean distance from one boundary to the other."""

    unit: ClassVar[str] = "mm"
    direction: ClassVar[Direction] = "lower"

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


class AverageSymmetricSurfaceDistance(Metric):
    """Average symmetric surface distance in mm.

    pooled (ASSD): (ΣA + ΣB) / (#A + #B) over the directed distances A and B of all boundary voxels.
    mean_of_two (MASD): (mean A + mean B) / 2, as MedPy and the crossMoDA challenge.
    """

    unit: ClassVar[str] = "mm"
    direction: ClassVar[Direction] = "lower"

    type: Literal["eval.assd"] = "eval.assd"
    form: Literal["pooled", "mean_of_two"] = Field("pooled", description="How the two directions are joined.")

    def key(self) -> str:
        """`assd` pooled, `masd` as the mean of two."""
        return "assd" if self.form == "pooled" else "masd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.surface import assd_mean_of_two, assd_pooled

        return assd_pooled if self.form == "pooled" else assd_mean_of_two


class RelativeVolumeError(Metric):
    """Signed relative volume error 100·(V_P − V_G)/V_G in %; best at 0, a miss is −100."""

    unit: ClassVar[str] = "%"
    direction: ClassVar[Direction] = "toward"
    toward: ClassVar[float | None] = 0.0
    worst: ClassVar[float | None] = -100.0

    type: Literal["eval.rve"] = "eval.rve"
    volume: Literal["binary", "soft"] = Field(
        "binary",
        description="Volume of the mask > .5, or the sum of uncut soft values times the voxel volume.",
    )

    def key(self) -> str:
        """`rve` or `soft_rve`."""
        return "rve" if self.volume == "binary" else "soft_rve"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.overlap import rve_binary, rve_soft

        return rve_binary if self.volume == "binary" else rve_soft
