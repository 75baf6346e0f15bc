"""Share of each voxel that lies in an elliptic tube around the centre line: exact along one axis, Gauss along two.

A point's foot on the centre line gives (u, v) in the normal plane; the tube is (u/a)² + ((v − v0)/b)² ≤ 1. Along a
straight line through a voxel that condition is a quadratic, so the length inside is closed form; Gauss-Legendre
quadrature over the other two axes of the voxel gives the share. Tubes grown by several shifts share the coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.anatomy import STEP_MM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.phantom.anatomy import Tables

    Box = tuple[slice, slice, slice]

CHUNK = 2048  # boundary voxels at a time; keeps the work in the processor's cache
LONG = 1.5  # a voxel edge this much longer than the shortest gets more quadrature points
SLAB_MM = 6.0


@dataclass(frozen=True, eq=False)
class Coverage:
    """Shares of the voxels that a tube touches.

    index: flat C-order voxel indices (n,). values: float32 (n, number of shifts), in [0, 1]; other voxels hold 0.
    row: index into the tables of the voxel's foot on the centre line (n,). u, v: its coordinates in mm (n,).
    """

    shape: tuple[int, int, int]
    index: NDArray[np.int64]
    values: NDArray[np.float32]
    row: NDArray[np.int32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    def dense(self, column: int) -> NDArray[np.float32]:
        """The shares of one shift as a volume (X, Y, Z)."""
        return self.fill(self.values[:, column])

    def fill(self, values: NDArray[Any]) -> NDArray[Any]:
        """Any values (n,) on the touched voxels as a volume (X, Y, Z), 0 elsewhere."""
        out = np.zeros(self.shape, dtype=values.dtype)
        out.reshape(-1)[self.index] = values
        return out


def boxes(grid: Grid, tables: Tables, reach_mm: float | Sequence[float]) -> Iterator[Box]:
    """Boxes of voxels, slab by slab along the third axis, that hold every point near the centre line.

    `reach_mm`: a distance, or the semi-axes R, A, S of an ellipsoid around each point of the line.
    """
    inverse = np.linalg.inv(grid.matrix)
    points = np.stack([tables.columns[name][::10] for name in ("x", "y", "z")], -1)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    reach = np.linalg.norm(inverse[:3, :3] * np.asarray(reach_mm), axis=1)
    step = max(1, round(SLAB_MM / grid.spacing[2]))
    for start in range(0, grid.shape[2], step):
        stop = min(start + step, grid.shape[2])
        near = voxels[(voxels[:, 2] > start - 1 - reach[2]) & (voxels[:, 2] < stop + reach[2])]
        if not len(near):
            continue
        # Only points of the line whose sphere meets the slab count; the sphere's shadow bounds the other axes.
        low = np.floor(near.min(0) - reach).astype(int)[:2]
        high = np.ceil(near.max(0) + reach).astype(int)[:2] + 1
        low, high = np.maximum(low, 0), np.minimum(high, grid.shape[:2])
        if (low < high).all():
            yield (slice(low[0], high[0]), slice(low[1], high[1]), slice(start, stop))


def axes(grid: Grid, box: Box, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Anatomy coordinates x, y, z of the voxel centres of a box, as arrays that broadcast to its shape."""
    matrix = grid.matrix
    i, j, k = (np.arange(s.start, s.stop, dtype=np.float64) for s in box)
    i, j, k = i[:, None, None], j[None, :, None], k[None, None, :]
    out = []
    for row in range(3):
        value = np.full((1, 1, 1), matrix[row, 3])
        for step, axis in zip(matrix[row, :3], (i, j, k), strict=True):
            if step != 0:
                value = value + step * axis
        out.append(value.astype(dtype))
    return out[0], out[1], out[2]


def foot(tables: Tables, x: Any, y: Any, z: Any, rounds: int = 3) -> tuple[Any, Any, Any, Any]:
    """Foot of points on the centre line.

    Args:
        tables: profiles that reach beyond the points.
        x: anatomy mm; y and z likewise; arrays of one shape and float type.
        rounds: Newton steps; 3 reach 1e-5 mm within 15 mm of the line.

    Returns:
        (height of the foot in mm, row of the tables, u to the right, v to anterior), u and v in mm.
    """
    c, last = tables.columns, len(tables.columns["z"]) - 1
    dtype = x.dtype
    column = {
        n: c[n].astype(dtype, copy=False) for n in ("x", "y", "dx", "dy", "ddx", "ddy", "tx", "ty", "tz")
    }
    height = z
    for _ in range(rounds):
        row = _rows(tables, height, last)
        rest = height - (tables.low + row * dtype.type(STEP_MM)).astype(dtype)
        dx, dy = column["dx"][row], column["dy"][row]
        ddx, ddy = column["ddx"][row], column["ddy"][row]
        px = x - column["x"][row] - dx * rest
        py = y - column["y"][row] - dy * rest
        dx = dx + ddx * rest
        dy = dy + ddy * rest
        height = height + (px * dx + py * dy + (z - height)) / (1 + dx * dx + dy * dy - px * ddx - py * ddy)
    row = _rows(tables, height, last)
    rest = height - (tables.low + row * dtype.type(STEP_MM)).astype(dtype)
    px = x - column["x"][row] - column["dx"][row] * rest
    py = y - column["y"][row] - column["dy"][row] * rest
    side = 1 / np.sqrt(1 - column["tx"][row] ** 2)
    return height, row, px * side, (py * column["tz"][row] - (z - height) * column["ty"][row]) * side


