"""One person's neck in closed form: centre line, sections of the cord and of the sac, levels, bones, skin.

Frame: anatomy RAS mm; x to the right, y to anterior, z to superior; z = 0 at the disc between C2 and C3. All profiles
are smooth functions of z *on the centre line*. Sizes are set near published means, not fitted to them: diameters of
Frostell et al., Front Neurol 2016 (13.3 × 7.4 mm at segment C5); area at mid-C5 (78 ± 9 mm²) and share of the cord in
the dural sac (58 ± 7 %) of Kato et al., Eur Spine J 2012. Lengths of levels, bones, skin and bends are set by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ANATOMY = 1  # purpose of draws; part of the seed
LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8")
STEP_MM = 0.05  # of numerical integration along the centre line


@dataclass(frozen=True)
class CentreLine:
    """The curve r(z) = (x(z), y(z), z): a sagittal lordosis plus a small lateral bend, with exact derivatives."""

    lordosis_mm: float
    lordosis_length_mm: float
    apex_mm: float
    tilt: float
    lateral_mm: float
    lateral_length_mm: float
    lateral_phase: float
    lateral_tilt: float

    def derivatives(self, z: Any) -> tuple[Floats, Floats, Floats]:
        """Position, first and second derivative with respect to z, each (..., 3); mm, 1, 1/mm."""
        z = np.asarray(z, dtype=np.float64)
        one, zero = np.ones_like(z), np.zeros_like(z)
        k, m = 2 * np.pi / self.lordosis_length_mm, 2 * np.pi / self.lateral_length_mm
        sagittal, lateral = k * (z - self.apex_mm), m * z + self.lateral_phase
        a, b = self.lordosis_mm, self.lateral_mm
        x = b * (np.sin(lateral) - np.sin(self.lateral_phase)) + self.lateral_tilt * z
        y = a * (np.cos(sagittal) - np.cos(k * self.apex_mm)) + self.tilt * z
        first = np.stack(
            [b * m * np.cos(lateral) + self.lateral_tilt, -a * k * np.sin(sagittal) + self.tilt, one], -1
        )
        second = np.stack([-b * m * m * np.sin(lateral), -a * k * k * np.cos(sagittal), zero], -1)
        return np.stack([x, y, z], -1), first, second

    def frame(self, z: Any) -> tuple[Floats, Floats, Floats]:
        """Unit tangent, lateral axis (to the right) and anterior axis of the normal plane, each (..., 3)."""
        _, first, _ = self.derivatives(z)
        tangent = first / np.linalg.norm(first, axis=-1, keepdims=True)
        lateral = np.array([1.0, 0, 0]) - tangent[..., :1] * tangent
        lateral /= np.linalg.norm(lateral, axis=-1, keepdims=True)
        return tangent, lateral, np.cross(tangent, lateral)

    def speed(self, z: Any) -> Floats:
        """ds/dz, arc length per mm of height."""
        _, first, _ = self.derivatives(z)
        out: Floats = np.linalg.norm(first, axis=-1)
        return out


@dataclass(frozen=True)
class Anatomy:
    """All that is drawn for one person; lengths in mm."""

    line: CentreLine
    cord_scale: tuple[float, float]
    """Of the semi-axes to the right and to anterior; 1."""
    waves: tuple[tuple[float, float, float], ...]
    """Relative amplitude, wavelength (mm) and phase (rad) of slow changes of the section."""
    sac_gap: tuple[float, float]
    canal_gap: tuple[float, float]
    sac_offset: float
    """Sac centre minus cord centre along the anterior axis."""
    body: tuple[float, float]
    """Semi-axes of a vertebral body, lateral and anterior."""
    disc_half: float
    discs: tuple[float, ...]
    """z on the centre line of disc k = 1, 2, …: 1 is the top of C1, k is the lower end of the (k − 1)th level."""
    skin: tuple[float, float]
    """Depth of the skin behind and before the cord, at mid-neck."""
    fat: tuple[float, float]
    """Thickness of the fat under the skin, behind and before."""
    airway: tuple[float, float, float]
    """Distance before the cord, lateral and anterior semi-axes."""
    flow: tuple[float, float]
    """Wavelength (mm) and phase (rad) of CSF pulsation along the cord."""
    area_factor: float = 1.0
    """Area of every cord section relative to the baseline."""
    _tables: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def cord(self, z: Any) -> tuple[Floats, Floats]:
        """Semi-axes of the cord's section normal to the centre line, lateral and anterior, in mm."""
        z = np.asarray(z, dtype=np.float64)
        enlargement = np.exp(-0.5 * ((z + 50) / 24) ** 2)
        thoracic, medulla = _rise(-(z + 85), 14), _rise(z - 46, 6)
        wave = 1 + sum(p * np.sin(2 * np.pi * z / length + phase) for p, length, phase in self.waves)
        root = np.sqrt(self.area_factor)
        lateral = 6.05 + 0.75 * enlargement - 1.2 * thoracic + 1.6 * medulla
        anterior = 3.95 - 0.12 * enlargement - 0.25 * thoracic + 1.6 * medulla
        return root * self.cord_scale[0] * lateral * wave, root * self.cord_scale[1] * anterior * wave

    def area(self, z: Any, shift_mm: float = 0.0) -> Floats:
        """Area in mm² of the section normal to the centre line, its ellipse grown by `shift_mm`: π (a+δ)(b+δ)."""
        a, b = self.cord(z)
        return np.pi * (a + shift_mm) * (b + shift_mm)

    def sac(self, z: Any) -> tuple[Floats, Floats]:
        """Semi-axes of the dural sac in mm; its centre lies `sac_offset` before the cord's. Atrophy leaves it."""
        z = np.asarray(z, dtype=np.float64)
        a, b = replace(self, area_factor=1.0, _tables={}).cord(z)
        upper = _rise(z + 12, 12)
        return a + self.sac_gap[0] + 1.3 * upper, b + self.sac_gap[1] + 0.9 * upper

    def mean_area(self, top: float, bottom: float, shift_mm: float = 0.0) -> float:
        """Mean area in mm² between two heights on the centre line, weighted by arc length (Simpson's rule)."""
        n = 2 * max(16, round(abs(top - bottom) / STEP_MM / 2))
        z = np.linspace(bottom, top, n + 1)
        weight = np.ones(n + 1)
        weight[1:-1:2], weight[2:-1:2] = 4, 2
        weight *= self.line.speed(z)
        return float((weight * self.area(z, shift_mm)).sum() / weight.sum())

    def levels(self) -> dict[str, tuple[float, float]]:
        """Upper and lower end of every vertebral level, as z on the centre line."""
        return {LEVELS[i]: (self.discs[i], self.discs[i + 1]) for i in range(len(self.discs) - 1)}

    def disc_points(self) -> dict[int, Floats]:
        """Posterior tip of every disc, anatomy mm (3,), by the number used in the field (3 is C2-C3)."""
        points = {}
        for number, z in enumerate(self.discs, start=1):
            position, _, _ = self.line.derivatives(z)
            _, _, anterior = self.line.frame(z)
            points[number] = position + float(self.canal_front(z)) * anterior
        return points

    def canal_front(self, z: Any) -> Floats:
        """Distance from the cord's centre to the back of the vertebral bodies, along the anterior axis, in mm."""
        return self.sac(z)[1] + self.sac_offset + 0.6

    def tables(self, low: float, high: float) -> Tables:
        """Profiles sampled between two heights, remembered."""
        key = f"{low:.3f} {high:.3f}"
        if key not in self._tables:
            self._tables[key] = Tables.of(self, low, high)
        found: Tables = self._tables[key]
        return found


