"""Visits of a person, and how the person lies in each. Shared by the phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Session:
    """One visit. `number` enters the seeds: 0 baseline, n the nth rescan, 1000 + 10 × percent an atrophy visit."""

    name: str
    number: int
    atrophy_percent: float = 0.0


BASELINE = Session("baseline", 0)


def sessions(rescans: int, atrophy_percent: Sequence[float]) -> tuple[Session, ...]:
    """Baseline, rescans ("rescan1", …) and one visit per loss of area ("atrophy2", "atrophy2p5")."""
    again = [Session(f"rescan{n}", n) for n in range(1, rescans + 1)]
    lost = [
        Session(f"atrophy{percent:g}".replace(".", "p"), 1000 + round(10 * percent), float(percent))
        for percent in atrophy_percent
    ]
    return (BASELINE, *again, *lost)


def rigid_pose(
    rng: np.random.Generator, centre: NDArray[np.float64], sd_deg: float, sd_mm: float
) -> NDArray[np.float64]:
    """Anatomy → world, a rigid (4, 4) matrix in mm: turned about a centre and moved, both drawn, at most 2.5 sd."""
    out = np.eye(4)
    turn = rotation(np.deg2rad(sd_deg) * np.clip(rng.standard_normal(3), -2.5, 2.5))
    move = sd_mm * np.clip(rng.standard_normal(3), -2.5, 2.5)
    out[:3, :3] = turn
    out[:3, 3] = centre - turn @ centre + move
    return out


def rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3): about x, then y, then z, in rad."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    out: NDArray[np.float64] = about_z @ about_y @ about_x
    return out
