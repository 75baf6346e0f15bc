"""Agreement of two series: intraclass correlation, Bland–Altman limits and a straight line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from mriad_eval.statistics.series import Interval, pairs, require_spread, table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

IccForm = Literal["ICC(1,1)", "ICC(A,1)", "ICC(C,1)"]


@dataclass(frozen=True)
class IntraclassCorrelation:
    """A single-measurement intraclass correlation, its form by name, F interval, n persons and k raters."""

    form: IccForm
    value: float
    interval: Interval
    n: int
    raters: int


@dataclass(frozen=True)
class BlandAltman:
    """Differences first − second: bias, SD (n − 1), limits of agreement bias ± 1.96 SD, each with its interval.

    slope: of the difference on the mean of both, 0 where the error does not grow with size; slope_p: two-sided.
    """

    bias: float
    sd: float
    low: float
    high: float
    bias_interval: Interval
    low_interval: Interval
    high_interval: Interval
    slope: float
    slope_p: float
    n: int


@dataclass(frozen=True)
class LinearFit:
    """Least squares second = intercept + slope·first, r² and t intervals of both coefficients."""

    slope: float
    intercept: float
    r2: float
    slope_interval: Interval
    intercept_interval: Interval
    n: int


def intraclass_correlation(
    values: ArrayLike, form: IccForm = "ICC(A,1)", *, level: float = 0.95
) -> IntraclassCorrelation:
    """How much of the variance is between persons (McGraw and Wong, Psychological Methods 1996, tables 4 and 7).

    ICC(1,1): one-way random. ICC(A,1): two-way, absolute agreement (Shrout and Fleiss's (2,1)); a constant offset
    between raters lowers it. ICC(C,1): two-way, consistency ((3,1)); it does not.

    Args:
        values: (n, k) one row a person, one column a rater, method or time, finite.
        form: which one.
        level: of the F interval.

    Raises:
        DataError: NaN, fewer than two persons or raters, or persons that do not differ at all.
    """
    x = table("an intraclass correlation", values)
    n, k = x.shape
    require_spread("an intraclass correlation", x.ravel())
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    msr = k * float(rows.var(ddof=1))
    msc = n * float(columns.var(ddof=1))
    error = float(((x - rows[:, None] - columns[None, :] + x.mean()) ** 2).sum())
    mse = error / ((n - 1) * (k - 1))
    msw = float(((x - rows[:, None]) ** 2).sum()) / (n * (k - 1))
    tail = (1 + level) / 2
    if form == "ICC(A,1)":
        value = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
        low, high = _absolute_ends(value, (msr, msc, mse), n, k, tail)
    else:
        within, df = (msw, n * (k - 1)) if form == "ICC(1,1)" else (mse, (n - 1) * (k - 1))
        value = (msr - within) / (msr + (k - 1) * within)
        f = math.inf if within == 0 else msr / within
        low = _of_ratio(f / stats.f.ppf(tail, n - 1, df), k)
        high = _of_ratio(f * stats.f.ppf(tail, df, n - 1), k)
    return IntraclassCorrelation(form, float(value), Interval(float(low), float(high), level, "F"), n, k)


def _of_ratio(f: float, k: int) -> float:
    return 1.0 if math.isinf(f) else (f - 1) / (f + k - 1)


def _absolute_ends(
    value: float, mean_squares: tuple[float, float, float], n: int, k: int, tail: float
) -> tuple[float, float]:
    """Ends for ICC(A,1), with Satterthwaite's degrees of freedom for the raters and error together."""
    msr, msc, mse = mean_squares
    if mse == 0 and msc == 0:
        return 1.0, 1.0
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    f_low, f_high = stats.f.ppf(tail, n - 1, v), stats.f.ppf(tail, v, n - 1)
    offset = k * msc + (k * n - k - n) * mse
    with np.errstate(invalid="ignore"):  # 0/0 where nobody differs: no interval, NaN
        low = n * (msr - f_low * mse) / (f_low * offset + n * msr)
        high = n * (f_high * msr - mse) / (offset + n * f_high * msr)
    return low, high


def bland_altman(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> BlandAltman:
    """Limits of agreement of two measurements of the same persons (Bland and Altman, Lancet 1986).

    The limits' intervals use SE = SD·√(1/n + 1.96²/(2(n − 1))) with t of n − 1 degrees of freedom.

    Args:
        first: (n,) one value a person, finite, in any unit.
        second: (n,) of the same persons, in the same unit.
        level: of all three intervals.

    Raises:
        DataError: different lengths, NaN, or fewer than three persons.
    """
    a, b = pairs("Bland–Altman limits", first, second, least=3)
    d, n = a - b, len(a)
    bias, sd = float(d.mean()), float(d.std(ddof=1))
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    half_bias = t * sd / math.sqrt(n)
    half_limit = t * sd * math.sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
    low, high = bias - 1.96 * sd, bias + 1.96 * sd
    mean = (a + b) / 2
    slope, slope_p = 0.0, 1.0
    if np.ptp(mean) > 0:
        line = stats.linregress(mean, d)
        slope, slope_p = float(line.slope), float(line.pvalue)

    def around(value: float, half: float) -> Interval:
        return Interval(value - half, value + half, level, "t")

    return BlandAltman(
        bias,
        sd,
        low,
        high,
        around(bias, half_bias),
        around(low, half_limit),
        around(high, half_limit),
        slope,
        slope_p,
        n,
    )


def linear_fit(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> LinearFit:
    """Fit second = intercept + slope·first by least squares.

    Args:
        first: (n,) such as the true area, finite.
        second: (n,) such as the measured one.
        level: of the coefficients' t intervals.

    Raises:
        DataError: different lengths, NaN, fewer than three persons, or `first` is constant.
    """
    x, y = pairs("a linear fit", first, second, least=3)
    require_spread("a linear fit (first series)", x)
    found = stats.linregress(x, y)
    t = float(stats.t.ppf((1 + level) / 2, len(x) - 2))

    def around(value: float, error: float) -> Interval:
        return Interval(value - t * error, value + t * error, level, "t")

    if (
        np.ptp(y) == 0
    ):  # a sound answer: a constant explains nothing. It is the row of the constant-area control.
        return LinearFit(0.0, float(y[0]), 0.0, around(0.0, 0.0), around(float(y[0]), 0.0), len(x))
    return LinearFit(
        float(found.slope),
        float(found.intercept),
        float(found.rvalue) ** 2,
        around(float(found.slope), float(found.stderr)),
        around(float(found.intercept), float(found.intercept_stderr)),
        len(x),
    )
