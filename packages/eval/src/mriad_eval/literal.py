"""What some published programs compute, faults included, to compare with their printed numbers. Never for a verdict.

They know no spacing (distances are in voxels) and no validity (what is not annotated is cleared on both sides).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from mriad_eval.distances import boundary, directed
from mriad_eval.masks import mask_of, situation

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

_VOXELS = (1.0, 1.0, 1.0)


def anima_asd(pair: StructurePair) -> tuple[float, str]:
    """Average surface distance of Anima's segmentation performance analyser, in voxels.

    The running minimum over the other contour is not reset from one contour point to the next, so each distance is
    the smallest that any point so far has had, and the mean collapses: .0031 instead of .6885 for a cube of 10³
    voxels shifted by 2. Points come with the first axis fastest; both directions are pooled.
    """
    p, g, note = _masks(pair)
    if note:
        return np.nan, note
    # C order of the turned arrays is the order in which the program walks through the image.
    p, g = (boundary(np.ascontiguousarray(mask.T)) for mask in (p, g))
    both = p & g
    a, b = directed(p, g, both, _VOXELS), directed(g, p, both, _VOXELS)
    total = np.minimum.accumulate(a).sum() + np.minimum.accumulate(b).sum()
    return float(total / (a.size + b.size)), ""


def synthseg_surface(pair: StructurePair, quantity: str) -> tuple[float, str]:
    """Surface distances as SynthSeg's evaluation has them: "assd", "hd" or "hd95" (pooled), in voxels.

    The boundary are voxels at distance 1 inside, so that none is at the border of the image; the symmetric mean is
    the mean of the two directed means; where a mask is empty the value is the largest size of the image.
    """
    p, g, note = _masks(pair)
    if note:
        return float(max(pair.grid.shape)), note
    p, g = (ndimage.distance_transform_edt(mask) == 1 for mask in (p, g))
    if not (p.any() and g.any()):
        return float(max(pair.grid.shape)), note
    both = p & g
    a, b = directed(p, g, both, _VOXELS), directed(g, p, both, _VOXELS)
    if quantity == "assd":
        return float((a.mean() + b.mean()) / 2), ""
    return float(np.percentile(np.concatenate([a, b]), 95 if quantity == "hd95" else 100)), ""


def synthseg_dice(pair: StructurePair) -> tuple[float, str]:
    """Dice with 1e-5 in the denominator only: two empty masks give 0."""
    p, g, note = _masks(pair)
    both = float(np.count_nonzero(p & g))
    return 2 * both / (np.count_nonzero(p) + np.count_nonzero(g) + 1e-5), note


def ssl4mis_hd95(pair: StructurePair) -> tuple[float, str]:
    """HD95 as in SSL4MIS: MedPy's pooled percentile in voxels, and 0, the best value, wherever a mask is empty."""
    p, g, note = _masks(pair)
    if note:
        return 0.0, note
    p, g = boundary(p), boundary(g)
    both = p & g
    return float(
        np.percentile(np.concatenate([directed(p, g, both, _VOXELS), directed(g, p, both, _VOXELS)]), 95)
    ), ""


def _masks(pair: StructurePair) -> tuple[Mask, Mask, str]:
    p, g = mask_of(pair.prediction, pair.validity), mask_of(pair.reference, pair.validity)
    return p, g, situation(bool(p.any()), bool(g.any()))
