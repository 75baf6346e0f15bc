"""One person's brain: what is drawn, and the deep structures as solids.

Frame: R A S in mm with the anterior commissure near the origin. Sizes and places are set by hand near those of adult
brains in common atlases, not fitted to any image; `tests/phantom/test_brain_volumes.py` holds the volumes
against published ranges. Every person has a size of their own, a slow warp (which also makes the two sides unlike),
a size, place and turn for each structure and side, ventricles that differ most, and sulci of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.brain.shapes import Blob, Solid, Tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

F = np.float32
ANATOMY, SULCI = 1, 7  # purposes of draws; part of the seed

DEEP: dict[str, Solid] = {
    "lateral_ventricle": Tube(
        (
            (7.5, 32, 2),
            (7.5, 20, 10),
            (7.2, 4, 18.5),
            (10.5, -18, 21.5),
            (19, -36, 17),
            (25, -44, 9),
            (25, -66, 7),
        ),
        (2.4, 5.0, 4.3, 4.2, 5.2, 6.4, 1.8),
        4.0,
    ),
    "inferior_lateral_ventricle": Tube(
        ((29, -42, 2), (34.5, -32, -7), (36.5, -18, -15), (33.5, -7, -19)), (2.2, 1.9, 1.8, 2.0)
    ),
    "caudate": Tube(
        ((12.5, 20, -1), (15, 13, 9), (17.5, 0, 18.5), (20, -17, 22), (27, -31, 18)),
        (5.6, 6.3, 4.4, 2.8, 1.4),
        3.0,
    ),
    "accumbens_area": Blob((9.8, 11.5, -8.5), (4.8, 6.2, 4.4), (0, 0, 0)),
    "pallidum": Blob((19.8, -4, -1), (4.9, 11.6, 8.0), (0, 8, -14)),
    "putamen": Blob((26.8, 1.5, 2), (6.6, 18.6, 12.8), (0, 10, -11)),
    "thalamus": Blob((12.8, -18.5, 8), (9.9, 17.0, 11.8), (0, 14, -24)),
    "amygdala": Blob((23.5, -4.5, -19), (7.6, 7.4, 7.8), (0, 0, 0)),
    "hippocampus": Tube(
        ((23.5, -12, -20), (28.5, -19, -16), (31, -28, -9), (27, -38, -1), (19, -42, 6)),
        (6.8, 6.7, 5.8, 4.7, 2.5),
    ),
    "ventral_DC": Blob((11.2, -14.5, -6.4), (10.9, 14.6, 9.6), (-20, 8, 0)),
}
"""The right side; the left is its mirror image before anything is drawn."""
MIDDLE: dict[str, Solid] = {
    "3rd_ventricle": Blob((0, -11, 2.5), (1.9, 14.5, 11.5), (-24, 0, 0)),
    "4th_ventricle": Blob((0, -41, -32), (6.6, 4.2, 13.5), (-14, 0, 0)),
    "CSF": Blob((0, -43, 0), (11.0, 8.5, 8.5), (20, 0, 0)),
    "brain-stem": Tube(
        ((0, -27, -8), (0, -27, -16), (0, -25.5, -27), (0, -31, -44), (0, -37, -64)),
        (11.6, 10.6, 13.6, 7.6, 5.2),
        6.0,
    ),
}
WARP_WAVES = 8
SULCAL_WAVES = 16


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves, Σ a cos(k · x + φ), with k in rad/mm."""

    numbers: NDArray[np.float32]
    """k, (waves, 3)."""
    phases: NDArray[np.float32]
    amplitudes: NDArray[np.float32]
    """(waves,), or (waves, 3) for a displacement in mm."""


@dataclass(frozen=True, eq=False)
class Brain:
    """All that is drawn for one person; lengths in mm."""

    scale: tuple[float, float, float]
    """Of the whole head along R, A, S; 1."""
    warp: Waves
    solids: dict[str, Solid]
    """Deep structures by name, with "left_" and "right_" before those of the sides."""
    sulci: Waves
    sulcal_number: float
    """Mean wave number of `sulci` in rad/mm."""
    depth: Waves
    """Modulates how deep sulci reach."""
    cortex_mm: float
    """Thickness of the cerebral cortex."""
    sulcus_mm: float
    """Half the width of sulci at their mouth."""
    sulcus_depth_mm: float
    folia_grey_mm: float
    """Thickness of the cerebellar cortex, its molecular and granular layers with the fine leaves."""
    folia: tuple[float, float]
    """Number of cerebellar folia over π, and their phase."""
    dura_mm: float
    """Depth of the water between brain and dura."""
    parts: dict[str, float] = field(default_factory=dict)
    """Sizes of the hulls, relative to the mean; 1."""


