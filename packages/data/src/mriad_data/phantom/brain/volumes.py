"""True volumes of a person's structures, by counting points in the solids themselves.

Each point stands for a cube; only cubes that a boundary may cross are divided. Points lie 0.125 mm apart in deep
structures (8³ in a voxel of 1 mm), 0.25 mm in the cerebellum, and 0.5 mm in the large folded surfaces, where a
million boundary points average out. Against counts with half these distances all volumes agree within 1e-3
(`tests/phantom/test_brain_mixture.py`). Some 12 s a person; remembered by the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mriad_data.phantom.brain.anatomy import draw_brain
from mriad_data.phantom.brain.cerebrum import hulls
from mriad_data.phantom.brain.mixture import MARGIN, Scene, ramp_share
from mriad_data.phantom.brain.regions import BRAIN, INDEX, REGIONS
from mriad_data.phantom.brain.warp import to_template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mriad_data.phantom.brain.anatomy import Brain

F = np.float32
LOW_MM, HIGH_MM = (-84.0, -124.0, -84.0), (84.0, 92.0, 96.0)
"""Corners of a box that holds every brain."""
BLOCK_MM = 24.0
COARSE_MM = 2.0
DIRECTIONS = np.array([d for d in product((-1, 0, 1), repeat=3) if any(d)], float)


@dataclass(frozen=True, eq=False)
class Known:
    """One structure: its volume, and its outermost points in 26 directions, (26, 3) mm in the person's frame."""

    volume_mm3: float
    extremes: NDArray[np.float64]


@lru_cache(maxsize=256)
def true_volumes(seed: int, person: int, finer: int = 0) -> dict[str, Known]:
    """Every structure of person n by name; `finer`: how often the distance between points is halved further."""
    brain = draw_brain(seed, person)
    volumes = np.zeros(len(REGIONS))
    best = np.full((len(REGIONS), len(DIRECTIONS)), -np.inf)
    extremes = np.zeros((len(REGIONS), len(DIRECTIONS), 3))
    deep = np.zeros(len(REGIONS))
    corners = product(*(np.arange(a, b, BLOCK_MM) for a, b in zip(LOW_MM, HIGH_MM, strict=True)))
    for corner in corners:
        cells = _divide(np.array(corner)[:, None] + BLOCK_MM / 2, BLOCK_MM, round(BLOCK_MM / COARSE_MM))
        points, _ = to_template(brain, cells.astype(F))
        scene = Scene.of(brain, points, COARSE_MM, head=False)
        if scene is None:
            continue
        # The leaves of the cerebellum are thin: one division more where it lies.
        leaves = np.broadcast_to(hulls(brain, points).cerebellum < F(1.5 * COARSE_MM), points.shape[1:])
        label = np.zeros(points.shape[1], np.uint8)
        for part, levels in ((~leaves, 2), (leaves, 3)):
            if part.any():
                label[part] = _count(brain, scene, cells[:, part], COARSE_MM, levels + finer, volumes)
        _count_deep(brain, scene, cells, COARSE_MM, 4 + finer, deep)
        for region in np.unique(label):
            reach = DIRECTIONS @ cells[:, label == region]
            where = reach.argmax(1)
            further = reach.max(1) > best[region]
            best[region, further] = reach.max(1)[further]
            extremes[region, further] = cells[:, label == region][:, where[further]].T
    solid = [INDEX[name] for name in brain.solids if name != "CSF"]
    volumes[solid] = deep[solid]
    return {r.name: Known(float(volumes[INDEX[r.name]]), extremes[INDEX[r.name]]) for r in BRAIN}


def _divide(cells: Any, edge: float, parts: int) -> Any:
    """Centres (3, n · parts³) of equal parts of cubes with centres (3, n)."""
    along = ((np.arange(parts) + 0.5) / parts - 0.5) * edge
    offsets = np.stack(np.meshgrid(along, along, along, indexing="ij")).reshape(3, -1)
    return (cells[:, :, None] + offsets[:, None, :]).reshape(3, -1)


def _count(brain: Brain, scene: Scene, cells: Any, edge: float, levels: int, out: Any) -> Any:
    """Add the cubes' volumes to their regions; returns the largest region of each cube (n,)."""
    points, _ = to_template(brain, cells.astype(F))
    best = np.zeros(points.shape[1], np.uint8)
    largest = np.zeros(points.shape[1], F)
    band = F(MARGIN * edge if levels else 1e-5)
    for region, share in scene.near(points, float(band)).shares(points, ramp_share(band), band):
        better = share > largest
        best[better], largest[better] = region, share[better]
    whole = largest == 1 if levels else np.ones(len(best), bool)
    out += np.bincount(best[whole], minlength=len(out)) * edge**3
    if levels and not whole.all():
        _count(brain, scene, _divide(cells[:, ~whole], edge, 2), edge / 2, levels - 1, out)
    return best


def _count_deep(brain: Brain, scene: Scene, cells: Any, edge: float, levels: int, out: Any) -> None:
    """The same for the deep solids alone, which need no cortex."""
    points, _ = to_template(brain, cells.astype(F))
    near = scene.near(points, MARGIN * edge)
    if not near.solids:
        return
    band = F(MARGIN * edge if levels else 1e-5)
    rest = np.ones(points.shape[1], F)
    share_of = ramp_share(band)
    mixed = np.zeros(points.shape[1], bool)
    for name, distance in near.deep(points):
        share = share_of(distance) * rest
        rest -= share
        mixed |= (share > 0) & (share < 1) if levels else False
        out[INDEX[name]] += np.count_nonzero(share == 1 if levels else share > 0.5) * edge**3
    if mixed.any():
        _count_deep(brain, scene, _divide(cells[:, mixed], edge, 2), edge / 2, levels - 1, out)
