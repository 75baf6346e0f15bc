"""The two-sample Kolmogorov–Smirnov test, kept because a paper used it on slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import stats

from mriad_eval.statistics.series import series

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class KolmogorovSmirnovResult:
    """D = max |F₁ − F₂|, its two-sided p and both n."""

    statistic: float
    p: float
    n: tuple[int, int]


def kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> KolmogorovSmirnovResult:
    """Compare two distributions; exact p for small n, as scipy does.

    It takes values as unpaired and independent. On slices or cases of the same persons they are neither, and p is
    too small: such a result is exploratory at best.

    Raises:
        DataError: NaN or infinite values, or none.
    """
    a, b = (series("the Kolmogorov–Smirnov test", values, least=1) for values in (first, second))
    found = stats.ks_2samp(a, b)
    return KolmogorovSmirnovResult(float(found.statistic), float(found.pvalue), (len(a), len(b)))
