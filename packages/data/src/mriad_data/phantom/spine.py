"""The bony spine around the cord: arches and spines, bodies with cortical rims, discs, and the fat of the canal.

All in the moving frame of the centre line: u to the right, v to anterior, arc length along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.coverage import axes, boxes, foot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mriad.geometry import Grid
    from numpy.typing import NDArray

    from mriad_data.phantom.anatomy import Anatomy, Tables

F = np.float32
REACH_MM = (24.0, 37.0, 24.0)  # bones lie within this ellipsoid around some point of the centre line, R A S
SAMPLE_MM = 1.7  # longer voxel edges are sampled this often
RIM_MM = F(0.7)  # cortical bone


def ramp(distance: Any) -> Any:
    """Share of a voxel at this distance (in voxel widths) outside a boundary."""
    out = F(0.5) - distance
    return np.clip(out, 0, 1, out=out)


def extent(grid: Grid, direction: Any) -> float:
    """Width in mm of a voxel along a direction, for `ramp`."""
    return float(np.linalg.norm(grid.matrix[:3, :3].T @ np.asarray(direction)))


def over(image: Any, share: Any, value: float) -> None:
    """Paint a tissue over what is there."""
    image += share * (F(value) - image)


def _shell(image: Any, outer: Any, inner: Any, rim: float, core: float) -> None:
    """Paint a shape with a rim over what is there: the share of the core lies within that of the whole."""
    inner = np.minimum(inner, outer)
    image *= 1 - outer
    image += (outer - inner) * F(rim) + inner * F(core)


def ellipse(p: Any, q: Any, a: Any, b: Any) -> Any:
    """First-order distance in mm to the ellipse p² + q² = 1 with p = u/a, q = v/b; negative inside."""
    k = np.sqrt(p * p + q * q)
    p, q = p / a, q / b
    return (k - 1) * k / np.sqrt(p * p + q * q + F(1e-12))


def paint_spine(
    image: NDArray[np.float32],
    grid: Grid,
    anatomy: Anatomy,
    tables: Tables,
    signal: Mapping[str, float],
    fat_shift_mm: float,
) -> None:
    """Paint bones, discs and the canal's fat over an image, in place; the sac is left at zero for its water.

    Args:
        image: float32 (X, Y, Z), muscle where the spine comes.
        grid: voxel → anatomy mm.
        anatomy: the person.
        tables: profiles that reach beyond the grid.
        signal: signal by tissue.
        fat_shift_mm: displacement of fat towards anterior.
    """
    edges = grid.matrix[:3, :3]
    # A thick voxel holds more than a straight boundary: its longest edge is sampled.
    longest = int(np.argmax(grid.spacing))
    samples = max(1, round(grid.spacing[longest] / SAMPLE_MM))
    offsets = [((n + 0.5) / samples - 0.5) * edges[:, longest] for n in range(samples)]
    finer = edges.copy()
    finer[:, longest] /= samples
    for box in boxes(grid, tables, REACH_MM):
        x, y, z = np.broadcast_arrays(*axes(grid, box, F))
        chosen, tangent = _near(anatomy, tables, x, y, z, float(np.linalg.norm(edges, axis=1).max()) / 2)
        under = image[box][chosen]
        total = np.zeros_like(under)
        for offset in offsets:
            dx, dy, dz = (F(d) for d in offset)
            _, row, u, v = foot(tables, x[chosen] + dx, y[chosen] + dy, z[chosen] + dz, rounds=2)
            frame = _Frame.of(anatomy, tables, row, u, v, finer, tangent)
            total += frame.paint(under.copy(), signal, fat_shift_mm)
        image[box][chosen] = total / F(samples)


def _near(anatomy: Anatomy, tables: Tables, x: Any, y: Any, z: Any, margin: float) -> tuple[Any, Any]:
    """Which voxels of a box the spine may touch, and the tangent at the box's middle."""
    columns, last = tables.columns, len(tables.columns["z"]) - 1
    # To first order the foot of a point lies ahead of its height by the slope times the distance.
    height = float(z.mean())
    row = min(max(int((height - tables.low) / (columns["z"][1] - columns["z"][0])), 0), last)
    tangent = np.array([columns[n][row] for n in ("tx", "ty", "tz")])
    dx, dy, dz = (c - F(columns[n][row]) for c, n in zip((x, y, z), "xyz", strict=True))
    u = np.abs(dx - F(columns["dx"][row]) * dz)
    v = dy * F(tangent[2]) - dz * F(tangent[1])
    m = F(margin + 1.5)
    front, (lateral, depth) = F(columns["front"][row]), anatomy.body
    body = (u < F(lateral + 1) + m) & (v > front - m) & (v < front + F(2 * depth) + m)
    a, b = columns["sac_a"][row] + anatomy.canal_gap[0], columns["sac_b"][row] + anatomy.canal_gap[1]
    arch = (u < F(a + 7) + m) & (v > F(-b - 4.5) - m) & (v < F(b + 1) + m)
    spine = (u < F(3.2) + m) & (v < 0) & (v > F(-b - 23) - m)
    return body | arch | spine, tangent


