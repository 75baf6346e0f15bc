"""`register`: two volumes in, the transform between them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.vocabulary import Volume

from mriad_data.registration.settings import Registration
from mriad_data.registration.transform import Transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST = 4  # voxels along an axis that recursive smoothing needs
_SQUARE = 1e-4  # largest cosine between the axes of a grid that ITK can represent


@dataclass(frozen=True)
class Match:
    """What `register` found."""

    transform: Transform
    """Fixed world → moving world."""
    kept: bool
    """Whether the start (the files' own positions) was kept, as nothing better was found."""
    information: tuple[float, float]
    """Mutual information in nats at the start and at what the search found, the same points for both."""
    moved_mm: float
    """Mean distance between both over the fixed image's bright half, mm."""
    overlap: float = 0.0
    """Part of the fixed field of view that the moving image covers, or of the moving one, if that is larger."""


def register(moving: Volume, fixed: Volume, settings: Registration | None = None) -> Match:
    """Find the transform that lays a moving image on a fixed one.

    Args:
        moving: (X, Y, Z), finite, at least 4 voxels along each axis; any grid.
        fixed: the same.
        settings: see `Registration`; default: rigid, from the positions in the files.

    Raises:
        DataError: fields of view that do not overlap, a constant or non-finite image, fewer than 4 voxels
            along an axis.
    """
    settings = settings or Registration()
    from mriad_data.itk_images import from_itk, to_itk
    from mriad_data.registration.search import level, search

    pair = [_sound(volume, what) for volume, what in ((fixed, "fixed"), (moving, "moving"))]
    if settings.start == "header":
        _require_overlap(fixed.grid, moving.grid, Transform.identity(), settings, "as their files place them")
    centres = tuple(_centre(volume) for volume in pair)
    images = [to_itk(volume.data, volume.grid) for volume in pair]
    found = search(images[0], images[1], settings, centres)
    if found is None:
        raise _apart(fixed.grid, moving.grid, 0.0, settings, "at any start of the search")
    # Smooth, so that a place between voxels is hardly more blurred than one on a voxel.
    smooth = [from_itk(level(image, settings.working_mm)) for image in images]
    match = _judged(found, smooth[0], smooth[1], settings)
    _require_overlap(fixed.grid, moving.grid, match.transform, settings, "after the search")
    return replace(match, overlap=overlap(fixed.grid, moving.grid, match.transform))


def overlap(fixed: Grid, moving: Grid, transform: Transform) -> float:
    """The larger of two parts, 0 to 1: of each field of view, how much the other covers.

    Of a lattice of 24³ points in each.
    """
    parts = []
    for here, there, way in ((fixed, moving, transform), (moving, fixed, transform.inverse())):
        axes = [np.linspace(-0.5, n - 0.5, 49)[1::2] for n in here.shape]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        place = there.voxels(way(here.world(points)))
        inside = (place >= -0.5) & (place <= np.array(there.shape) - 0.5)
        parts.append(float(inside.all(1).mean()))
    return max(parts)


def _judged(found: Transform, fixed: Volume, moving: Volume, settings: Registration) -> Match:
    """Keep the start unless what was found is better by more than chance and by more than `min_gain`."""
    from mriad_data.registration.similarity import information

    start = Transform.identity()
    bright = np.argwhere(fixed.data > fixed.data.mean())[::11]
    moved = float(found.distance(start, fixed.grid.world(bright)).mean())
    values = information(fixed, moving, [start, found])
    gain = values[1] - values[0]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    before, after = (float(v) for v in values.mean(1))
    # With `centres` the files' positions mean nothing, so they are not worth keeping.
    kept = settings.start == "header" and gain.mean() <= max(settings.min_gain * before, 3 * error)
    return Match(start if kept else found, bool(kept), (before, after), moved)


def _sound(volume: Volume, what: str) -> Volume:
    """The volume as float32 on a right-angled grid, outliers held at the 0.1st and 99.9th percentile."""
    if volume.data.ndim != 3 or min(volume.grid.shape) < _FEWEST:
        shape = "×".join(map(str, volume.data.shape))
        raise DataError(
            f"the {what} image is too thin to register",
            where={"shape": shape, "expected": f"3D, at least {_FEWEST} voxels along each axis"},
            remedy="single slices cannot be placed in three dimensions: register the whole scan",
        )
    data = volume.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise DataError(
            f"the {what} image holds NaN or infinite values", where={"grid": volume.grid.describe()}
        )
    low, high = np.percentile(data, [0.1, 99.9])
    if not high > low:
        low, high = data.min(), data.max()
    if not high > low:
        raise DataError(
            f"the {what} image is constant: there is nothing to align",
            where={"value": f"{low:g}", "grid": volume.grid.describe()},
        )
    return _right_angled(Volume(np.clip(data, low, high), volume.grid))


def _right_angled(volume: Volume) -> Volume:
    """The volume itself, or resampled where its axes are sheared, which ITK cannot represent."""
    directions = volume.grid.matrix[:3, :3] / np.array(volume.grid.spacing)
    if np.abs(directions.T @ directions - np.eye(3)).max() < _SQUARE:
        return volume
    from mriad_data.registration.resampling import pulled

    spacing = np.array(volume.grid.spacing)
    corners = volume.grid.corners()
    low, high = corners.min(0), corners.max(0)
    step = float(spacing.min())
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = low
    grid = Grid.of(np.ceil((high - low) / step).astype(int) + 1, matrix)
    return pulled(volume, Transform.identity(), grid, "image", order=1, fill=float(volume.data.min()))


def _centre(volume: Volume) -> NDArray[np.float64]:
    """Centre of mass of the intensities above the smallest, world mm (3,)."""
    weight = volume.data.astype(np.float64) - float(volume.data.min())
    total = weight.sum()
    voxel = [
        float((weight.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / total)
        for axis, n in enumerate(weight.shape)
    ]
    return volume.grid.world(voxel)


def _require_overlap(
    fixed: Grid, moving: Grid, transform: Transform, settings: Registration, when: str
) -> None:
    part = overlap(fixed, moving, transform)
    if part < settings.min_overlap:
        raise _apart(fixed, moving, part, settings, when)


def _apart(fixed: Grid, moving: Grid, part: float, settings: Registration, when: str) -> DataError:
    def place(grid: Grid) -> str:
        corners = grid.corners()
        ends = [f"{a:.0f} to {b:.0f}" for a, b in zip(corners.min(0), corners.max(0), strict=True)]
        return f"x {ends[0]}, y {ends[1]}, z {ends[2]} mm"

    return DataError(
        f"two images do not overlap {when}",
        where={
            "fixed": place(fixed),
            "moving": place(moving),
            "overlap": f"{100 * part:.1f} %, expected at least {100 * settings.min_overlap:g} %",
        },
        remedy="check that both show the same part of the body; `start: centres` puts their centres of mass "
        "together first, for files whose positions are unrelated",
    )
