"""Hypothesis strategies and helpers for geometry: oblique, flipped, permuted, anisotropic grids."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad.vocabulary import Sample
from scipy.spatial.transform import Rotation

angles = st.floats(-40, 40, allow_nan=False)
spacings = st.floats(0.4, 4, allow_nan=False)


@st.composite
def grids(draw, smallest: int = 3, largest: int = 9) -> Grid:
    shape = [draw(st.integers(smallest, largest)) for _ in range(3)]
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = (turn * np.array(signs))[:, order] * np.array([draw(spacings) for _ in range(3)])
    matrix[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return Grid.of(shape, matrix)


def places(grid: Grid) -> np.ndarray:
    """Voxel indices (X, Y, Z, 3)."""
    return np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)


def marked(grid: Grid, voxel, channels: int = 1) -> Sample:
    """One bright voxel in image, target and validity; everything was acquired."""
    one = np.zeros((1, *grid.shape), np.uint8)
    one[(0, *voxel)] = 1
    image = np.repeat(one.astype(np.float32), channels, 0)
    return Sample("c", image, grid, one, one.copy(), np.ones_like(one))
