"""Label maps → one probabilistic atlas: affine alignment by the structures themselves, average, smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from mriad.geometry import Grid
from scipy import ndimage

from mriad_synthseg.atlas import Atlas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mriad.vocabulary import LabelSet
    from numpy.typing import NDArray

_FEWEST = 8
"""Structures that two maps must share for an affine by their centres; with fewer, sizes are matched."""
_ROUNDS = 5  # of generalised Procrustes; the mean shape moves less than a tenth of a millimetre after three


@dataclass(frozen=True, eq=False)
class Indexed:
    """One label map as indices (X, Y, Z): 0 background, s + 1 structure s of the label set."""

    data: NDArray[np.integer]
    grid: Grid


@dataclass(frozen=True, eq=False)
class Shape:
    """What a map is aligned by. centres: (S, 3) world mm, NaN where absent. centre (3,), spread (3,): of all, mm."""

    centres: NDArray[np.float64]
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]


def shape_of(found: Indexed, structures: int) -> Shape:
    """Centres of mass of the structures of a map.

    Raises:
        DataError: the map holds no structure.
    """
    counts = np.bincount(found.data.ravel(), minlength=structures + 1)[1 : structures + 1].astype(float)
    if not counts.any():
        raise DataError("a label map holds no structure", where={"grid": found.grid.describe()})
    sums = np.zeros((structures, 3))
    squares = np.zeros((structures, 3))
    for axis in range(3):
        # How often each structure occurs in each plane says all that a mean along that axis needs.
        planes = np.moveaxis(found.data, axis, 0).reshape(found.data.shape[axis], -1)
        for place, plane in enumerate(planes):
            there = np.bincount(plane, minlength=structures + 1)[1 : structures + 1]
            sums[:, axis] += there * place
            squares[:, axis] += there * place**2
    with np.errstate(invalid="ignore"):
        voxels = sums / counts[:, None]
    centres = found.grid.world(np.where(np.isfinite(voxels), voxels, 0))
    centres[counts == 0] = np.nan
    middle = sums.sum(0) / counts.sum()
    deviation = np.sqrt(np.maximum(squares.sum(0) / counts.sum() - middle**2, 1e-6))
    along = np.abs(found.grid.matrix[:3, :3])
    return Shape(centres, found.grid.world(middle), along @ deviation)


def affine_between(source: Shape, target: Shape) -> NDArray[np.float64]:
    """The affine (4, 4) that lays the structures of one map on another's, world mm.

    Least squares over the centres of shared structures; where they are fewer than 8 (or in a plane), the middles and
    the extents along the world's axes are matched.
    """
    both = np.isfinite(source.centres[:, 0]) & np.isfinite(target.centres[:, 0])
    out = np.eye(4)
    if both.sum() >= _FEWEST:
        a = source.centres[both]
        spread = np.linalg.svd(a - a.mean(0), compute_uv=False)
        if spread[2] > 0.05 * spread[0]:
            design = np.column_stack([a, np.ones(len(a))])
            out[:3] = np.linalg.lstsq(design, target.centres[both], rcond=None)[0].T
            if np.linalg.det(out[:3, :3]) > 0.2:
                return out
            out = np.eye(4)
    scale = np.clip(target.spread / source.spread, 0.5, 2)
    out[:3, :3] = np.diag(scale)
    out[:3, 3] = target.centre - scale * source.centre
    return out


def group_affines(shapes: Sequence[Shape]) -> list[NDArray[np.float64]]:
    """Affines (4, 4) from the world of each map to a common one whose shape and place are the average.

    Generalised Procrustes analysis (Gower, Psychometrika 1975) with affines: each map is laid on the mean of all, in
    turns; the average of the affines is then taken out, so that the common world has the average size and place.
    """
    mean = shapes[0]
    affines = [np.eye(4) for _ in shapes]
    for _ in range(_ROUNDS):
        affines = [affine_between(shape, mean) for shape in shapes]
        average = np.linalg.inv(np.mean([np.linalg.inv(a) for a in affines], axis=0))
        affines = [np.linalg.inv(average) @ a for a in affines]
        mean = _mean_shape([_moved(s, a) for s, a in zip(shapes, affines, strict=True)])
    return affines


def _moved(shape: Shape, affine: NDArray[np.float64]) -> Shape:
    linear = affine[:3, :3]
    return Shape(
        shape.centres @ linear.T + affine[:3, 3],
        linear @ shape.centre + affine[:3, 3],
        np.abs(linear) @ shape.spread,
    )


def _mean_shape(shapes: Sequence[Shape]) -> Shape:
    centres = np.stack([s.centres for s in shapes])
    there = np.isfinite(centres)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, centres, 0).sum(0) / count
    mean[~there.any(0)] = np.nan
    return Shape(
        mean, np.mean([s.centre for s in shapes], axis=0), np.mean([s.spread for s in shapes], axis=0)
    )


def build_atlas(
    count: int,
    read: Callable[[int], Indexed],
    label_set: LabelSet,
    spacing_mm: float,
    smooth_mm: float,
    margin_mm: float,
    message: Callable[[str], None] = lambda text: None,
) -> Atlas:
    """The atlas of some label maps, which are read twice and never held together.

    A voxel of the atlas counts, at 2 × 2 × 2 places in it, which structure the nearest voxel of each map has. Outside
    a map's field of view lies background.

    Args:
        count: number of maps.
        read: place from 0 → map.
        label_set: of the maps.
        spacing_mm: voxel size of the atlas.
        smooth_mm: standard deviation of the Gaussian that smooths the average; spreads what few maps show.
        margin_mm: background kept around the structures on each side.
        message: told what is being done.

    Raises:
        DataError: there is no map, or one holds no structure.
    """
    if count == 0:
        raise DataError("an atlas needs at least one label map")
    structures = len(label_set)
    shapes: list[Shape] = []
    boxes: list[NDArray[np.float64]] = []
    for place in range(count):
        found = read(place)
        shapes.append(shape_of(found, structures))
        boxes.append(_corners(found))
    affines = group_affines(shapes)
    grid = _grid_around(
        [_points(box, affine) for box, affine in zip(boxes, affines, strict=True)], spacing_mm, margin_mm
    )
    total = np.zeros((structures + 1, *grid.shape), np.float32)
    for place in range(count):
        message(f"atlas: map {place + 1} of {count}")
        _add_counts(total, read(place), np.linalg.inv(affines[place]), grid)
    total /= total.sum(0)
    if smooth_mm > 0:
        for channel in total:
            ndimage.gaussian_filter(channel, smooth_mm / spacing_mm, output=channel, mode="nearest")
        total /= total.sum(0)
    return Atlas(total, grid, label_set, count)


def _add_counts(total: NDArray[np.float32], found: Indexed, back: NDArray[np.floating], grid: Grid) -> None:
    """Add to (1 + S, X, Y, Z) how often each structure is met in each voxel; `back`: common world → map's world."""
    matrix = np.linalg.inv(found.grid.matrix) @ back @ grid.matrix
    flat = total.reshape(len(total), -1)
    columns = np.arange(flat.shape[1])
    for offset in _eighths():
        axes = [np.arange(n) + o for n, o in zip(grid.shape, offset, strict=True)]
        index = []
        inside = np.ones(grid.shape, bool)
        for row, size in zip(matrix[:3], found.data.shape, strict=True):
            at = (row[0] * axes[0] + row[3])[:, None, None] + (row[1] * axes[1])[:, None] + row[2] * axes[2]
            whole = np.floor(at + 0.5).astype(np.int64)
            inside &= (whole >= 0) & (whole < size)
            index.append(np.clip(whole, 0, size - 1))
        labels = np.where(inside, found.data[tuple(index)], 0).ravel()
        flat[labels, columns] += 1  # each column once, so nothing is lost


