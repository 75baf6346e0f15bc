"""A pair cut into its slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mriad_eval.masks import THRESHOLD

if TYPE_CHECKING:
    from mriad.metric import CaseMetric
    from mriad.structure_pair import StructurePair


def through_plane(spacing: tuple[float, float, float]) -> int:
    """The axis with the largest spacing, to 1 %; of equals the last."""
    largest = max(spacing)
    return max(axis for axis in range(3) if spacing[axis] > 0.99 * largest)


def in_slices(pair: StructurePair, measure: CaseMetric, axis: int | None) -> list[tuple[int, float, str]]:
    """Measure every slice in which prediction or reference has an annotated voxel > .5; axis None: through-plane.

    Where the reference is nowhere above .5 but somewhere above 0, a metric of masks has nothing to measure and the
    slice gives no row; one of soft values has, and finds or misses it by its own rule, as it does in a volume.
    """
    axis = through_plane(pair.grid.spacing) if axis is None else axis
    other = tuple(a for a in range(3) if a != axis)
    present = (pair.prediction > THRESHOLD) | (pair.reference > THRESHOLD)
    faint = pair.reference > 0
    if pair.validity is not None:
        present &= pair.validity
        faint &= pair.validity
    whole = present.any(axis=other)
    found = []
    for index in np.flatnonzero(whole | faint.any(axis=other)):
        value, note = measure(slice_of(pair, axis, int(index)))
        if whole[index] or note != "empty":
            found.append((int(index), value, note))
    return found


def slice_of(pair: StructurePair, axis: int, index: int) -> StructurePair:
    """One slice as a pair of its own, one voxel thick, on its own grid."""
    place = [slice(None)] * 3
    place[axis] = slice(index, index + 1)
    cut = tuple(place)
    start, shape = [0, 0, 0], list(pair.grid.shape)
    start[axis], shape[axis] = index, 1
    return replace(
        pair,
        prediction=pair.prediction[cut],
        reference=pair.reference[cut],
        grid=pair.grid.crop(start, shape),
        validity=None if pair.validity is None else pair.validity[cut],
        annotations={name: values[cut] for name, values in pair.annotations.items()},
    )
