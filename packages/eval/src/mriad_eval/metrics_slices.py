"""Any case metric in every slice: one row a slice, as the multi-domain paper reports overlap and distances in 2D."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from mriad.metric import Direction, Level, Metric, Undefined
from pydantic import Field, field_validator

from mriad_eval.metrics import Dice

if TYPE_CHECKING:
    from mriad.metric import CaseMetric, SliceMetric


class Slices(Metric):
    """Another metric, measured in each slice where prediction or reference has something; one row a slice.

    For repeating what a paper reports. Slices of one person are no independent cases: compare methods by persons.
    """

    level: ClassVar[Level] = "slice"

    type: Literal["eval.slices"] = "eval.slices"
    metric: Metric = Field(default=Dice(), description="What is measured in every slice.")
    across: Literal["through_plane", 0, 1, 2] = Field(
        "through_plane",
        description="Axis across the slices; through_plane: that of the largest spacing, of equals the last.",
    )

    @field_validator("metric")
    @classmethod
    def _of_a_case(cls, metric: Metric) -> Metric:
        if metric.level != "case":
            raise ValueError(f"'{metric.key()}' is of level {metric.level}; slices take a metric of a case")
        return metric

    @property
    def unit(self) -> str:  # type: ignore[override]
        """That of the metric."""
        return self.metric.unit

    @property
    def direction(self) -> Direction:  # type: ignore[override]
        """That of the metric."""
        return self.metric.direction

    @property
    def toward(self) -> float | None:  # type: ignore[override]
        """That of the metric."""
        return self.metric.toward

    @property
    def best(self) -> float | None:  # type: ignore[override]
        """That of the metric."""
        return self.metric.best

    @property
    def worst(self) -> float | None:  # type: ignore[override]
        """That of the metric; for distances the diagonal of the volume, more than any slice can have."""
        return self.metric.worst

    @property
    def if_missed(self) -> Undefined:  # type: ignore[override]
        """That of the metric."""
        return self.metric.if_missed

    @property
    def if_false_positive(self) -> Undefined:  # type: ignore[override]
        """That of the metric."""
        return self.metric.if_false_positive

    def key(self) -> str:
        """`dice_2d`."""
        return f"{self.metric.key()}_2d"

    def build(self) -> SliceMetric:
        """Return the function."""
        from mriad_eval.slices import in_slices

        measure = cast("CaseMetric", self.metric.build())
        return lambda pair: in_slices(pair, measure, None if self.across == "through_plane" else self.across)
