"""Corrections for several tests. Each returns m, the number of tests: a corrected p without it says little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from mriad.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

Correction = Literal["holm", "bonferroni"]


@dataclass(frozen=True)
class Corrected:
    """Adjusted p-values in the order given, the correction's name and m, the number of tests."""

    p: tuple[float, ...]
    method: Correction
    m: int


def correct(p: Sequence[float], method: Correction = "holm", m: int | None = None) -> Corrected:
    """Adjust p-values; compare the result with α itself.

    holm: step-down (Holm, Scandinavian Journal of Statistics 1979); bonferroni: min(1, m·p).

    Args:
        p: raw p-values, each in [0, 1].
        method: which correction.
        m: number of tests that the family has, where more were made than are given; default: len(p).

    Raises:
        DataError: no p-values, one outside [0, 1] or NaN, or an m below their number.
    """
    raw = np.asarray(p, dtype=np.float64)
    count = len(raw) if m is None else m
    if raw.ndim != 1 or not len(raw) or not bool(np.all((raw >= 0) & (raw <= 1))):
        raise DataError(
            "a correction takes p-values in [0, 1]", where={"p": ", ".join(f"{x:g}" for x in raw.flat)}
        )
    if count < len(raw):
        raise DataError("fewer tests than p-values", where={"m": count, "p-values": len(raw)})
    if count == 1:
        return Corrected((float(raw[0]),), method, 1)
    from statsmodels.stats.multitest import multipletests

    # Tests whose p is not given cannot be more significant than those given: they stand at 1.
    padded = np.concatenate([raw, np.ones(count - len(raw))])
    adjusted = multipletests(padded, method=method)[1][: len(raw)]
    return Corrected(tuple(float(x) for x in adjusted), method, count)


def smallest_attainable(smallest: float, m: int) -> float:
    """The smallest corrected p where a single test can reach `smallest`: the first of m in Holm and Bonferroni."""
    return min(1.0, smallest * m)
