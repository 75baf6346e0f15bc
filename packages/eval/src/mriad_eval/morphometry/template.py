"""Discs that a person did not label, from a template: straightened images matched along the cord.

Image intensities around both centre lines are sampled in the same frame (lateral, anterior, height), which takes
the bend of the neck out. The scan's heights go to the template's by t = tₐ + s·(u − uₐ), where disc a is labelled in
both; the stretch s is that of the largest mutual information (Viola and Wells, IJCV 1997), weighted towards 1.

A label is needed: without one the match on real scans is off by whole vertebrae, since neighbours look alike. With
two labels or more nothing is searched: heights are interpolated between them and carried on beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from scipy import ndimage

from mriad_eval.morphometry.levels import disc_heights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.vocabulary import Volume
    from numpy.typing import NDArray

    from mriad_eval.morphometry.centre_line import CentreLine

    Floats = NDArray[np.float64]

LATERAL_MM = np.arange(-12.0, 13.0, 2.0)
ANTERIOR_MM = np.arange(-14.0, 24.0, 2.0)
STRETCHES = np.arange(0.8, 1.2501, 0.025)
BINS = 16
SPREAD = 0.2
"""Of the weight exp(−(s − 1)²/2·SPREAD²) on the information: necks differ in length by some 7 % (SD)."""
_BEYOND_MM = 20.0  # discs may be given this far beyond the structure's ends
_LEAST = 0.5  # share of the scan's heights that the template must cover


@dataclass(frozen=True, eq=False)
class Template:
    """An image, the centre line of its cord, and world places of its discs (1, 3) by SCT's number."""

    image: Volume
    line: CentreLine
    discs: Mapping[int, Floats]


@dataclass(frozen=True)
class MatchedDiscs:
    """heights: of discs along the scan's line, mm. stretch: template mm per mm of the scan. taken: labels that the
    user gave. information: mutual information in nats of the match; NaN where nothing was searched."""

    heights: dict[int, float]
    stretch: float
    taken: tuple[int, ...]
    information: float


def match_discs(
    scan: Volume, line: CentreLine, labelled: Mapping[int, Floats], template: Template
) -> MatchedDiscs:
    """Give the template's discs to a scan in which some are labelled.

    Args:
        scan: the image that was segmented, (X, Y, Z).
        line: centre line of its structure.
        labelled: world places of discs that the user labelled, by number.
        template: with discs; at least one number must be among `labelled`.

    Raises:
        DataError: no disc is labelled in both, or the images do not overlap along the cord.
    """
    theirs = disc_heights(template.discs, template.line)
    mine = disc_heights(labelled, line)
    common = sorted(set(theirs) & set(mine))
    if not common:
        raise DataError(
            "a template cannot tell which vertebra is which: one disc must be labelled in the scan",
            where={"discs of the template": _listed(theirs), "labelled": _listed(mine)},
            remedy="label one disc (3 is C2-C3) and give the file with --discs",
        )
    if len(common) > 1:
        ours = np.array([mine[n] for n in common])[::-1]  # growing heights
        known = np.array([theirs[n] for n in common])[::-1]
        stretch = float((known[-1] - known[0]) / (ours[-1] - ours[0]))
        found = {n: _carried(h, known, ours, stretch) for n, h in theirs.items()}
        information = float("nan")
    else:
        anchor = common[0]
        stretch, information = _search(scan, line, mine[anchor], template, theirs[anchor])
        found = {n: mine[anchor] + (h - theirs[anchor]) / stretch for n, h in theirs.items()}
    inside = {n: h for n, h in found.items() if line.low - _BEYOND_MM <= h <= line.high + _BEYOND_MM}
    return MatchedDiscs(dict(sorted({**inside, **mine}.items())), stretch, tuple(sorted(mine)), information)


def _carried(height: float, known: Floats, ours: Floats, stretch: float) -> float:
    """Between labels linear, beyond them with the mean stretch."""
    if height < known[0]:
        return float(ours[0] + (height - known[0]) / stretch)
    if height > known[-1]:
        return float(ours[-1] + (height - known[-1]) / stretch)
    return float(np.interp(height, known, ours))


def _search(
    scan: Volume, line: CentreLine, mine: float, template: Template, theirs: float
) -> tuple[float, float]:
    """Stretch and weighted mutual information of the best match."""
    low, high = template.line.low, template.line.high
    heights = np.arange(low, high + 1)
    straight = straightened(template.image, template.line, heights)
    u = np.arange(line.low, line.high + 1)
    fixed = straightened(scan, line, u)
    best = (-1.0, 1.0)
    for stretch in STRETCHES:
        places = theirs + stretch * (u - mine)
        inside = (places >= low) & (places <= high)
        if inside.mean() < _LEAST:
            continue
        rows = np.clip(np.rint(places[inside] - low).astype(int), 0, len(heights) - 1)
        weight = float(np.exp(-((stretch - 1) ** 2) / (2 * SPREAD**2)))
        best = max(best, (weight * information(straight[rows], fixed[inside]), float(stretch)))
    if best[0] < 0:
        raise DataError(
            "scan and template do not show the same part of the cord",
            where={"scan": f"{line.high - line.low:.0f} mm", "template": f"{high - low:.0f} mm"},
            remedy="label more discs, or choose a template that covers the scan",
        )
    return best[1], best[0]


def straightened(image: Volume, line: CentreLine, heights: Floats) -> Floats:
    """Intensities (H, L, A) around a line: at these heights, lateral and anterior of it; NaN outside the image."""
    tangent = line.tangents(heights)
    lateral = np.array([1.0, 0, 0]) - tangent[:, :1] * tangent
    lateral /= np.linalg.norm(lateral, axis=1, keepdims=True)
    anterior = np.cross(tangent, lateral)
    places = (
        line.points(heights)[:, None, None]
        + LATERAL_MM[None, :, None, None] * lateral[:, None, None]
        + ANTERIOR_MM[None, None, :, None] * anterior[:, None, None]
    )
    voxels = image.grid.voxels(places)
    data = np.asarray(image.data, dtype=np.float64)
    out = ndimage.map_coordinates(data, np.moveaxis(voxels, -1, 0), order=1, mode="nearest")
    outside = ((voxels < 0) | (voxels > np.array(image.grid.shape) - 1)).any(-1)
    out[outside] = np.nan
    return np.asarray(out)


def information(first: Floats, second: Floats) -> float:
    """Mutual information in nats of two arrays of one shape, over what is finite in both; -1 if that is little.

    Corrected for the bias of finite counts (Miller 1955; Madow), so that less overlap does not look like more of it.
    """
    both = np.isfinite(first) & np.isfinite(second)
    if both.mean() < _LEAST / 2:
        return -1.0
    counts, _, _ = np.histogram2d(first[both], second[both], BINS)
    p = counts / counts.sum()
    alone = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    seen = p > 0
    cells = [np.count_nonzero(counts), *(np.count_nonzero(counts.sum(axis)) for axis in (0, 1))]
    bias = (cells[0] - cells[1] - cells[2] + 1) / (2 * counts.sum())
    return float((p[seen] * np.log(p[seen] / alone[seen])).sum() - bias)


def _listed(discs: Mapping[int, float]) -> str:
    return ", ".join(map(str, discs)) or "none"
