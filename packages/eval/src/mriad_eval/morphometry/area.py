"""Cross-sectional area of a tubular structure, slice by slice.

    raw area  A(z) = Σ p · pixel area     soft (uncut) or binary values, mm²
    area      A(z) · cos θ(z)             θ between slice normal and centre line, in world space

(specs: cord cross-sectional area, clean definition). For a straight cylinder the corrected area is exact at
any tilt, and does not depend on slice thickness; for cones and bends it is exact up to terms of
tan²(half-angle)·tan²θ and (radius/bend radius)².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from mriad_eval.morphometry.centre_line import CentreLine, fit_centre_line
from mriad_eval.morphometry.frame import SliceFrame
from mriad_eval.morphometry.settings import TubeSettings
from mriad_eval.morphometry.shape import Ellipse, ellipse_of, solidity_of

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PRESENT = 0.1
"""A slice is measured when its largest value reaches this: what networks leave in the background does not."""
_TAIL = 0.05  # share of a slice's largest value below which voxels are no part of its shape (background of soft maps)


@dataclass(frozen=True, eq=False)
class Tube:
    """Measurements of every slice that holds the structure, from inferior to superior; arrays (n,), NaN if undefined.

    slices: numbers counted from the most inferior slice of the grid (0). heights: mm above slice 0. raw_mm2,
    area_mm2: before and after correction. angle_ap, angle_rl: tilt in degrees in the coronal plane (about the A-P
    axis, positive towards left) and in the sagittal plane (positive towards anterior). diameter_ap, diameter_rl (mm),
    eccentricity, orientation (degrees), solidity: see `shape`. length_mm: of the centre line within the slice.
    regions: separate parts at half of the slice's largest value; the area counts all of them, direction and shape the
    largest. peak: largest value. end: true where the slice was dropped as an end.
    line: None where fewer than two slices are left, and then nothing is corrected.
    """

    frame: SliceFrame
    settings: TubeSettings
    slices: NDArray[np.int64]
    heights: Floats
    raw_mm2: Floats
    area_mm2: Floats
    angle_ap: Floats
    angle_rl: Floats
    diameter_ap: Floats
    diameter_rl: Floats
    eccentricity: Floats
    orientation: Floats
    solidity: Floats
    length_mm: Floats
    regions: NDArray[np.int64]
    peak: Floats
    end: NDArray[np.bool_]
    line: CentreLine | None

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def note(self) -> str:
        """What a reader must know of these numbers; empty where all is plain."""
        if not len(self):
            return "the structure is in no slice"
        parts = []
        if self.line is None:
            parts.append("too few slices for a direction: no corrected area")
        for count, what in (
            (int((self.regions > 1).sum()), "of several regions (all are counted)"),
            (int((self.peak <= 0.5).sum()), "with no value above .5 (measured as they are)"),
        ):
            if count:
                parts.append(f"{count} slice{'s' if count > 1 else ''} {what}")
        return "; ".join(parts)


def measure_tube(
    values: NDArray[np.float32],
    grid: Grid,
    settings: TubeSettings = TubeSettings(),  # noqa: B008 - frozen
    validity: NDArray[np.bool_] | None = None,
) -> Tube:
    """Measure a structure.

    Args:
        values: (X, Y, Z) in [0, 1]; of any orientation, oblique affines included.
        grid: of the voxels; slices run along the axis nearest to world z.
        settings: see `TubeSettings`.
        validity: (X, Y, Z), false where not annotated: a slice of the structure with such a voxel in it is left out.
    """
    frame = SliceFrame.of(grid)
    stack = frame.stack(values)
    if settings.values == "binary":
        stack = stack > 0.5
    peaks = stack.max(axis=(1, 2), initial=0).astype(np.float64)
    found = peaks >= PRESENT
    if validity is not None:
        unknown = ~frame.stack(validity)
        found &= ~(unknown & (stack >= PRESENT)).any(axis=(1, 2)) & ~unknown.all(axis=(1, 2))
    slices = np.flatnonzero(found)
    sections = [_Section.of(frame, int(k), stack[k], float(peaks[k])) for k in slices]
    heights = slices * frame.spacing_mm
    end = np.zeros(len(slices), dtype=bool)
    if settings.drop_ends:
        end[: settings.drop_ends] = True
        end[-settings.drop_ends :] = True
    kept = ~end
    centres = np.array([s.centre for s in sections]).reshape(-1, 3)
    line = fit_centre_line(frame, heights[kept], centres[kept], settings.smoothing_mm)
    raw = np.array([s.sum * frame.pixel_mm2 for s in sections])
    slopes = line.slopes(heights) if line else np.full((len(slices), 2), np.nan)
    cosine = 1 / np.sqrt(1 + (slopes**2).sum(-1))
    ellipses = [s.ellipse(slope) for s, slope in zip(sections, slopes, strict=True)]
    shapes = np.array([[e.diameter_ap, e.diameter_rl, e.eccentricity, e.orientation] for e in ellipses])
    shapes = shapes.reshape(-1, 4)
    return Tube(
        frame=frame,
        settings=settings,
        slices=slices,
        heights=heights,
        raw_mm2=raw,
        area_mm2=raw * cosine,
        angle_ap=-np.degrees(np.arctan(slopes[:, 0])),
        angle_rl=np.degrees(np.arctan(slopes[:, 1])),
        diameter_ap=shapes[:, 0],
        diameter_rl=shapes[:, 1],
        eccentricity=shapes[:, 2],
        orientation=shapes[:, 3],
        solidity=np.array([s.solidity for s in sections]),
        length_mm=frame.spacing_mm / cosine,
        regions=np.array([s.regions for s in sections], dtype=np.int64),
        peak=peaks[slices],
        end=end,
        line=line,
    )


@dataclass(frozen=True, eq=False)
class _Section:
    """One slice: sum of all values, and centre and pixels of the largest region."""

    sum: float
    regions: int
    centre: Floats
    places: Floats
    weights: Floats
    solidity: float

    @classmethod
    def of(cls, frame: SliceFrame, number: int, image: NDArray[np.generic], peak: float) -> _Section:
        total = float(image.sum(dtype=np.float64))
        # Work in the box of what is there; background of soft maps is cut off for the shape, not for the sum.
        keep = image > _TAIL * peak
        rows, columns = np.flatnonzero(keep.any(1)), np.flatnonzero(keep.any(0))
        corner = np.array([rows[0], columns[0]])
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        part = np.where(keep[box], image[box], 0).astype(np.float64)
        labels, regions = ndimage.label(part > peak / 2, structure=np.ones((3, 3)))
        if regions > 1:
            part, labels = _largest(part, labels)
        pixels = np.argwhere(part > 0)
        weights = part[tuple(pixels.T)]
        voxels = frame.voxels(np.full(len(pixels), number), pixels + corner)
        world = frame.grid.world(voxels)
        centre = np.average(world, axis=0, weights=weights)
        places = (world - centre) @ np.stack([frame.right, frame.anterior], axis=-1)
        return cls(total, regions, centre, places, weights, solidity_of(labels > 0))

    def ellipse(self, slopes: Floats) -> Ellipse:
        if not np.isfinite(slopes).all():
            return Ellipse(np.nan, np.nan, np.nan, np.nan)
        return ellipse_of(self.places, self.weights, slopes)


def _largest(part: Floats, labels: NDArray[np.int32]) -> tuple[Floats, NDArray[np.int32]]:
    """Keep the region with the largest sum; softer voxels go with the region that they are nearest to."""
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    owner = labels[tuple(nearest)]
    sums = ndimage.sum_labels(part, owner, np.arange(1, owner.max() + 1))
    best = int(np.argmax(sums)) + 1
    return np.where(owner == best, part, 0.0), np.where(labels == best, labels, 0)