def _rows(tables: Tables, height: Any, last: int) -> Any:
    rows = ((height - height.dtype.type(tables.low)) * height.dtype.type(1 / STEP_MM) + 0.5).astype(np.int32)
    return np.clip(rows, 0, last, out=rows)


def tube_coverage(grid: Grid, tables: Tables, tube: str, shifts_mm: Sequence[float]) -> Coverage:
    """Share of each voxel of a grid within a tube, for several shifts of its boundary.

    Args:
        grid: voxel → anatomy mm; any orientation, obliqueness and anisotropy.
        tables: profiles that reach 15 mm beyond the grid.
        tube: "cord" or "sac".
        shifts_mm: growth of both semi-axes, one column of the result each.
    """
    c = tables.columns
    grow = max(0.0, *shifts_mm) if len(shifts_mm) else 0.0
    shrink = min(0.0, *shifts_mm) if len(shifts_mm) else 0.0
    radius = float(max(c[f"{tube}_a"].max(), c[f"{tube}_b"].max()) + abs(c[f"{tube}_v"]).max() + grow)
    radius += float(np.linalg.norm(grid.spacing)) / 2
    steps = grid.matrix[:3, :3]
    inside, boundary = [], []
    for box in boxes(grid, tables, radius):
        x, y, z = np.broadcast_arrays(*axes(grid, box))
        _, row, u, v = foot(tables, x.ravel(), y.ravel(), z.ravel())
        a, b = c[f"{tube}_a"][row], c[f"{tube}_b"][row]
        lateral, anterior, _ = steps_in_frame(tables, row, steps)
        reach_u, reach_v = np.abs(lateral).sum(0) / 2, np.abs(anterior).sum(0) / 2
        w = np.abs(v - c[f"{tube}_v"][row])
        far = np.hypot((np.abs(u) + reach_u) / (a + shrink), (w + reach_v) / (b + shrink))
        near_u, near_v = np.maximum(np.abs(u) - reach_u, 0), np.maximum(w - reach_v, 0)
        near = np.hypot(near_u / (a + grow), near_v / (b + grow))
        index = np.ravel_multi_index(np.meshgrid(*(np.r_[s] for s in box), indexing="ij"), grid.shape).ravel()
        # A hair of 2 % covers the change of the section within a thick voxel.
        whole, part = far < 0.98, (near < 1.02) & (far >= 0.98)
        inside.append((index[whole], row[whole], u[whole], v[whole]))
        boundary.append((index[part], row[part], u[part], v[part]))
    full = [np.concatenate(p) for p in zip(*inside, strict=True)] if inside else [np.zeros(0)] * 4
    edge = [np.concatenate(p) for p in zip(*boundary, strict=True)] if boundary else [np.zeros(0)] * 4
    values = _shares(tables, tube, steps, edge[1].astype(np.int32), edge[2], edge[3], shifts_mm)
    ones = np.ones((len(full[0]), len(shifts_mm)), dtype=np.float32)
    return Coverage(
        grid.shape,
        np.concatenate([full[0], edge[0]]).astype(np.int64),
        np.concatenate([ones, values]),
        np.concatenate([full[1], edge[1]]).astype(np.int32),
        np.concatenate([full[2], edge[2]]).astype(np.float32),
        np.concatenate([full[3], edge[3]]).astype(np.float32),
    )


def steps_in_frame(tables: Tables, row: Any, steps: Any) -> tuple[Any, Any, Any]:
    """Voxel edges in the moving frame: lateral, anterior and tangential parts, each (3, n) in mm."""
    c = tables.columns
    tx, ty, tz = c["tx"][row], c["ty"][row], c["tz"][row]
    side = 1 / np.sqrt(1 - tx * tx)
    tangent = np.stack([tx, ty, tz])
    lateral = np.stack([np.ones_like(tx) - tx * tx, -tx * ty, -tx * tz]) * side
    anterior = np.stack([np.zeros_like(tx), tz, -ty]) * side
    return steps.T @ lateral, steps.T @ anterior, steps.T @ tangent