def _eighths() -> Iterator[tuple[float, float, float]]:
    """Centres of the eight parts of a voxel, in voxels from its centre."""
    for x in (-0.25, 0.25):
        for y in (-0.25, 0.25):
            for z in (-0.25, 0.25):
                yield x, y, z


def _corners(found: Indexed) -> NDArray[np.float64]:
    """World positions (8, 3) of the corners of the box around all structures."""
    boxes = ndimage.find_objects((found.data > 0).astype(np.uint8))
    low = np.array([s.start - 0.5 for s in boxes[0]])
    high = np.array([s.stop - 0.5 for s in boxes[0]])
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
    return found.grid.world(low + picks * (high - low))


def _points(points: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = points @ affine[:3, :3].T + affine[:3, 3]
    return out


def _grid_around(boxes: Sequence[NDArray[np.float64]], spacing_mm: float, margin_mm: float) -> Grid:
    """A grid along the world's axes that holds all corners and a margin."""
    points = np.concatenate(boxes)
    low, high = points.min(0) - margin_mm, points.max(0) + margin_mm
    shape = np.ceil((high - low) / spacing_mm).astype(int) + 1
    matrix = np.diag([spacing_mm] * 3 + [1.0])
    matrix[:3, 3] = low
    return Grid.of([int(n) for n in shape], matrix)