@dataclass(frozen=True, eq=False)
class Tables:
    """Profiles along the centre line at every `STEP_MM` of height, float64 (n,), for fast look-up by voxels."""

    low: float
    columns: dict[str, Floats]

    @classmethod
    def of(cls, anatomy: Anatomy, low: float, high: float) -> Tables:
        """Sample an anatomy between two heights in mm."""
        z = np.arange(low, high + STEP_MM, STEP_MM)
        position, first, second = anatomy.line.derivatives(z)
        tangent, lateral, anterior = anatomy.line.frame(z)
        speed = anatomy.line.speed(z)
        arc = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * STEP_MM)])
        # dT/ds = (r'' − (r''·t) t) / |r'|²
        bend = (second - (second * tangent).sum(-1, keepdims=True) * tangent) / speed[:, None] ** 2
        columns = {
            "z": z,
            "x": position[:, 0],
            "y": position[:, 1],
            "dx": first[:, 0],
            "dy": first[:, 1],
            "ddx": second[:, 0],
            "ddy": second[:, 1],
            "tx": tangent[:, 0],
            "ty": tangent[:, 1],
            "tz": tangent[:, 2],
            "bend_u": (bend * lateral).sum(-1),
            "bend_v": (bend * anterior).sum(-1),
            "twist": (np.gradient(lateral, STEP_MM, axis=0) * anterior).sum(-1) / speed,
        }
        cord, sac = anatomy.cord(z), anatomy.sac(z)
        for name, (a, b), offset in (("cord", cord, 0.0), ("sac", sac, anatomy.sac_offset)):
            columns |= {
                f"{name}_a": a,
                f"{name}_b": b,
                f"{name}_da": np.gradient(a, STEP_MM) / speed,
                f"{name}_db": np.gradient(b, STEP_MM) / speed,
                f"{name}_v": np.full_like(z, offset),
            }
        columns["front"] = anatomy.canal_front(z)
        length, phase = anatomy.flow
        columns["flow"] = 0.5 + 0.5 * np.sin(2 * np.pi * z / length + phase)
        ends = np.interp(anatomy.discs, z, arc)
        # Discs proper begin under C2; above lie the dens and the atlas, one piece of bone here.
        columns["disc"] = np.abs(arc[:, None] - ends[None, 2:]).min(1)
        middle = (ends[1:] + ends[:-1]) / 2
        nearest = np.abs(arc[:, None] - middle[None, :]).argmin(1)
        columns["middle"] = arc - middle[nearest]
        columns["above"] = arc - (ends[0] - 4)
        return cls(low, columns)


