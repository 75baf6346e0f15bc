"""Mutual information of two images under a transform, from a joint histogram at random points; imports scipy.

It is not the measure that the search climbs: whether a found transform is better than the start is judged by
another estimator, at points that the search did not see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from mriad.vocabulary import Volume
    from numpy.typing import NDArray

    from mriad_data.registration.transform import Transform

_BINS = 32
_GROUPS = 8


def mutual_information(joint: NDArray[np.integer[Any]]) -> float:
    """Mutual information in nats of a joint histogram of counts (A, B); 0 of an empty one.

    Too large by about (A − 1)(B − 1) / 2N for N independent pairs (G. A. Miller, 1955).
    """
    total = joint.sum()
    if not total:
        return 0.0
    share = joint / total
    expected = share.sum(1, keepdims=True) * share.sum(0, keepdims=True)
    seen = share > 0
    return float((share[seen] * np.log(share[seen] / expected[seen])).sum())


def information(
    fixed: Volume, moving: Volume, transforms: list[Transform], points: int = 160_000, seed: int = 2
) -> NDArray[np.float64]:
    """Mutual information (T, 8) of several transforms at the same points, each in 8 groups of points.

    A point counts for all transforms or for none: those inside the moving image under each of them. Where
    these are fewer than a quarter of what the last transform alone would have, each transform has its own.

    Args:
        fixed: (X, Y, Z), smooth enough that interpolation between its voxels changes little.
        moving: the same.
        transforms: fixed world → moving world.
        points: how many are drawn in the fixed image, anywhere between voxel centres.
        seed: of the draw.
    """
    draw = np.random.default_rng(seed)
    voxels = draw.uniform(0, np.array(fixed.grid.shape) - 1, (points, 3))
    values = _at(fixed, voxels)
    world = fixed.grid.world(voxels)
    places = [moving.grid.voxels(transform(world)) for transform in transforms]
    inside = [((p >= 0) & (p <= np.array(moving.grid.shape) - 1)).all(1) for p in places]
    common = np.logical_and.reduce(inside)
    if common.sum() * 4 >= inside[-1].sum():
        inside = [common] * len(inside)
    seen = _bins(fixed, values)
    group = np.arange(points) % _GROUPS
    result = np.zeros((len(transforms), _GROUPS))
    for t, (place, chosen) in enumerate(zip(places, inside, strict=True)):
        other = _bins(moving, _at(moving, place[chosen]))
        pair = (group[chosen] * _BINS + seen[chosen]) * _BINS + other
        joint = np.bincount(pair, minlength=_GROUPS * _BINS**2).reshape(_GROUPS, _BINS, _BINS)
        result[t] = [mutual_information(part) for part in joint]
    return result


def _at(volume: Volume, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = ndimage.map_coordinates(volume.data, voxels.T, order=1, mode="nearest")
    return out


def _bins(volume: Volume, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bins 0 to 31 of values, equal parts of the volume's range."""
    low, high = float(volume.data.min()), float(volume.data.max())
    out: NDArray[np.int64] = ((values - low) / max(high - low, 1e-30) * _BINS).astype(np.int64)
    return np.clip(out, 0, _BINS - 1)
