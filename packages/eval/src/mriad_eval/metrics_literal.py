"""Configs of metrics that repeat a published program as it is; see `literal`. None may enter a verdict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Metric, Undefined
from pydantic import Field

if TYPE_CHECKING:
    from mriad.metric import CaseMetric


class _LiteralDistance(Metric):
    literal: ClassVar[bool] = True
    unit: ClassVar[str] = "voxel"
    direction: ClassVar[Direction] = "lower"
    if_missed: ClassVar[Undefined] = None


class AnimaLiteralASD(_LiteralDistance):
    """The spinal cord paper's ASD: Anima's routine with its running minimum, in voxels. Not a distance."""

    type: Literal["eval.anima_literal_asd"] = "eval.anima_literal_asd"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.literal import anima_asd

        return anima_asd


class SynthSegLiteralSurface(_LiteralDistance):
    """SynthSeg's surface distances in voxels; empty masks give the largest size of the image."""

    type: Literal["eval.synthseg_literal_surface"] = "eval.synthseg_literal_surface"
    quantity: Literal["assd", "hd", "hd95"] = Field(
        "assd", description="Mean of two, maximum, or pooled 95 %."
    )

    def key(self) -> str:
        """`synthseg_literal_assd`, `…_hd`, `…_hd95`."""
        return f"synthseg_literal_{self.quantity}"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.literal import synthseg_surface

        return partial(synthseg_surface, quantity=self.quantity)


class SynthSegLiteralDice(Metric):
    """SynthSeg's Dice: 1e-5 in the denominator only, so two empty masks give 0."""

    literal: ClassVar[bool] = True
    worst: ClassVar[float | None] = 0.0

    type: Literal["eval.synthseg_literal_dice"] = "eval.synthseg_literal_dice"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.literal import synthseg_dice

        return synthseg_dice


class Ssl4misLiteralHd95(_LiteralDistance):
    """SSL4MIS's HD95: pooled, in voxels, and 0 wherever a mask is empty."""

    type: Literal["eval.ssl4mis_literal_hd95"] = "eval.ssl4mis_literal_hd95"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.literal import ssl4mis_hd95

        return ssl4mis_hd95
