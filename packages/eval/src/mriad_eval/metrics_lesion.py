"""Configs of the lesion-wise metrics; the matching rule is in `detection`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Metric, Undefined
from pydantic import Field

if TYPE_CHECKING:
    from mriad.metric import CaseMetric

    from mriad_eval.detection import Rule


class _OfLesions(Metric):
    """A metric of components. Its parameters are those of an MS application, and part of every result."""

    alpha: float = Field(0.10, ge=0, le=1, description="Share of a lesion that must be covered, at least.")
    beta: float = Field(
        0.70, ge=0, le=1, description="Share of a covering lesion that may lie outside, at most."
    )
    gamma: float = Field(
        0.65, ge=0, le=1, description="Share of the covered volume whose lesions are looked at."
    )
    larger_than_mm3: float = Field(3.0, ge=0, description="Only components strictly larger are lesions, mm³.")

    def rule(self) -> Rule:
        """The matching rule."""
        from mriad_eval.detection import Rule

        return Rule(self.alpha, self.beta, self.gamma, self.larger_than_mm3)


class _LesionShare(_OfLesions):
    best: ClassVar[float | None] = 1.0
    worst: ClassVar[float | None] = 0.0


class LesionF1(_LesionShare):
    """Harmonic mean of lesion-wise sensitivity and positive predictive value; none detected: 0."""

    if_missed: ClassVar[Undefined] = 0.0
    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.lesion_f1"] = "eval.lesion_f1"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import lesion_f1

        return partial(lesion_f1, rule=self.rule())


class LesionSensitivity(_LesionShare):
    """Share of the reference's lesions that are detected."""

    if_missed: ClassVar[Undefined] = 0.0

    type: Literal["eval.lesion_sensitivity"] = "eval.lesion_sensitivity"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import lesion_sensitivity

        return partial(lesion_sensitivity, rule=self.rule())


class LesionPredictiveValue(_LesionShare):
    """Share of the predicted lesions that are lesions of the reference; none predicted: no value, counts as 0."""

    if_false_positive: ClassVar[Undefined] = 0.0

    type: Literal["eval.lesion_ppv"] = "eval.lesion_ppv"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import lesion_predictive_value

        return partial(lesion_predictive_value, rule=self.rule())


class LesionFalsePositives(_OfLesions):
    """Predicted lesions of a case that are none of the reference.

    A count to read beside the sensitivity. Fewer are better only at an equal sensitivity, and none are found by who
    finds nothing, so it has no direction and is never ranked.
    """

    unit: ClassVar[str] = "lesions"
    direction: ClassVar[Direction] = "none"
    best: ClassVar[float | None] = 0.0
    if_missed: ClassVar[Undefined] = 0.0
    if_false_positive: ClassVar[Undefined] = "measured"

    type: Literal["eval.lesion_false_positives"] = "eval.lesion_false_positives"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import false_positives

        return partial(false_positives, rule=self.rule())


class LesionCount(_OfLesions):
    """Number of lesions: a measurement."""

    unit: ClassVar[str] = "lesions"
    direction: ClassVar[Direction] = "none"
    if_false_positive: ClassVar[Undefined] = "measured"

    type: Literal["eval.lesion_count"] = "eval.lesion_count"
    of: Literal["prediction", "reference"] = Field("prediction", description="Which of the two is counted.")

    def key(self) -> str:
        """`lesion_count` or `reference_lesion_count`."""
        return "lesion_count" if self.of == "prediction" else "reference_lesion_count"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import lesion_count

        return partial(lesion_count, rule=self.rule(), side=self.of)


class LesionLoad(_OfLesions):
    """Volume of all lesions in mm³: a measurement. Components below `larger_than_mm3` are none."""

    unit: ClassVar[str] = "mm3"
    direction: ClassVar[Direction] = "none"
    if_false_positive: ClassVar[Undefined] = "measured"

    type: Literal["eval.lesion_load"] = "eval.lesion_load"
    of: Literal["prediction", "reference"] = Field("prediction", description="Which of the two is measured.")

    def key(self) -> str:
        """`lesion_load` or `reference_lesion_load`."""
        return "lesion_load" if self.of == "prediction" else "reference_lesion_load"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.detection import lesion_load

        return partial(lesion_load, rule=self.rule(), side=self.of)
