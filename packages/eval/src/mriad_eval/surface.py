"""Surface distances of one structure of one case, in mm.

The boundary of a mask is the mask minus its erosion by the 6-neighbour cross; a voxel at the border of the
image is boundary. Let A be the distances from boundary voxels of the prediction to the nearest one of the
reference, and B the other way; the metrics differ only in how they join A and B.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from mriad_eval.masks import mask_of, situation

if TYPE_CHECKING:
    from mriad.geometry import Grid
    from numpy.typing import NDArray

_CROSS = ndimage.generate_binary_structure(3, 1)


def asd_from_prediction(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return mean A."""
    a, _, note = directed_distances(prediction, reference, grid, validity)
    return (math.nan if note else float(a.mean())), note


def asd_from_reference(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return mean B."""
    _, b, note = directed_distances(prediction, reference, grid, validity)
    return (math.nan if note else float(b.mean())), note


def assd_pooled(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return (ΣA + ΣB) / (#A + #B)."""
    a, b, note = directed_distances(prediction, reference, grid, validity)
    return (math.nan if note else float((a.sum() + b.sum()) / (a.size + b.size))), note


def assd_mean_of_two(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[float, str]:
    """Return (mean A + mean B) / 2."""
    a, b, note = directed_distances(prediction, reference, grid, validity)
    return (math.nan if note else float(a.mean() + b.mean()) / 2.0), note


def directed_distances(
    prediction: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: Grid,
    validity: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return A, B in mm (one value a boundary voxel) and the note; both are empty unless the note is "".

    Axes of the grid are taken as perpendicular, which every scanner's are; a sheared affine measures along
    its axes.
    """
    p, g = mask_of(prediction, validity), mask_of(reference, validity)
    note = situation(bool(p.any()), bool(g.any()))
    if note:
        return np.empty(0), np.empty(0), note
    box = _box_around(p | g)
    p, g = p[box], g[box]
    valid = None if validity is None else np.asarray(validity, dtype=bool)[box]
    surface_p, surface_g = _boundary(p, valid), _boundary(g, valid)
    if not (surface_p.any() and surface_g.any()):
        # A mask that fills all that is valid has no boundary with a valid neighbour: the cut itself is all
        # there is.
        surface_p, surface_g = _boundary(p, None), _boundary(g, None)
    to_g = ndimage.distance_transform_edt(~surface_g, sampling=grid.spacing)
    to_p = ndimage.distance_transform_edt(~surface_p, sampling=grid.spacing)
    return to_g[surface_p], to_p[surface_g], ""


def _boundary(mask: NDArray[np.bool_], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Mask voxels with a 6-neighbour that is known to be outside.

    An invalid neighbour is unknown, not background: the edge of an annotation is no surface of the structure.
    """
    solid = mask if valid is None else mask | ~valid
    surface: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(solid, _CROSS, border_value=0)
    return surface


def _box_around(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The bounding box of a mask with one voxel around it; distances between its voxels do not see beyond."""
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    x, y, z = (slice(max(s.start - 1, 0), s.stop + 1) for s in found)
    return x, y, z
