"""Shape of one section: diameters, eccentricity, orientation, solidity.

Diameters and eccentricity are those of the ellipse with the section's second moments (4√λ, as regionprops of
scikit-image has them), taken in the plane across the centre line: places in the slice are projected onto that
plane along the tangent, so that a tilted cylinder is round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull, QhullError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """The ellipse of a section.

    diameter_ap, diameter_rl: mm, the axis nearest to that direction. eccentricity: √(1 − λ₂/λ₁), 0 to 1.
    orientation: angle in degrees between the major axis and right-left, 0 to 90; arbitrary for a circle.
    """

    diameter_ap: float
    diameter_rl: float
    eccentricity: float
    orientation: float


def ellipse_of(places: Floats, weights: Floats, slopes: Floats) -> Ellipse:
    """The ellipse of a section.

    Args:
        places: (n, 2) mm to the right and to anterior in the slice plane.
        weights: (n,) share of each pixel in the structure.
        slopes: (2,) of the centre line, to the right and to anterior per mm of height.
    """
    offset = places - np.average(places, axis=0, weights=weights)
    second = (weights[:, None] * offset).T @ offset / weights.sum()
    to_section = section_axes(slopes)[:, :2]
    values, vectors = np.linalg.eigh(to_section @ second @ to_section.T)
    minor, major = np.clip(values, 0, None)
    direction = vectors[:, 1]
    orientation = float(np.degrees(np.arctan2(abs(direction[1]), abs(direction[0]))))
    axes = 4 * np.sqrt([major, minor])
    lateral, sagittal = axes if orientation < 45 else axes[::-1]
    eccentricity = float(np.sqrt(1 - minor / major)) if major > 0 else float("nan")
    return Ellipse(float(sagittal), float(lateral), eccentricity, orientation)


def section_axes(slopes: Floats) -> Floats:
    """Lateral and anterior axis (2, 3) of the plane across the line, in the frame (right, anterior, normal)."""
    tangent = np.array([slopes[0], slopes[1], 1.0])
    tangent /= np.linalg.norm(tangent)
    lateral = np.array([1.0, 0, 0]) - tangent[0] * tangent
    lateral /= np.linalg.norm(lateral)
    return np.stack([lateral, np.cross(tangent, lateral)])


def solidity_of(region: NDArray[np.bool_]) -> float:
    """Share of the convex hull's pixels that a region (A, B) fills; NaN for less than two pixels across.

    The hull is that of the middles of the pixels' edges; a pixel belongs to it if its centre does. In-plane spacing
    does not matter.
    """
    rows = np.flatnonzero(region.any(1))
    if len(rows) == 0:
        return float("nan")
    kept = region[rows]
    first, last = kept.argmax(1), kept.shape[1] - 1 - kept[:, ::-1].argmax(1)
    # The hull of all pixels is that of the first and the last pixel of each row.
    ends = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)]).astype(np.float64)
    edges = np.concatenate([ends + step for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))])
    try:
        hull = ConvexHull(edges)
    except QhullError:
        return float("nan")
    low, high = ends.min(0), ends.max(0)
    box = np.stack(
        np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
    )
    inside = (box.reshape(-1, 2) @ hull.equations[:, :2].T + hull.equations[:, 2] <= 1e-9).all(1)
    return int(region.sum()) / int(inside.sum())
