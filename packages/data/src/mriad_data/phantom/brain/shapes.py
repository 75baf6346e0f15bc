"""Smooth solids as implicit functions: distance to the boundary in mm, to first order; negative inside.

All take points (3, n) float32 in the anatomy's own frame (mm, R A S) and give float32 (n,). Near the boundary the
gradient's length is 1 to within a few percent, which is what partial volumes need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.session import rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = NDArray[np.float32]
    Vector = tuple[float, float, float]
    Box = tuple[Vector, Vector]

F = np.float32


def superellipsoid(u: Any, v: Any, w: Any, axes: tuple[Any, Any, Any], power: float = 2.0) -> Any:
    """Distance to |u/a|^p + |v/b|^p + |w/c|^p = 1, to first order: (k − 1) / |∇k|, k the p-norm of the quotients.

    The coordinates are relative to the centre; semi-axes may be arrays.
    """
    a, b, c = axes
    u, v, w = np.abs(u) / a, np.abs(v) / b, np.abs(w) / c
    if power == 2:
        k = np.sqrt(u * u + v * v + w * w) + F(1e-6)
        slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2) / k + F(1e-6)
        return (k - 1) / slope
    steep = F(power - 1)
    pu, pv, pw = u**steep, v**steep, w**steep
    total = pu * u + pv * v + pw * w + F(1e-12)
    k = total ** F(1 / power)
    slope = np.sqrt((pu / a) ** 2 + (pv / b) ** 2 + (pw / c) ** 2) * k / total + F(1e-6)
    return (k - 1) / slope


def ellipse(u: Any, v: Any, a: Any, b: Any) -> Any:
    """Distance to (u/a)² + (v/b)² = 1 in the plane, to first order."""
    u, v = u / a, v / b
    k = np.sqrt(u * u + v * v) + F(1e-6)
    return (k - 1) * k / (np.sqrt((u / a) ** 2 + (v / b) ** 2) + F(1e-6))


def union(p: Any, q: Any, width: float) -> Any:
    """Smooth minimum: the edge between two solids is rounded within `width` mm (polynomial of degree 2)."""
    near = np.maximum(F(width) - np.abs(p - q), 0)
    return np.minimum(p, q) - near * near * F(0.25 / width)


def without(p: Any, q: Any, width: float) -> Any:
    """The solid p less the solid q, with a rounded edge."""
    return -union(-p, q, width)


@dataclass(frozen=True)
class Blob:
    """An ellipsoid with its axes turned."""

    centre: Vector
    axes: Vector
    """Semi-axes in mm before the turn."""
    turn_deg: Vector = (0.0, 0.0, 0.0)
    """Rotation about x, then y, then z."""

    def distance(self, points: Points) -> Any:
        """Distance in mm (n,)."""
        local = self._frame @ points
        local -= (self._frame @ np.array(self.centre, F))[:, None]
        a, b, c = (F(axis) for axis in self.axes)
        return superellipsoid(local[0], local[1], local[2], (a, b, c))

    @cached_property
    def _frame(self) -> NDArray[np.float32]:
        return rotation(np.deg2rad(self.turn_deg)).T.astype(F)

    @cached_property
    def box(self) -> Box:
        """Opposite corners of the box around it, in mm."""
        turn = rotation(np.deg2rad(self.turn_deg))
        reach = np.sqrt(((turn * np.array(self.axes)) ** 2).sum(1))
        return _corners(np.array([self.centre]), reach)


@dataclass(frozen=True)
class Tube:
    """A bent tube: round about a chain of points, its radius linear between them."""

    points: tuple[Vector, ...]
    radii: tuple[float, ...]
    join_mm: float = 2.0
    """Smoothing where links meet."""

    def distance(self, points: Points) -> Any:
        """Distance in mm (n,)."""
        out: Any = None
        for i in range(len(self.points) - 1):
            start = np.array(self.points[i], F)
            edge = np.array(self.points[i + 1], F) - start
            offset = points - start[:, None]
            along = np.clip((edge / F(edge @ edge)) @ offset, 0, 1)
            offset -= edge[:, None] * along
            link = np.sqrt((offset * offset).sum(0))
            link -= F(self.radii[i]) + F(self.radii[i + 1] - self.radii[i]) * along
            out = link if out is None else union(out, link, self.join_mm)
        return out

    @cached_property
    def box(self) -> Box:
        """Opposite corners of the box around it, in mm."""
        return _corners(np.array(self.points), np.full(3, max(self.radii) + self.join_mm / 4))


Solid = Blob | Tube


def _corners(points: Any, reach: Any) -> Box:
    low, high = points.min(0) - reach, points.max(0) + reach
    return (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))
