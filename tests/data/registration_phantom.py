"""A head that is a formula: any contrast on any grid under any pose, exactly, without interpolation."""

from __future__ import annotations

import numpy as np
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_data.registration import Transform

SIGNALS = {"T1w": (0, 40, 90, 140, 20), "T2w": (0, 220, 120, 70, 240), "FLAIR": (0, 20, 110, 80, 200)}
CENTRE = np.array([5.0, -12.0, 20.0])


def turn(axis, degrees: float) -> np.ndarray:
    """Rotation about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def pose(seed: int, degrees: float, mm: float, stretch: float = 0.0, centre=CENTRE) -> Transform:
    """A random motion about a centre: by an angle, then a way, after a stretch of each axis and a shear."""
    draw = np.random.default_rng(seed)
    linear = turn(draw.normal(size=3), degrees) @ (np.eye(3) + stretch * draw.uniform(-1, 1, (3, 3)))
    way = draw.normal(size=3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre - linear @ centre + mm * way / np.linalg.norm(way)
    return Transform.of(matrix)


def grid(
    spacing=(2.0, 2.0, 2.0), axes=(1, 0, 0), degrees=0.0, extent=(170, 200, 160), flip=(1, 1, 1)
) -> Grid:
    """A grid around the head."""
    shape = np.rint(np.divide(extent, spacing)).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = turn(axes, degrees) @ np.diag(flip) * np.array(spacing)
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ ((shape - 1) / 2)
    return Grid.of(shape, matrix)


def tissues(world: np.ndarray) -> np.ndarray:
    """0 air, 1 scalp, 2 grey, 3 white, 4 ventricles and a lesion; nothing about it is symmetric."""
    x, y, z = np.moveaxis((world - CENTRE) / (70, 85, 65), -1, 0)
    radius = np.sqrt(x**2 + y**2 + z**2)
    folds = radius + 0.08 * np.sin(7 * x + 1) * np.sin(6 * y) * np.cos(5 * z + 0.5) + 0.05 * x * y
    found = np.select([radius > 1, folds > 0.85, folds > 0.65], [0, 1, 2], 3)
    for middle, half in (
        ((-0.15, 0.05, 0.1), (0.08, 0.3, 0.12)),
        ((0.2, 0.1, 0.05), (0.1, 0.22, 0.1)),
        ((0.3, -0.35, -0.2), (0.12, 0.1, 0.14)),
    ):
        place = [(a - m) / h for a, m, h in zip((x, y, z), middle, half, strict=True)]
        found[sum(p**2 for p in place) < 1] = 4
    return found


def anatomy(on: Grid, moved: Transform | None = None) -> np.ndarray:
    """Tissue numbers on a grid; `moved` says where a point of the unmoved head went."""
    voxels = np.stack(np.meshgrid(*map(np.arange, on.shape), indexing="ij"), -1)
    world = on.world(voxels)
    return tissues(world if moved is None else moved.inverse()(world)).astype(np.uint8)


def scan(
    contrast: str, on: Grid, moved: Transform | None = None, seed: int = 0, noise: float = 5.0
) -> Volume:
    """An image of the head with Gaussian noise."""
    clean = np.array(SIGNALS[contrast], float)[anatomy(on, moved)]
    noisy = clean + np.random.default_rng(seed).normal(0, noise, on.shape)
    return Volume(noisy.astype(np.float32), on)


def head_points() -> np.ndarray:
    """Points (N, 3) all over the head, world mm."""
    draw = np.random.default_rng(0).normal(size=(400, 3))
    return CENTRE + draw / np.linalg.norm(draw, axis=1, keepdims=True) * (70, 85, 65) * 0.95