def _rise(value: Floats, width: float) -> Floats:
    """A smooth step from 0 to 1 around 0."""
    return 0.5 + 0.5 * np.tanh(np.asarray(value) / width)


@lru_cache(maxsize=64)
def draw_anatomy(seed: int, person: int, area_factor: float = 1.0) -> Anatomy:
    """The anatomy of person n (from 1); independent of how many persons there are.

    `area_factor` scales every cord section (atrophy of 5 % is .95) and changes nothing else.
    """
    rng = np.random.default_rng([seed, person, ANATOMY])

    def normal(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2.2, 2.2))

    line = CentreLine(
        lordosis_mm=normal(7.0, 2.2),
        lordosis_length_mm=normal(225, 15),
        apex_mm=normal(-38, 8),
        tilt=normal(0.04, 0.05),
        lateral_mm=normal(0.0, 1.0),
        lateral_length_mm=float(rng.uniform(180, 300)),
        lateral_phase=float(rng.uniform(0, 2 * np.pi)),
        lateral_tilt=normal(0.0, 0.012),
    )
    scale = normal(1.0, 0.045)
    cord_scale = (scale * normal(1.0, 0.025), scale * normal(1.0, 0.025))
    waves = tuple(
        (normal(0, 0.008), float(rng.uniform(45, 110)), float(rng.uniform(0, 2 * np.pi))) for _ in range(3)
    )
    heights = [normal(15, 0.8), normal(20, 1.2)]
    heights += [normal(17.3, 0.8) for _ in range(5)] + [normal(18.5 + i, 0.8) for i in range(8)]
    tops = np.cumsum([0.0, *heights]) - heights[0] - heights[1]
    return Anatomy(
        line=line,
        cord_scale=cord_scale,
        waves=waves,
        sac_gap=(normal(2.4, 0.25), normal(1.7, 0.15)),
        canal_gap=(normal(1.3, 0.2), normal(0.9, 0.1)),
        sac_offset=normal(-0.15, 0.15),
        body=(normal(9.6, 0.6), normal(7.6, 0.5)),
        disc_half=normal(2.5, 0.25),
        discs=tuple(float(-t) for t in tops),
        skin=(normal(56, 3), normal(60, 3)),
        fat=(normal(8, 1.5), normal(4.5, 0.8)),
        airway=(normal(33, 2), normal(8.5, 1.0), normal(6.0, 0.8)),
        flow=(float(rng.uniform(30, 60)), float(rng.uniform(0, 2 * np.pi))),
        area_factor=area_factor,
    )
