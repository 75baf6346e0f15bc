"""The cerebrum, its folded cortex, the cerebellum and the dura, as distances in mm (negative inside).

The cortex is a shell of even thickness under a pial surface. That surface is the hull cut by sheets: the sulci,
where a field of plane waves on the directions from the middle of each hemisphere crosses zero (random waves of one
band wind as sulci do); the lateral fissure; and the fissure between the hemispheres above the corpus callosum. The
distance to a sheet follows from n and |∇n| as for one wave; sheets end at a depth, and leave a wall around the
ventricles. The cerebellum's folia are planes through the left-right axis, fanned about its hilum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.brain.shapes import ellipse, superellipsoid, union, without

if TYPE_CHECKING:
    from mriad_data.phantom.brain.anatomy import Brain, Waves
    from mriad_data.phantom.brain.shapes import Box, Points

F = np.float32
CORE_MM = F(42.0)  # where the sulcal waves have their nominal length
CONE = F(0.72)  # 1: sulci run straight to the core; 0: they keep their distance
WALL_MM = 6.0
DEEPEST_MM = 32.0  # no sulcus and no cortex under one lies this deep
FOLIA_CENTRE = (-46.0, -33.0)


@dataclass(eq=False)
class Hulls:
    """Smooth outer surfaces at some points, distances (n,) in mm."""

    cerebrum: Any
    cerebellum: Any
    stem: Any


BOXES: dict[str, Box] = {
    "temporal": ((-68, -66, -50), (68, 36, 8)),
    "cistern": ((-22, -40, -63), (22, 16, -13)),
    "cerebellum": ((-60, -98, -66), (60, -28, -6)),
    "brain-stem": ((-16, -50, -72), (16, -8, 8)),
}
"""Where parts of the outline lie at most, in mm."""
NEAR_MM = {"temporal": 34.0, "cistern": 32.0, "cerebellum": 34.0, "brain-stem": 34.0}
"""A part further from all points than this changes nothing there: what is cut away counts as deep as sulci reach."""
FAR = F(99)


def hulls(brain: Brain, points: Points) -> Hulls:
    """The outlines of cerebrum, cerebellum and brain stem, without sulci; `FAR` where they are far."""
    x, y, z = points
    low, high = points.min(1), points.max(1)

    def here(name: str) -> bool:
        (start, stop), near = BOXES[name], NEAR_MM[name]
        return bool((low < np.add(stop, near)).all() and (high > np.subtract(start, near)).all())

    u = np.abs(x)
    part = brain.parts
    v, w = y + F(18), z - F(14)
    # Narrower before and a little behind the widest section.
    narrow = 1 - F(0.0022) * np.maximum(v, 0) - F(0.0007) * np.maximum(-v, 0)
    length = np.where(v > 0, F(86 * part["frontal"]), F(84 * part["occipital"]))
    cerebrum = superellipsoid(u, v, w, (F(65) * narrow, length, np.where(w > 0, F(60), F(41))), 2.3)
    if here("temporal"):
        t = F(part["temporal"])
        lean = F(0.1) * (y + F(10))
        temporal = superellipsoid(
            u - F(40) + lean, y + F(14), z + F(22) + F(0.12) * (y + F(14)), (21 * t, 42 * t, 21 * t), 2.2
        )
        cerebrum = union(cerebrum, temporal, 6.0)
    if here("cistern"):
        cerebrum = without(cerebrum, superellipsoid(u, y + F(12), z + F(38), (F(21), F(27), F(24))), 5.0)
    stem = brain.solids["brain-stem"].distance(points) if here("brain-stem") else FAR
    cerebellum: Any = FAR
    if here("cerebellum"):
        c, d = F(part["cerebellum"]), F(part["vermis"])
        half = superellipsoid(u - F(23), y + F(63), z + F(37), (31 * c, 28 * c, F(20.5) * c), 2.2)
        vermis = superellipsoid(u, y + F(60), z + F(31), (F(14), 22 * d, 20 * d))
        cerebellum = without(union(half, vermis, 8.0), stem + F(1), 3.0)
        # The tentorium parts cerebrum and cerebellum.
        cerebrum = without(cerebrum, cerebellum - F(2.2), 4.0)
    # Water about the brain stem, up to where it enters the cerebrum.
    cerebrum = without(cerebrum, stem - F(1.8) + np.maximum(z + F(14), 0) * F(0.9), 3.0)
    return Hulls(cerebrum, cerebellum, stem)


def field(waves: Waves, points: Any, amplitude_gradient: bool = False) -> tuple[Any, Any]:
    """Σ a cos(k·x + φ) at points (3, n), and its gradient (3, n) if asked for (else None)."""
    total = np.zeros(points.shape[1], F)
    gradient = np.zeros_like(points) if amplitude_gradient else None
    for k, phase, amplitude in zip(waves.numbers, waves.phases, waves.amplitudes, strict=True):
        angle = k @ points
        angle += phase
        total += amplitude * np.cos(angle)
        if gradient is not None:
            np.sin(angle, out=angle)
            angle *= -amplitude
            gradient += k[:, None] * angle
    return total, gradient


def _sulci(brain: Brain, points: Points, depth: Any) -> Any:
    """Distance to the walls of the sulci in mm, positive outside them; `depth`: under the outline."""
    x, y, z = points
    u = np.abs(x)
    # Coordinates about the core of each hemisphere, drawn together so that sheets point inwards.
    r = np.empty_like(points)
    core_x = F(24) * np.tanh(x * F(1 / 9))
    core_y = np.clip(y, F(-52), F(24))
    r[0], r[1], r[2] = x - core_x, y - core_y, z - F(8)
    length = np.sqrt((r * r).sum(0)) + F(1e-3)
    draw = (CORE_MM / length) ** CONE
    place = r * draw
    place[0] += core_x
    place[1] += core_y
    n, gradient = field(brain.sulci, place, amplitude_gradient=True)
    radial = (gradient * r).sum(0) / length
    across = np.maximum((gradient * gradient).sum(0) - radial * radial, 0)
    slope = draw * np.sqrt(across + ((1 - CONE) * radial) ** 2) + F(1e-4)
    # |n| / |∇n| grows too fast between two sheets; for a wave of number k the distance is atan(k |n| / |∇n|) / k.
    number = F(brain.sulcal_number) * draw
    sheet = np.arctan(np.abs(n) * number / slope) / number
    reach, _ = field(brain.depth, place)
    # Shallower where a lobe is thin: below, and on the inner face.
    end = F(brain.sulcus_depth_mm) * (1 + F(0.3) * np.tanh(reach))
    end *= F(1) - F(0.3) * np.clip((F(-4) - z) * F(1 / 12), 0, 1)
    end *= F(0.6) + F(0.4) * np.clip((u - F(4)) * F(1 / 14), 0, 1)
    end = np.maximum(end, F(3))
    mouth = F(brain.sulcus_mm) * (F(0.65) + F(0.35) * np.clip(1 - depth / end, 0, 1))
    return np.sqrt(sheet * sheet + np.maximum(depth - end, 0) ** 2) - mouth


def _shield(brain: Brain, points: Points) -> Any:
    """How far in mm points lie within the wall of white matter that folds leave around the ventricles; else < 0."""
    low, high = points.min(1) - F(WALL_MM + 2), points.max(1) + F(WALL_MM + 2)
    out: Any = F(-99)
    for name, solid in brain.solids.items():
        start, stop = solid.box
        if name.endswith("lateral_ventricle") and (low < stop).all() and (high > start).all():
            out = np.maximum(out, F(WALL_MM) - solid.distance(points))
    return out


def pial_depth(brain: Brain, points: Points, hull: Any) -> Any:
    """Depth under the pial surface of the cerebrum in mm, positive inside; `hull`: distance to its outline."""
    x, y, z = points
    u = np.abs(x)
    depth = -hull
    # The lateral fissure, down to the insula.
    rise = (z + F(5) + F(0.42) * y) * F(1 / 1.085)
    ends = np.maximum(F(36) - u, 0) ** 2 + np.maximum(y - F(19), 0) ** 2 + np.maximum(F(-46) - y, 0) ** 2
    lateral = np.sqrt(rise * rise + ends) - F(0.9)
    # Between the hemispheres, outside the outline of corpus callosum and what lies under it.
    wobble = F(0.9) * np.sin(y * F(0.045) + F(brain.folia[1])) * np.clip((z - F(20)) * F(0.03), 0, 1)
    inner = ellipse(y + F(11), z - F(4), F(44), F(25))
    middle = np.sqrt((x - wobble) ** 2 + np.maximum(-inner, 0) ** 2) - F(0.8)
    folds = lateral if depth.min() > DEEPEST_MM else np.minimum(lateral, _sulci(brain, points, depth))
    return np.minimum(union(depth, np.maximum(folds, _shield(brain, points)), 1.5), middle)


def cerebellar_depth(brain: Brain, points: Points, hull: Any) -> Any:
    """Depth under the surface of the cerebellum with its folia, in mm, positive inside."""
    _, y, z = points
    dy, dz = y - F(FOLIA_CENTRE[0]), z - F(FOLIA_CENTRE[1])
    radius = np.sqrt(dy * dy + dz * dz) + F(1)
    number, phase = brain.folia
    angle = F(number) * np.arctan2(dz, -dy) + F(phase)
    angle += F(0.8) * np.sin(points[0] * F(0.075) + F(phase)) + F(0.6) * np.sin(points[0] * F(0.16))
    # The distance between two planes of the fan grows with the radius.
    sheet = np.abs(np.sin(angle)) * radius * F(1 / number)
    depth = -hull
    # Every third fissure is deep and parts lobules; the others part leaves.
    end = F(6) + F(5) * np.cos(angle * F(1 / 3)) ** 4
    fissure = np.sqrt(sheet * sheet + np.maximum(depth - end, 0) ** 2) - F(0.45)
    return union(depth, fissure, 1.0)