@dataclass(eq=False)
class _Frame:
    """Voxels in the moving frame, (n,) float32; lengths in mm."""

    anatomy: Anatomy
    u: Any
    v: Any
    disc: Any
    """Distance along the line to the nearest disc's middle."""
    middle: Any
    """The same to the nearest vertebra's middle, signed."""
    above: Any
    """Beyond the upper end of the bodies."""
    front: Any
    a: Any
    b: Any
    wide: np.float32
    """Width of a voxel in the plane of the section, and along the line."""
    long: np.float32

    @classmethod
    def of(
        cls, anatomy: Anatomy, tables: Tables, row: Any, u: Any, v: Any, edges: Any, tangent: Any
    ) -> _Frame:
        names = ("disc", "middle", "above", "front", "sac_a", "sac_b")
        disc, middle, above, front, a, b = (tables.columns[n].astype(F)[row] for n in names)
        long2 = float(((edges.T @ tangent) ** 2).sum())
        wide2 = (float((edges**2).sum()) - long2) / 2
        return cls(anatomy, u, v, disc, middle, above, front, a, b, F(np.sqrt(wide2)), F(np.sqrt(long2)))

    def paint(self, image: Any, signal: Mapping[str, float], fat_shift: float) -> Any:
        """Paint over the voxels' signal, in place."""
        bone = signal["cortical"], signal["marrow"]
        _shell(image, self._arch(F(0)), self._arch(RIM_MM), *bone)
        column = self._column()
        ends = F(self.anatomy.disc_half) - self.disc

        def body(rim: Any) -> Any:  # shares across and along the line multiply
            return self._across(column + rim) * self._along(ends + rim) * self._along(self.above + rim)

        _shell(image, body(F(0)), body(RIM_MM), *bone)
        over(image, self._across(column + F(0.3)) * self._along(-ends), signal["disc"])
        # The canal: water of the sac comes later, fat fills the rest; chemical shift moves the fat alone.
        inside = self._across(self._canal(0.0))
        image *= 1 - inside
        moved = self._across(self._canal(fat_shift)) if fat_shift else inside
        w = self.v - F(self.anatomy.sac_offset + fat_shift)
        hole = self._across(ellipse(self.u / self.a, w / self.b, self.a, self.b))
        image += np.maximum(moved - hole, 0) * F(signal["fat"])
        return image

    def _across(self, distance: Any) -> Any:
        return ramp(distance * (1 / self.wide))

    def _along(self, distance: Any) -> Any:
        return ramp(distance * (1 / self.long))

    def _canal(self, shift: float) -> Any:
        """Distance to the canal, its contents moved towards anterior."""
        a, b = self.a + F(self.anatomy.canal_gap[0]), self.b + F(self.anatomy.canal_gap[1])
        return ellipse(self.u / a, self._behind(shift) / b, a, b)

    def _behind(self, shift: float) -> Any:
        """v from the canal's centre, which lies behind the sac's."""
        return self.v - F(self.anatomy.sac_offset - 0.5 + shift)

    def _arch(self, rim: Any) -> Any:
        """Share of an arch around the canal and a spine behind it, `rim` mm under their surface."""
        a, b = self.a + F(self.anatomy.canal_gap[0] + 7), self.b + F(self.anatomy.canal_gap[1] + 3.5)
        ring = ellipse(self.u / a, self._behind(0.0) / b, a, b)
        arch = self._across(ring + rim) * self._along(np.abs(self.middle) - F(5.5) + rim)
        arch *= self._across(self.v - 2 + rim)
        behind = (self.v + self.b + F(self.anatomy.canal_gap[1] + 12)) * F(1 / 11)
        slant = (self.middle + F(3) - F(3.3) * behind) * F(1 / 5)
        side = self.u * F(1 / 3.2)
        k = np.sqrt(side * side + behind * behind + slant * slant)
        across = (side * F(1 / 3.2)) ** 2 + ((behind - F(0.66) * slant) * F(1 / 11)) ** 2
        along = (slant * F(1 / 5)) ** 2
        width = np.sqrt(across * self.wide**2 + along * self.long**2 + F(1e-12))
        spine = ((k - 1) * k + rim * np.sqrt(across + along)) / width
        return np.maximum(arch, ramp(spine))

    def _column(self) -> Any:
        """First-order distance to the side of the column of bodies, a superellipse of power 4."""
        lateral, depth = self.anatomy.body
        p, q = self.u * F(1 / lateral), (self.v - self.front - F(depth)) * F(1 / depth)
        p3, q3 = p * p * p, q * q * q
        k = np.sqrt(np.sqrt(p3 * p + q3 * q))
        p3 *= F(1 / lateral)
        q3 *= F(1 / depth)
        return (k - 1) * (k * k * k) / np.sqrt(p3 * p3 + q3 * q3 + F(1e-12))
