"""How a registration is searched for, as a setting."""

from __future__ import annotations

from typing import Literal

from mriad.component import Config
from pydantic import Field

VERSION = 1
"""Part of every registered source's fingerprint: raised when the numbers of the search or resampling change."""


class Registration(Config):
    """Rigid (6 numbers) or affine (12) alignment by mutual information, from coarse to fine.

    Measured on real scans in docs/decisions/0006-registration.md.
    """

    kind: Literal["rigid", "affine"] = Field(
        "rigid", description="rigid: one person's contrasts; affine: to a template of another size."
    )
    start: Literal["header", "centres"] = Field(
        "header",
        description="header: images lie as their files say, to within about 20° and 20 mm, and must overlap; "
        "centres: their centres of mass are put together first, for files whose positions are unrelated.",
    )
    min_gain: float = Field(
        0.02,
        ge=0,
        description="Relative gain in mutual information below which the start is kept: what the search can "
        "find beyond it is smaller than its own error, and resampling blurs.",
    )
    min_overlap: float = Field(
        0.1, gt=0, le=1, description="Smallest part of either field of view that the other must cover."
    )
    working_mm: float = Field(
        2.0,
        gt=0,
        description="Spacing of the finest level in mm; the coarser ones are 2 and 4 times as wide.",
    )
    samples: int = Field(
        40_000,
        ge=1000,
        description="Points a level at which the images are compared (all, where there are fewer).",
    )
