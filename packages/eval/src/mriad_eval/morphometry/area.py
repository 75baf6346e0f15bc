"""Cross-sectional area of a tubular structure, slice by slice.

    raw area  A(z) = Σ p · pixel area     soft (uncut) or binary values near the structure, mm²
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
    regions: separate parts at half of the slice's largest value; the area counts those within `reach_mm` of the
    largest, direction and shape the largest. peak: largest value. end: true where the slice was dropped as an end.
    left_out: numbers (m,) of slices of the structure that are not measured, since it touches voxels that are not
    annotated.
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
    left_out: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def note(self) -> str:
        """What a reader must know of these numbers; empty where all is plain."""
        if not len(self) and not len(self.left_out):
            return "the structure is in no slice"
        parts = []
        if self.line is None:
            parts.append("too few slices for a direction: no corrected area")
        for count, what in (
            (len(self.left_out), "left out (the structure touches voxels that are not annotated)"),
            (
                int((self.regions > 1).sum()),
                f"of several regions (those within {self.settings.reach_mm:g} mm of the largest are counted)",
            ),
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
    leave_out: NDArray[np.int64] | None = None,
) -> Tube:
    """Measure a structure.

    A slice's area sums the uncut values within `settings.reach_mm` of its largest region, so that it depends neither
    on the field of view nor on what lies elsewhere; nothing near the structure is cut off.

    Args:
        values: (X, Y, Z) in [0, 1]; of any orientation, oblique affines included.
        grid: of the voxels; slices run along the axis nearest to world z.
        settings: see `TubeSettings`.
        validity: (X, Y, Z), false where not annotated: values there count as 0.
        leave_out: numbers of slices that are not measured, such as `left_out` of the reference's tube. None: those in
            which the largest region touches (by edge or corner, within the slice) a voxel that is not annotated.
    """
    frame = SliceFrame.of(grid)
    stack = frame.stack(values)
    known = None if validity is None else frame.stack(validity)
    if known is not None:
        stack = np.where(known, stack, np.float32(0))
    if settings.values == "binary":
        stack = stack > 0.5
    peaks = stack.max(axis=(1, 2), initial=0).astype(np.float64)
    present = np.flatnonzero(peaks >= PRESENT)
    cut = [_Section.of(frame, int(k), stack[k], float(peaks[k]), settings.reach_mm) for k in present]
    if leave_out is not None:
        out = np.isin(present, leave_out)
    elif known is not None:
        out = np.array([s.touches(~known[k]) for k, s in zip(present, cut, strict=True)], dtype=bool)
    else:
        out = np.zeros(len(present), dtype=bool)
    slices = present[~out]
    sections = [s for s, dropped in zip(cut, out, strict=True) if not dropped]
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
        left_out=present[out],
    )


@dataclass(frozen=True, eq=False)
class _Section:
    """One slice: sum of the values near the largest region, and centre and pixels of that region.

    corner: of the box in the slice that `core`, the largest region at half of the largest value, is given in.
    """

    sum: float
    regions: int
    centre: Floats
    places: Floats
    weights: Floats
    solidity: float
    corner: NDArray[np.int64]
    core: NDArray[np.bool_]

    @classmethod
    def of(
        cls, frame: SliceFrame, number: int, image: NDArray[np.generic], peak: float, reach_mm: float
    ) -> _Section:
        # Work in the box of what is there; background of soft maps is cut off for the shape, not for the sum.
        keep = image > _TAIL * peak
        rows, columns = np.flatnonzero(keep.any(1)), np.flatnonzero(keep.any(0))
        corner = np.array([rows[0], columns[0]])
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        part = np.where(keep[box], image[box], 0).astype(np.float64)
        labels, regions = ndimage.label(part > peak / 2, structure=np.ones((3, 3)))
        if regions > 1:
            part, labels = _largest(part, labels)
        core = labels > 0
        around, near = _near(core, corner, image.shape, frame, reach_mm)
        total = float(image[around].sum(dtype=np.float64, where=near))
        within = np.zeros(image.shape, dtype=bool)
        within[around] = near
        part = np.where(within[box], part, 0.0)
        pixels = np.argwhere(part > 0)
        weights = part[tuple(pixels.T)]
        voxels = frame.voxels(np.full(len(pixels), number), pixels + corner)
        world = frame.grid.world(voxels)
        centre = np.average(world, axis=0, weights=weights)
        places = (world - centre) @ np.stack([frame.right, frame.anterior], axis=-1)
        return cls(total, regions, centre, places, weights, solidity_of(core), corner, core)

    def touches(self, unknown: NDArray[np.bool_]) -> bool:
        """Whether the largest region lies beside (by edge or corner) a pixel of `unknown`, the whole slice's."""
        whole = np.zeros(unknown.shape, dtype=bool)
        (top, left), (rows, columns) = self.corner, self.core.shape
        whole[top : top + rows, left : left + columns] = self.core
        return bool((ndimage.binary_dilation(whole, np.ones((3, 3))) & unknown).any())

    def ellipse(self, slopes: Floats) -> Ellipse:
        if not np.isfinite(slopes).all():
            return Ellipse(np.nan, np.nan, np.nan, np.nan)
        return ellipse_of(self.places, self.weights, slopes)


def _near(
    core: NDArray[np.bool_],
    corner: NDArray[np.int64],
    shape: tuple[int, ...],
    frame: SliceFrame,
    reach_mm: float,
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """The box of a slice that holds all within `reach_mm` of a region, and which of its pixels do.

    Distances are between centres of pixels, with their edges (from the affine) as steps.
    """
    edges = np.delete(np.linalg.norm(frame.grid.matrix[:3, :3], axis=0), frame.axis)
    margin = np.ceil(reach_mm / edges).astype(np.int64)
    first = np.array([np.flatnonzero(core.any(1))[0], np.flatnonzero(core.any(0))[0]]) + corner
    last = np.array([np.flatnonzero(core.any(1))[-1], np.flatnonzero(core.any(0))[-1]]) + corner
    low, high = np.maximum(first - margin, 0), np.minimum(last + margin + 1, shape)
    away = np.ones(high - low, dtype=bool)
    rows, columns = np.nonzero(core)
    away[rows + corner[0] - low[0], columns + corner[1] - low[1]] = False
    near = ndimage.distance_transform_edt(away, sampling=edges) <= reach_mm
    return (slice(low[0], high[0]), slice(low[1], high[1])), near


def _largest(part: Floats, labels: NDArray[np.int32]) -> tuple[Floats, NDArray[np.int32]]:
    """Keep the region with the largest sum; softer voxels go with the region that they are nearest to."""
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    owner = labels[tuple(nearest)]
    sums = ndimage.sum_labels(part, owner, np.arange(1, owner.max() + 1))
    best = int(np.argmax(sums)) + 1
    return np.where(owner == best, part, 0.0), np.where(labels == best, labels, 0)
