"""What resampling does along one axis, as a matrix of weights (new voxels, old voxels); imports scipy.

New voxel k of an axis of m voxels lies at old voxel `offset + ratio · k` of an axis of n voxels; `ratio` is new
spacing / old spacing. Beyond the outermost old voxels their value is held. Rows sum to 1. Splines, smoothing and
averages are all linear and act on one axis at a time, so a volume is resampled by one small matrix an axis
(`mriad_data.banded`) and two of them are composed by a product, without a volume in between.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

BALANCED = 1e-4
"""Relative error to which `label_weights` gives every old voxel its share."""
_ROUNDS = 1000


@functools.lru_cache(maxsize=64)
def image_weights(
    n: int, m: int, ratio: float, offset: float, order: int, sigma: float
) -> NDArray[np.float64]:
    """A spline of `order` (0 is nearest) after a Gaussian of `sigma` old voxels.

    The weights are scipy's own, `affine_transform(..., mode="nearest")` and `gaussian_filter1d(...,
    mode="nearest")`, taken by applying them to the unit vectors.
    """
    if order == 0:
        return _read_only(np.eye(n)[nearest(n, m, ratio, offset)])
    with warnings.catch_warnings():
        # scipy announces on every call that the meaning of a 1-D matrix changed in 2016.
        warnings.filterwarnings("ignore", message="The behavior of affine_transform", category=UserWarning)
        weights: NDArray[np.float64] = ndimage.affine_transform(
            np.eye(n), (ratio, 1.0), (offset, 0.0), (m, n), np.float64, order, mode="nearest"
        )
    if sigma:
        weights = weights @ ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="nearest")
    return _read_only(weights)


@functools.lru_cache(maxsize=64)
def average_weights(n: int, m: int, ratio: float, offset: float) -> NDArray[np.float64]:
    """The mean over a new voxel's own thickness, each old voxel by the length that is covered.

    This is what a scanner with a rectangular slice profile of that thickness sees of thinner slices, and the
    share of the new voxel that a structure fills. Columns sum to covered length / new length, so volume is kept.
    """
    edges = np.arange(n + 1) - 0.5
    edges[0], edges[-1] = -np.inf, np.inf
    centre = offset + ratio * np.arange(m)[:, None]
    covered = np.minimum(centre + ratio / 2, edges[1:]) - np.maximum(centre - ratio / 2, edges[:-1])
    return _read_only(np.maximum(covered, 0) / ratio)


@functools.lru_cache(maxsize=64)
def label_weights(n: int, m: int, ratio: float, offset: float) -> NDArray[np.float64]:
    """Weights for labels, none negative: values stay in their range, sums over structures and volume are kept.

    Where an axis gets coarser, `average_weights`. Where it gets finer, linear interpolation whose weights are
    balanced: plain linear weights give some old voxels more than their share and others less (by up to 9 % at
    1.5 times finer), so rows and columns are scaled in turn (Sinkhorn and Knopp, Pacific Journal of Mathematics
    1967) until every row sums to 1 and every column to the share that `average_weights` gives. Each new voxel
    still takes from its two neighbours alone. A solution exists: a new voxel that is smaller than an old one
    covers no other voxels than those two, so `average_weights` is one.
    """
    average = average_weights(n, m, ratio, offset)
    if ratio >= 1:
        return average
    share = average.sum(0)
    seen = share > 0
    weights = image_weights(n, m, ratio, offset, 1, 0.0).copy()
    for _ in range(_ROUNDS):
        given = weights.sum(0)
        if (np.abs(given - share)[seen] <= BALANCED * share[seen]).all():
            break
        weights *= np.divide(share, given, out=np.zeros(n), where=given > 0)
        weights /= weights.sum(1, keepdims=True)
    return _read_only(weights)


def nearest(n: int, m: int, ratio: float, offset: float) -> NDArray[np.intp]:
    """The old voxel nearest to each new one (the higher of two equally near)."""
    return np.clip(np.floor(offset + ratio * np.arange(m) + 0.5).astype(np.intp), 0, n - 1)


def _read_only(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    weights.setflags(write=False)
    return weights
