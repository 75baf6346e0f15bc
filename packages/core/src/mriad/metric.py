"""The interface of metrics: what a value is (level, unit, direction, worst) and the functions that measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from mriad.component import Component

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mriad.case_table import Row
    from mriad.structure_pair import StructurePair

Direction = Literal["higher", "lower", "toward", "none"]
"""Which values are better; "none": a measurement that is neither good nor bad, such as an area."""
Undefined = float | Literal["measured"] | None
"""What an empty mask gives: a fixed value, one that depends on the case, or None: no value (NaN)."""
Level = Literal["slice", "case", "person", "study"]


class Metric(Component):
    """Values at a level, with unit, direction, worst value and what empty masks give.

    A case metric is built into a `CaseMetric`; a slice metric into a `SliceMetric`; a person metric, a function of
    that person's case rows, into a `PersonMetric`.
    """

    interface = "metric"
    level: ClassVar[Level] = "case"
    unit: ClassVar[str] = "1"
    direction: ClassVar[Direction] = "higher"
    toward: ClassVar[float | None] = None
    """The best value where direction is "toward"."""
    best: ClassVar[float | None] = None
    """The value of a perfect prediction, where there is one."""
    worst: ClassVar[float | None] = None
    """What a miss counts as in ranks and tests; None means the image diagonal in mm."""
    if_missed: ClassVar[Undefined] = None
    """Value where the reference is not empty and the prediction is; the note is "miss"."""
    if_false_positive: ClassVar[Undefined] = None
    """Value where the prediction is not empty and the reference is; the note is "false positive"."""
    takes: ClassVar[tuple[str, ...]] = ("hard", "soft")
    reads: ClassVar[tuple[str, ...]] = ()
    """Annotations of a case ("levels") that it uses where they exist."""
    literal: ClassVar[bool] = False
    """Repeats a published program as it is, faults included: for comparing with its numbers, never in a verdict."""

    every_contrast: ClassVar[bool] = False
    """A person metric is also given a row without value for each contrast of the table that the person lacks."""

    def needs(self) -> tuple[str, ...]:
        """Keys of the case metrics whose rows a person metric reads; they are measured too."""
        return ()

    def constant_wins(self) -> tuple[str, str] | None:
        """Of a metric that a constant answer is best in, such as a spread over contrasts: two keys; else None.

        The first is of the metric that measures what is spread ("csa"), the second of its error against the reference
        ("csa_abs_error"): absolute in the same unit, or signed in %. Comparisons never claim such a metric, and show
        from the rows of the two how the measured values agree with the reference's between persons.
        """
        return None

    def key(self) -> str:
        """The name in tables and MLflow, such as "dice"; no spaces."""
        return self.type_name().split(".", 1)[1]

    def build(self) -> CaseMetric | SliceMetric | PersonMetric:
        """Return the function, of the kind that `level` says."""
        raise NotImplementedError


class CaseMetric(Protocol):
    """Measures one structure of one case: the value (NaN where undefined) and a note.

    Notes: "", "miss", "empty", "false positive", "incomplete: why"; see `mriad.case_table`. A function whose worst
    value depends on the case also has `worst_in(pair: StructurePair) -> float | None`, the `worst` of that row; None
    stands for the metric's own. It must not depend on the prediction where the structure is in the reference.
    """

    def __call__(self, pair: StructurePair) -> tuple[float, str]:
        """Measure."""
        ...


class SliceMetric(Protocol):
    """Measures parts of one structure of one case, its slices or bins.

    Returns (index, value, note) of each part where there is something, in order.
    """

    def __call__(self, pair: StructurePair) -> Sequence[tuple[int, float, str]]:
        """Measure."""
        ...


class PersonMetric(Protocol):
    """A value of one person and structure from the rows of the metrics that it `needs`."""

    def __call__(self, rows: Sequence[Row]) -> tuple[float, str]:
        """Compute; NaN with a note where cases are missing."""
        ...