def _shares(
    tables: Tables, tube: str, steps: Any, row: Any, u: Any, v: Any, shifts_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Shares (n, shifts) of boundary voxels with feet at `row` and centres at (u, v)."""
    out = np.zeros((len(row), len(shifts_mm)), dtype=np.float32)
    distinct = {shift: [i for i, s in enumerate(shifts_mm) if s == shift] for shift in shifts_mm}
    lateral, anterior, tangential = steps_in_frame(tables, row, steps)
    a, b = tables.columns[f"{tube}_a"][row], tables.columns[f"{tube}_b"][row]
    w = v - tables.columns[f"{tube}_v"][row]
    # The exact axis is the one along which the boundary is crossed most steeply. The one nearest to the tangent is
    # left to quadrature: along it the section changes.
    steep = np.abs((u / a**2) * lateral + (w / b**2) * anterior)
    along = np.linalg.norm(steps, axis=0)
    steep[np.abs(tangential / along[:, None]).argmax(0), np.arange(len(row))] = -1
    main = steep.argmax(0)
    counts = np.where(along > LONG * along.min(), 12, 5)
    points = [np.polynomial.legendre.leggauss(int(n)) for n in counts]
    for axis in range(3):
        chosen = np.flatnonzero(main == axis)
        p, q = (i for i in range(3) if i != axis)
        at_p, at_q = (g.ravel() for g in np.meshgrid(points[p][0] / 2, points[q][0] / 2, indexing="ij"))
        weight = (np.outer(points[p][1], points[q][1]) / 4).ravel().astype(np.float32)
        for start in range(0, len(chosen), CHUNK):
            n = chosen[start : start + CHUNK]
            lines = _Lines.of(tables, tube, row[n], u[n], w[n], v[n])
            lines.place(lateral[:, n], anterior[:, n], tangential[:, n], (axis, p, q), at_p, at_q)
            for shift, columns in distinct.items():
                out[n[:, None], columns] = (lines.inside(np.float32(shift)) @ weight)[:, None]
    return np.clip(out, 0, 1, out=out)


@dataclass(eq=False)
class _Lines:
    """Straight lines through voxels in the moving frame, (n, lines); position −½ to ½ along each."""

    row: Any
    u: Any
    w: Any
    v: Any
    c: dict[str, Any]
    tube: str
    u0: Any = None
    u1: Any = None
    w0: Any = None
    w1: Any = None
    a: Any = None
    b: Any = None

    @classmethod
    def of(cls, tables: Tables, tube: str, row: Any, u: Any, w: Any, v: Any) -> _Lines:
        return cls(row, u, w, v, tables.columns, tube)

    def place(self, lateral: Any, anterior: Any, tangential: Any, order: Any, at_p: Any, at_q: Any) -> None:
        axis, p, q = order
        c, row = self.c, self.row
        f = np.float32

        def at(part: Any) -> Any:  # offset of a line's middle from the voxel's centre
            return part[p][:, None] * at_p + part[q][:, None] * at_q

        bend_u, bend_v, twist = c["bend_u"][row], c["bend_v"][row], c["twist"][row]
        across, ahead = at(lateral), at(anterior)
        # Arc length moved: the normal planes fan out where the centre line bends.
        narrow = 1 - (bend_u * self.u + bend_v * self.v)[:, None] - bend_u[:, None] * across
        s0 = at(tangential) / (narrow - bend_v[:, None] * ahead)
        s1 = (tangential[axis] / (1 - bend_u * self.u - bend_v * self.v))[:, None]
        # Straight lines curve in the frame by −½ κ s²; its part linear in the position is kept.
        self.u0 = (
            self.u[:, None] + across + (twist * self.v)[:, None] * s0 - bend_u[:, None] * s0**2 / 2
        ).astype(f)
        self.w0 = (
            self.w[:, None] + ahead - (twist * self.u)[:, None] * s0 - bend_v[:, None] * s0**2 / 2
        ).astype(f)
        self.u1 = (
            lateral[axis][:, None] + (twist * self.v)[:, None] * s1 - bend_u[:, None] * s0 * s1
        ).astype(f)
        self.w1 = (
            anterior[axis][:, None] - (twist * self.u)[:, None] * s1 - bend_v[:, None] * s0 * s1
        ).astype(f)
        name = self.tube
        self.a = (c[f"{name}_a"][row][:, None] + c[f"{name}_da"][row][:, None] * s0).astype(f)
        self.b = (c[f"{name}_b"][row][:, None] + c[f"{name}_db"][row][:, None] * s0).astype(f)

    def inside(self, shift: np.float32) -> Any:
        """Length inside the tube, (n, lines), of a line of length 1."""
        p, q = 1 / (self.a + shift), 1 / (self.b + shift)
        u0, u1, w0, w1 = self.u0 * p, self.u1 * p, self.w0 * q, self.w1 * q
        square = u1 * u1 + w1 * w1
        middle = -(u0 * u1 + w0 * w1) / square
        # Distance of the line from the centre, as a cross product: no cancellation near the boundary.
        root = square - (u0 * w1 - w0 * u1) ** 2
        root = np.sqrt(np.maximum(root, 0, out=root), out=root) / square
        return np.clip(middle + root, -0.5, 0.5) - np.clip(middle - root, -0.5, 0.5)
