"""Tubes with closed forms, sampled on any grid: cylinders, cones and arcs, hard (voxel centres) or soft (shares)."""

from __future__ import annotations

import numpy as np
from mriad.geometry import Grid


def grid_of(spacing, size, affine_turn=None, shift=(0.0, 0.0, 0.0)) -> Grid:
    """A grid of `size` mm around the origin; `affine_turn`: rotation (3, 3) of its axes."""
    spacing = np.array(spacing, dtype=float)
    shape = np.maximum(1, np.round(np.array(size) / spacing)).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if affine_turn is None else affine_turn) * spacing
    matrix[:3, 3] = -matrix[:3, :3] @ ((shape - 1) / 2) + np.array(shift)
    return Grid.of(shape.tolist(), matrix)


def sampled(distance, grid: Grid, *, soft: bool, times=(6, 6, 6)) -> np.ndarray:
    """Share of each voxel where `distance(points)` (about mm outside the surface) is below 0; float32 (X, Y, Z)."""
    centres = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    d = distance(centres)
    out = (d < 0).astype(np.float32)
    if not soft:
        return out
    reach = np.linalg.norm(grid.matrix[:3, :3], axis=0).sum() / 2 * 1.2
    near = np.argwhere(np.abs(d) < reach)
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in times]
    total = np.zeros(len(near))
    for offset in np.stack(np.meshgrid(*offsets, indexing="ij"), -1).reshape(-1, 3):
        total += distance(grid.world(near + offset)) < 0
    out[tuple(near.T)] = total / np.prod(times)
    return out


def direction(coronal: float, sagittal: float) -> np.ndarray:
    """Unit axis with slopes tan(coronal) to the right and tan(sagittal) to anterior, in degrees."""
    axis = np.array([np.tan(np.radians(coronal)), np.tan(np.radians(sagittal)), 1.0])
    return axis / np.linalg.norm(axis)


def cylinder(radius: float, axis, through=(0.0, 0.0, 0.0)):
    """Distance from an endless cylinder."""
    return cone(radius, 0.0, axis, through)


def cone(radius: float, growth: float, axis, through=(0.0, 0.0, 0.0)):
    """A cone whose radius is `radius` at `through` and grows by `growth` mm per mm along the axis."""

    def distance(points):
        offset = points - np.array(through)
        along = offset @ axis
        across = np.sqrt(np.maximum((offset**2).sum(-1) - along**2, 0))
        return across - (radius + growth * along)

    return distance


def arc(radius: float, bend: float):
    """Part of a torus: the axis is a circle of radius `bend` in the sagittal plane, upright at the origin."""

    def distance(points):
        to_axis = np.hypot(points[..., 1] + bend, points[..., 2]) - bend
        return np.hypot(to_axis, points[..., 0]) - radius

    return distance
