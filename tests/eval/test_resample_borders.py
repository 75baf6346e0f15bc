"""`mriad evaluate --resample`: voxels at the border of the prediction are kept, those beyond its faces are 0."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad.structure_pair import StructurePair
from mriad_eval.overlap import dice, soft_dice_squared
from mriad_eval.resample import onto_grid
from scipy.spatial.transform import Rotation

angles = st.floats(-40, 40, allow_nan=False)


@st.composite
def obliques(draw: st.DrawFn) -> Grid:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    matrix[:3, :3] = turn * np.array([draw(st.floats(0.3, 4)) for _ in range(3)])
    matrix[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return Grid.of([draw(st.integers(1, 9)) for _ in range(3)], matrix)


@settings(max_examples=150, deadline=None)
@given(obliques(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.booleans())
def test_flipped_and_permuted_copies_are_the_same_image(
    grid: Grid, order: list[int], flips: tuple[bool, bool, bool], soft: bool
) -> None:
    """Border voxels hold the structure: rounding of an oblique affine must not put them outside."""
    values = np.random.default_rng(grid.shape[0]).random(grid.shape).astype(np.float32)
    values = 0.2 + 0.8 * values if soft else np.ones_like(values)
    step = np.eye(4)[:, [*order, 3]]
    for axis in range(3):
        if flips[axis]:
            step[:, 3] += step[:, axis] * (grid.shape[order[axis]] - 1)
            step[:, axis] *= -1
    copy = np.flip(values.transpose(order), [axis for axis in range(3) if flips[axis]])
    there = Grid.of(copy.shape, grid.matrix @ step)
    found = onto_grid(np.ascontiguousarray(copy)[None], there, grid)[0]
    np.testing.assert_allclose(found, values, atol=1e-5)
    pair = StructurePair(found, values, grid, None)
    assert soft_dice_squared(pair)[0] == pytest.approx(1, abs=1e-6)
    if not soft:
        assert dice(pair) == (1.0, "")


@pytest.mark.parametrize("value", [1.0, 0.8], ids=["mask", "soft"])
def test_thick_slices_reach_to_their_outer_faces(value: float) -> None:
    """15 slices of 2 mm are 30 of 1 mm: none at either end is lost, and none beyond is made up."""
    thick = Grid.of((4, 4, 15), np.diag([1.0, 1, 2, 1]))
    fine = np.diag([1.0, 1, 1, 1])
    fine[2, 3] = -0.5  # the outer faces coincide, at −1 mm
    whole = np.full((1, 4, 4, 15), value, dtype=np.float32)
    np.testing.assert_allclose(onto_grid(whole, thick, Grid.of((4, 4, 30), fine)), value, rtol=1e-6)
    fine[2, 3] = -2.5  # two slices more at each end
    found = onto_grid(whole, thick, Grid.of((4, 4, 34), fine))[0]
    np.testing.assert_allclose(found[..., 2:32], value, rtol=1e-6)
    assert found[..., :2].max() == found[..., 32:].max() == 0
