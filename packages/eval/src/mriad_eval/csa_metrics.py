"""Metrics of cross-sectional area: `csa`, `csa_abs_error` and, of a person, `csa_std`; light configs.

Area is angle-corrected and averaged over the slices of the levels that the experiment names
(`evaluate: {at: {levels: [C2, C3]}}`), or over the whole structure where it names none; the numbers are in `csa` and
`morphometry`. A case without vertebral levels is "incomplete", never zero; a structure that was not found is a miss.

`csa_std` alone rewards a constant: comparisons never claim it and show slope, r² and ICC beside it, or say that
the rows of `csa` and `csa_abs_error` that it takes are missing (`comparison.spread`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mriad.metric import Direction, Level, Metric, Undefined
from pydantic import Field

from mriad_eval.morphometry.settings import CsaSettings

if TYPE_CHECKING:
    from mriad.metric import CaseMetric, PersonMetric


class _Csa(Metric):
    """Fields that the metrics of area share."""

    unit: ClassVar[str] = "mm2"
    direction: ClassVar[Direction] = "lower"
    reads: ClassVar[tuple[str, ...]] = ("levels", "discs")

    mask: Literal["soft", "binary"] = Field(
        "soft", description="Sum uncut soft values, or binarise at > .5 first, as the spinal cord paper does."
    )
    min_slices: int = Field(2, ge=1, description="Fewer slices in the levels give no value.")
    drop_ends: int = Field(
        1, ge=0, description="Slices at either end of the structure that do not count (partial volume)."
    )
    smoothing_mm: float = Field(5.0, gt=0, description="Length over which the centre line is smoothed, mm.")

    def settings(self) -> CsaSettings:
        """What the functions need."""
        return CsaSettings(self.mask, self.min_slices, self.drop_ends, self.smoothing_mm)

    def _ending(self) -> str:
        return "" if self.mask == "soft" else "_binary"


class Csa(_Csa):
    """Cross-sectional area in mm², corrected for the angle between slices and centre line; a measurement."""

    direction: ClassVar[Direction] = "none"

    type: Literal["eval.csa"] = "eval.csa"

    def key(self) -> str:
        """`csa`, or `csa_binary`: the two never share a column."""
        return f"csa{self._ending()}"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.csa import AreaOf

        return AreaOf(self.settings())


class CsaAbsoluteError(_Csa):
    """|CSA of the prediction − CSA of the reference| in mm²; 0 is best.

    A prediction without the structure, or without enough of it in the levels, measures 0 mm²: a miss counts as the
    reference's whole area; slices that the reference has and the prediction lacks count as 0 mm² too. In comparisons
    no error counts worse than a miss: at most the true area (`worst` of the row); the value stays as measured. A
    structure that is not in the reference counts as the predicted area.
    """

    best: ClassVar[float | None] = 0.0
    worst: ClassVar[float | None] = 100.0
    if_missed: ClassVar[Undefined] = "measured"
    if_false_positive: ClassVar[Undefined] = "measured"

    type: Literal["eval.csa_abs_error"] = "eval.csa_abs_error"
    against: Literal["reference", "number"] = Field(
        "reference",
        description="Measure the reference mask in the same way, or take the case's number (`area_mm2/C2-C3`).",
    )
    quantity: str = Field(
        "area_mm2", description="Name of the number before the levels, with against: number."
    )

    def key(self) -> str:
        """`csa_abs_error`; `…_of_AREA` against a number; `…_binary` of binarised masks."""
        number = "" if self.against == "reference" else f"_of_{self.quantity}"
        return f"csa_abs_error{number}{self._ending()}"

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.csa import ErrorOf

        return ErrorOf(self.settings(), self.quantity if self.against == "number" else "")


class CsaStd(Metric):
    """SD (n − 1) of a person's area over contrasts in mm²; 0 is best, and a constant reaches it.

    Defined only where every contrast of the evaluated cases has a finite area for that person; otherwise NaN, with
    how many there are. Several cases of one contrast (sessions) are averaged first. A contrast in which the
    structure was missed makes it a miss: `worst` is the SD of six areas of 80 mm² of which three were missed.
    """

    level: ClassVar[Level] = "person"
    every_contrast: ClassVar[bool] = True
    unit: ClassVar[str] = "mm2"
    direction: ClassVar[Direction] = "lower"
    best: ClassVar[float | None] = 0.0
    worst: ClassVar[float | None] = 44.0

    type: Literal["eval.csa_std"] = "eval.csa_std"
    mask: Literal["soft", "binary"] = Field("soft", description="Which `eval.csa` it is computed from.")
    contrasts: tuple[str, ...] = Field(
        (), description="Contrasts that a person must have; default: all of the evaluated cases."
    )

    def constant_wins(self) -> tuple[str, str]:
        """Area and its absolute error."""
        ending = "" if self.mask == "soft" else "_binary"
        return f"csa{ending}", f"csa_abs_error{ending}"

    def needs(self) -> tuple[str, ...]:
        """The rows of `eval.csa`."""
        return ("csa",) if self.mask == "soft" else ("csa_binary",)

    def key(self) -> str:
        """`csa_std` or `csa_std_binary`."""
        return "csa_std" if self.mask == "soft" else "csa_std_binary"

    def build(self) -> PersonMetric:
        """Return the function."""
        from mriad_eval.csa import SpreadOf

        return SpreadOf(self.contrasts)


class CsaLiteralSct(Metric):
    """Area in mm² as SCT 6.0 computes it, with the quirks that docs/reference/morphometry.md lists."""

    unit: ClassVar[str] = "mm2"
    direction: ClassVar[Direction] = "none"
    reads: ClassVar[tuple[str, ...]] = ("levels",)
    literal: ClassVar[bool] = True

    type: Literal["eval.csa_sct6_literal"] = "eval.csa_sct6_literal"
    mask: Literal["soft", "binary"] = Field(
        "binary", description="Binarised at > .5 as in the paper, or soft."
    )

    def key(self) -> str:
        """`csa_sct6_literal`, or `csa_sct6_literal_soft`."""
        return "csa_sct6_literal" + ("" if self.mask == "binary" else "_soft")

    def build(self) -> CaseMetric:
        """Return the function."""
        from mriad_eval.csa import LiteralAreaOf

        return LiteralAreaOf(self.mask)
