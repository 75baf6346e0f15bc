"""Checks of image values: NaN, constant, clipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mriad_data.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad_data.checking.reading import Seen

CLIPPED = 0.001
"""Share of the voxels other than 0 at the highest value from which an image counts as clipped. Images that are not
have one such voxel, or a few; scanners and exports that saturate leave some per cent."""
LEAST_CLIPPED = 20
"""Voxels; in an image of a few thousand, one of them is more than the share above."""


def check_intensities(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Images that cannot be normalised, and those that have lost their bright end."""
    for one in seen:
        for v in one.volumes:
            if v.not_finite:
                yield Finding(
                    "intensities", "error", "NaN or infinite values", one.case.id, v.place, v.detail, v.remedy
                )
        for v in one.of("channel"):
            if v.low == v.high:
                yield Finding(
                    "intensities",
                    "error",
                    "an image is constant",
                    one.case.id,
                    v.place,
                    f"every voxel is {v.low:g}",
                    "look at the file: an empty export, or a wrong path",
                )
                continue
            share = v.at_high / max(v.nonzero, 1)
            if v.at_high >= LEAST_CLIPPED and share >= CLIPPED:
                yield Finding(
                    "intensities",
                    "warning",
                    "an image is clipped at its highest value",
                    one.case.id,
                    v.place,
                    f"{100 * share:.2g} % at {v.high:g}",
                    "export it with a larger range; where that is lost, normalise by percentiles",
                    {"share": share, "value": v.high},
                )
