"""What every statistic asks of its numbers, and the interval that most of them return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mriad.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of what it is about, and how it was made.

    method: "t", "BCa", "noncentral t", "score", "F", …; printed beside the numbers.
    """

    low: float
    high: float
    level: float
    method: str

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; the ends count."""
        return bool(self.low <= value <= self.high)

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low

    def text(self, digits: int = 3) -> str:
        """`[0.220, 0.410]`."""
        return f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"


def series(what: str, values: ArrayLike, least: int = 2) -> Floats:
    """Return one finite number a person, (n,) float64.

    Raises:
        DataError: not one-dimensional, NaN or infinite values, or fewer than `least`.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise DataError(
            f"{what} needs one value a person",
            where={"shape": found.shape, "expected": "(n,)"},
            remedy="average cases, slices and seeds within each person first",
        )
    require_finite(what, found)
    require_count(what, len(found), least)
    return found


def pairs(what: str, first: ArrayLike, second: ArrayLike, least: int = 2) -> tuple[Floats, Floats]:
    """Return two series of the same persons in the same order, each (n,).

    Raises:
        DataError: as `series`, or the two differ in length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(
            f"{what} needs the same persons on both sides",
            where={"first": f"{a.size} values", "second": f"{b.size} values"},
            remedy="leave out persons that one side lacks, and say how many",
        )
    return series(what, a, least), series(what, b, least)


def table(what: str, values: ArrayLike, *, rows: int = 2, columns: int = 2) -> Floats:
    """Return persons × conditions, (n, k) float64, all finite.

    Raises:
        DataError: not two-dimensional, NaN or infinite values, too few rows or columns.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] < columns:
        raise DataError(
            f"{what} needs a table of persons × conditions",
            where={"shape": found.shape, "expected": f"(n, k) with k ≥ {columns}"},
        )
    require_finite(what, found)
    require_count(what, found.shape[0], rows)
    return found


def require_finite(what: str, values: NDArray[Any]) -> None:
    """Refuse NaN and infinity: a rank or a mean of them is no number.

    Raises:
        DataError: some are; it says how many.
    """
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise DataError(
            f"{what} takes finite values only",
            where={"not finite": f"{bad} of {values.size}"},
            remedy="count a failure at its worst value, or leave the person out on both sides and say so",
        )


def require_count(what: str, n: int, least: int) -> None:
    """Refuse too few persons.

    Raises:
        DataError: fewer than `least`.
    """
    if n < least:
        raise DataError(
            f"{what}: n too small",
            where={"persons": n, "expected": f"at least {least}"},
            remedy="more persons",
        )


def is_constant(values: Floats) -> bool:
    """Whether all values are equal up to rounding: nothing can be estimated from their spread."""
    spread = float(np.ptp(values))
    return spread <= 1e-12 * max(1.0, float(np.abs(values).max()))


def require_spread(what: str, values: Floats) -> None:
    """Refuse a constant series.

    Raises:
        DataError: all values are equal.
    """
    if is_constant(values):
        raise DataError(
            f"{what}: the series is constant",
            where={"value": f"{values[0]:g}", "n": len(values)},
            remedy="a spread of zero says nothing about persons: look for a copied or a failed result",
        )
