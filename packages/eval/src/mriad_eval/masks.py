"""What every metric does first: cut to the valid voxels, binarise, and name the empty situations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mriad.structure_pair import StructurePair
    from numpy.typing import NDArray

THRESHOLD = 0.5  # a mask is > .5: ties go to the background (EVIDENCE.md section 2)


@dataclass(frozen=True, eq=False)
class Masks:
    """Both masks of a pair, cut to the box that holds them; made once a pair.

    prediction, reference: bool, in the order of axes that lies in memory; valid: the same box, None where all is
    annotated. spacing: mm along these axes. flat: axes along which the image has one voxel. box: place of the box in
    the image, in the image's own order of axes. counts are those of the whole image.
    """

    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    valid: NDArray[np.bool_] | None
    spacing: tuple[float, float, float]
    flat: tuple[bool, bool, bool]
    in_prediction: int
    in_reference: int
    in_both: int
    annotated: int
    voxel_volume: float

    @classmethod
    def of(cls, pair: StructurePair) -> Masks:
        """The masks of a pair, made at the first call."""
        return pair.shared("eval.masks", _masks)

    @property
    def note(self) -> str:
        """The situation: "", "miss", "empty" or "false positive"."""
        return situation(self.in_prediction > 0, self.in_reference > 0)


def _masks(pair: StructurePair) -> Masks:
    prediction, reference, valid = pair.prediction, pair.reference, pair.validity
    spacing, shape = pair.grid.spacing, pair.grid.shape
    if prediction.flags.f_contiguous and not prediction.flags.c_contiguous:  # as nibabel reads
        prediction, reference = prediction.T, reference.T
        valid = None if valid is None else valid.T
        spacing, shape = spacing[::-1], shape[::-1]
    p, g = mask_of(prediction, valid), mask_of(reference, valid)
    box = box_around(p, g)
    p, g = (np.ascontiguousarray(mask[box]) for mask in (p, g))
    x, y, z = (n == 1 for n in shape)
    return Masks(
        prediction=p,
        reference=g,
        valid=None if valid is None else np.ascontiguousarray(valid[box]),
        spacing=spacing,
        flat=(x, y, z),
        in_prediction=int(np.count_nonzero(p)),
        in_reference=int(np.count_nonzero(g)),
        in_both=int(np.count_nonzero(p & g)),
        annotated=prediction.size if valid is None else int(np.count_nonzero(valid)),
        voxel_volume=pair.grid.voxel_volume,
    )


def box_around(*masks: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The box that holds all masks, with one voxel around it; all of length 0 where they are empty."""
    found = []
    for mask in masks:
        # Along the slowest axis `any` stops at the first hit; the other axes look only between its ends.
        rows = np.flatnonzero(np.ascontiguousarray(mask).reshape(len(mask), -1).any(axis=1))
        if rows.size:
            plane = np.logical_or.reduce(mask[rows[0] : rows[-1] + 1], axis=0)
            found.append([rows, *(np.flatnonzero(plane.any(axis=a)) for a in (1, 0))])
    if not found:
        return (slice(0, 0),) * 3
    box = []
    for axis in zip(*found, strict=True):
        first, last = min(int(a[0]) for a in axis), max(int(a[-1]) for a in axis)
        box.append(slice(max(first - 1, 0), last + 2))
    return tuple(box)


def mask_of(values: NDArray[np.float32], validity: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return the binary mask (X, Y, Z) of values in [0, 1], false where invalid."""
    mask: NDArray[np.bool_] = np.asarray(values) > THRESHOLD
    return mask if validity is None else mask & validity


def valid_values(values: NDArray[np.float32], validity: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the valid values as one float64 row, so that sums over millions of voxels stay exact."""
    kept = values if validity is None else values[validity]
    return np.asarray(kept, dtype=np.float64).ravel()


def situation(prediction_found: bool, reference_present: bool) -> str:
    """Return the note: "", "miss", "empty" or "false positive"."""
    if prediction_found:
        return "" if reference_present else "false positive"
    return "miss" if reference_present else "empty"