@lru_cache(maxsize=32)
def draw_brain(seed: int, person: int) -> Brain:
    """The brain of person n (from 1); independent of how many persons there are."""
    rng = np.random.default_rng([seed, person, ANATOMY])

    def normal(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2.2, 2.2))

    whole = normal(0.985, 0.026)
    scale = (whole * normal(1, 0.018), whole * normal(1, 0.018), whole * normal(1, 0.018))
    warp = _waves(rng, WARP_WAVES, 95, 170, (WARP_WAVES, 3), 0.55)
    ventricles = float(np.exp(normal(0.05, 0.22)))
    solids: dict[str, Solid] = {}
    for name, solid in DEEP.items():
        both = normal(1, 0.03)
        watery = "ventricle" in name
        for side, sign in (("left", -1), ("right", 1)):
            size = both * normal(1, 0.02) * (ventricles * normal(1, 0.05) if watery else 1)
            place = [normal(0, 0.35) for _ in range(3)]
            turn = [normal(0, 1.5) for _ in range(3)]
            solids[f"{side}_{name}"] = _vary(solid, sign, size, place, turn)
    for name, solid in MIDDLE.items():
        size = normal(1, 0.04) * (np.sqrt(ventricles) * normal(1, 0.05) if "ventricle" in name else 1)
        solids[name] = _vary(
            solid, 1, size, [0.0, normal(0, 0.4), normal(0, 0.4)], [normal(0, 1.5), 0.0, 0.0]
        )
    fold = np.random.default_rng([seed, person, SULCI])
    sulci = _waves(fold, SULCAL_WAVES, 19.0, 26.0, (SULCAL_WAVES,), 1.0)
    return Brain(
        scale=scale,
        warp=warp,
        solids=solids,
        sulci=sulci,
        sulcal_number=float(np.linalg.norm(sulci.numbers, axis=1).mean()),
        depth=_waves(fold, 5, 45, 80, (5,), 0.35),
        cortex_mm=normal(2.4, 0.1),
        sulcus_mm=normal(0.85, 0.15),
        sulcus_depth_mm=normal(18.5, 1.0),
        folia_grey_mm=normal(3.4, 0.1),
        folia=(normal(13.0, 0.7), float(rng.uniform(0, np.pi))),
        dura_mm=normal(2.6, 0.5),
        parts={
            name: normal(1, 0.03) for name in ("temporal", "cerebellum", "frontal", "occipital", "vermis")
        },
    )


def _waves(
    rng: np.random.Generator, count: int, shortest: float, longest: float, shape: Any, amplitude: float
) -> Waves:
    """Plane waves in all directions, of wavelengths between two values in mm."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = rng.uniform(shortest, longest, count)
    phases = rng.uniform(0, 2 * np.pi, count)
    amplitudes = amplitude * np.clip(rng.standard_normal(shape), -2, 2)
    if len(shape) == 1:  # of one sign: the waves' phases are free
        amplitudes = amplitude * rng.uniform(0.6, 1.4, shape)
    return Waves((2 * np.pi / length[:, None] * direction).astype(F), phases.astype(F), amplitudes.astype(F))


def _vary(solid: Solid, sign: int, size: float, place: list[float], turn: list[float]) -> Solid:
    """A person's own: mirrored for the left side, scaled about its middle, moved and turned."""
    if isinstance(solid, Blob):
        x, y, z = solid.centre
        about_x, about_y, about_z = solid.turn_deg
        return replace(
            solid,
            centre=(sign * x + place[0], y + place[1], z + place[2]),
            axes=(size * solid.axes[0], size * solid.axes[1], size * solid.axes[2]),
            turn_deg=(about_x + turn[0], sign * about_y + turn[1], sign * about_z + turn[2]),
        )
    points = np.array(solid.points) * [sign, 1, 1] + place
    middle = points.mean(0)
    # Ventricles widen, they do not lengthen; other tubes grow a little both ways.
    points = middle + (points - middle) * size**0.2
    return replace(
        solid,
        points=tuple((float(px), float(py), float(pz)) for px, py, pz in points),
        radii=tuple(size * r for r in solid.radii),
    )
