"""Connected components of a predicted structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RANK = {6: 1, 18: 2, 26: 3}  # in how many axes at once a neighbour may differ


def decided(probabilities: NDArray[np.float32], structure: int) -> NDArray[np.bool_]:
    """Where (S, X, Y, Z) probabilities decide for a structure: p > 0.5, or above all others and the rest."""
    p = probabilities[structure]
    others = np.delete(np.arange(len(probabilities)), structure)
    chosen = p > 1 - probabilities.sum(0)
    for other in others:
        chosen &= p > probabilities[other]
    return chosen | (p > 0.5)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around the true voxels; there must be one."""
    slices = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(slices)


def keep_largest(
    probabilities: NDArray[np.float32],
    structure: int,
    spacing: Sequence[float],
    connectivity: int,
    rim_mm: float,
) -> NDArray[np.float32]:
    """Zero a structure outside its largest component and the soft rim around that.

    Args:
        probabilities: (S, X, Y, Z).
        structure: channel.
        spacing: voxel size in mm.
        connectivity: 6, 18 or 26.
        rim_mm: width of the rim in mm.
    """
    mask = decided(probabilities, structure)
    out = probabilities.copy()
    if not mask.any():
        return out
    # Work in boxes: the labels and distances of a whole head would cost several times the prediction.
    around = _box(mask)
    labels, count = ndimage.label(mask[around], ndimage.generate_binary_structure(3, RANK[connectivity]))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = np.zeros(mask.shape, dtype=bool)
    kept[around] = labels == int(sizes.argmax()) + 1

    reach = [int(rim_mm / s) + 1 for s in spacing]
    near = tuple(slice(max(0, box.start - r), box.stop + r) for box, r in zip(_box(kept), reach, strict=True))
    inside = kept[near]
    rim = ndimage.distance_transform_edt(~inside, sampling=spacing) <= rim_mm
    stays = inside | (rim & ~mask[near])
    channel = np.zeros_like(out[structure])
    channel[near] = np.where(stays, out[structure][near], 0)
    out[structure] = channel
    return out
