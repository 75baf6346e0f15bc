"""Configs of the metrics of a person: how much a volume depends on the contrast it was segmented in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Level, Metric
from pydantic import Field

if TYPE_CHECKING:
    from mriad.metric import PersonMetric


class _VolumeOverContrasts(Metric):
    """One value a person and structure. A person with a miss has none."""

    level: ClassVar[Level] = "person"

    volume: Literal["binary", "soft"] = Field(
        "binary", description="Volume of the mask > .5, or the soft sum."
    )

    def constant_wins(self) -> tuple[str, str]:
        """Volume and its relative error."""
        return ("volume", "rve") if self.volume == "binary" else ("soft_volume", "soft_rve")

    def needs(self) -> tuple[str, ...]:
        """The volume of every case."""
        return ("volume",) if self.volume == "binary" else ("soft_volume",)


class VolumeSpread(_VolumeOverContrasts):
    """Sample SD (n − 1) of a structure's volume over a person's contrasts, in mm³.

    It grows with the structure, so it has no direction: compare methods by `volume_cv`, and never without the volume
    error, since a constant has no spread.
    """

    unit: ClassVar[str] = "mm3"
    direction: ClassVar[Direction] = "none"

    type: Literal["eval.volume_sd"] = "eval.volume_sd"

    def key(self) -> str:
        """`volume_sd` or `soft_volume_sd`."""
        return "volume_sd" if self.volume == "binary" else "soft_volume_sd"

    def build(self) -> PersonMetric:
        """Return the function."""
        from mriad_eval.person_metrics import standard_deviation

        return standard_deviation


class VolumeVariation(_VolumeOverContrasts):
    """Coefficient of variation of a structure's volume over a person's contrasts, 100·SD/mean in %.

    A person with a miss counts as 245 %, the most that six contrasts can have (√6). A constant has 0: read it beside
    the volume error.
    """

    unit: ClassVar[str] = "%"
    direction: ClassVar[Direction] = "lower"
    worst: ClassVar[float | None] = 245.0

    type: Literal["eval.volume_cv"] = "eval.volume_cv"

    def key(self) -> str:
        """`volume_cv` or `soft_volume_cv`."""
        return "volume_cv" if self.volume == "binary" else "soft_volume_cv"

    def build(self) -> PersonMetric:
        """Return the function."""
        from mriad_eval.person_metrics import coefficient_of_variation

        return coefficient_of_variation
