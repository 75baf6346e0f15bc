"""Smoothing, component filtering and renormalisation of posteriors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_REACH = 4.0  # standard deviations that the Gaussian covers
_NOTHING = 1e-6  # a sum of posteriors below this is 0


def clean(
    raw: Tensor, smooth_voxels: float, threshold: float | None, groups: Sequence[Sequence[int]]
) -> Tensor:
    """Raw outputs (1 + S, X, Y, Z) → posteriors of the structures (S, X, Y, Z), float32.

    Args:
        raw: background first.
        smooth_voxels: standard deviation; 0: none.
        threshold: of components; None: all stay.
        groups: channels (background is 0) that are filtered together.
    """
    device = raw.device
    posteriors = raw.float().softmax(0).cpu().numpy()
    if smooth_voxels > 0:
        for channel in posteriors:  # one at a time: never a second copy of all
            ndimage.gaussian_filter(channel, smooth_voxels, output=channel, mode="nearest", truncate=_REACH)
    if threshold is not None:
        keep_pieces(posteriors, threshold, groups)
        renormalise(posteriors)
    return torch.from_numpy(posteriors[1:]).clamp_(0, 1).to(device)


def keep_pieces(posteriors: NDArray[np.float32], threshold: float, groups: Sequence[Sequence[int]]) -> None:
    """Zero structures outside the largest piece of all of them, then of each group; in place."""
    for channels in [range(1, len(posteriors)), *groups]:
        total = np.zeros(posteriors.shape[1:], np.float32)
        for channel in channels:
            total += posteriors[channel]
        kept = largest(total > threshold)
        for channel in channels:
            posteriors[channel] *= kept


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest component of a mask, the first in array order of equal ones; nothing where the mask is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = labels == int(sizes.argmax())
    return kept


def renormalise(posteriors: NDArray[np.float32]) -> None:
    """Divide by the sum over channels; background 1 where nothing is left. In place."""
    total = posteriors.sum(0)
    empty = total < _NOTHING
    total[empty] = 1
    posteriors /= total
    posteriors[:, empty] = 0
    posteriors[0, empty] = 1
