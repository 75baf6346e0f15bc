"""`data.crop`, `data.crop_to_foreground`, `data.pad`: which voxels are kept, what is marked, what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.preparation import apply_steps
from mriad.testing import check_preprocessing
from mriad.vocabulary import Sample
from mriad_data.cropping import CenterCrop, Crop
from mriad_data.foreground import CropToForeground
from mriad_data.normalising import ZScore
from mriad_data.padding import Pad
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from oblique_grids import grids, marked, places


@settings(max_examples=60, deadline=None)
@given(grids(), st.data())
def test_a_box_in_voxels_is_a_slice_and_moves_nothing(grid, data):
    low = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    high = [data.draw(st.integers(a + 1, n + 4)) for a, n in zip(low, grid.shape, strict=True)]
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    sample = marked(grid, voxel)
    after = Crop(low=low, high=high).apply(sample, None)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    np.testing.assert_array_equal(after.image[0], sample.image[0][box])
    for array in (after.image, after.target, after.validity):
        for place in np.argwhere(array[0] == 1):
            np.testing.assert_allclose(after.grid.world(place), grid.world(voxel), atol=1e-6)
    assert after.field.all()  # what lies outside the volume is left away, not padded


@settings(max_examples=60, deadline=None)
@given(
    grids(),
    st.lists(st.floats(-12, 12), min_size=3, max_size=3),
    st.lists(st.floats(3, 15), min_size=3, max_size=3),
)
def test_a_box_in_mm_keeps_every_centre_inside_and_is_the_smallest(grid, shift, size):
    middle = grid.world((np.array(grid.shape) - 1) / 2) + shift
    low, high = middle - np.array(size) / 2, middle + np.array(size) / 2
    sample = marked(grid, (1, 1, 1))
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    there = grid.voxels(corners)
    first = np.maximum(np.ceil(there.min(0) - 1e-6), 0)
    past = np.minimum(np.floor(there.max(0) + 1e-6) + 1, grid.shape)
    step = Crop(low=low.tolist(), high=high.tolist(), unit="mm")
    world = grid.world(places(grid))
    inside = ((world >= low) & (world <= high)).all(-1)
    if (first >= past).any():
        assert not inside.any()
        with pytest.raises(DataError, match="no voxel lies in the box"):
            step.apply(sample, None)
        return
    after = step.apply(sample, None)
    assert after.grid.same(grid.crop(first.astype(int), (past - first).astype(int)))
    kept = np.zeros(grid.shape, bool)
    kept[tuple(slice(int(a), int(b)) for a, b in zip(first, past, strict=True))] = True
    assert kept[inside].all()


def test_edges_leave_a_side_open_in_voxels_and_in_mm():
    grid = Grid.of((6, 7, 8), [[-2, 0, 0, 5], [0, 0, 1, -3], [0, 3, 0, 0], [0, 0, 0, 1]])
    sample = marked(grid, (1, 1, 1))
    after = Crop(low=["edge", 2, "edge"], high=[4, "edge", "edge"]).apply(sample, None)
    assert after.grid.same(grid.crop((0, 2, 0), (4, 5, 8)))
    # R is −i, A is k, S is j: world A from 0 on, S up to 9.
    after = Crop(low=["edge", 0, "edge"], high=["edge", "edge", 9], unit="mm").apply(sample, None)
    assert after.grid.same(grid.crop((0, 0, 3), (6, 4, 5)))
    every = Crop(low=["edge"] * 3, high=["edge"] * 3, unit="mm").apply(sample, None)
    assert every.grid.same(grid)


def test_a_box_beside_the_volume_names_case_box_and_place():
    grid = Grid.of((6, 7, 8), np.diag([1.0, 1, 1, 1]))
    sample = replace(marked(grid, (1, 1, 1)), case="sub-07")
    for step in (
        Crop(low=[100, 0, 0], high=[110, 5, 5]),
        Crop(low=[100, 0, 0], high=[110, 5, 5], unit="mm"),
    ):
        with pytest.raises(DataError) as found:
            apply_steps(sample, [step], [None])
        text = str(found.value)
        assert "no voxel lies in the box of data.crop" in text
        assert "sub-07" in text
        assert f"[100.0, 0.0, 0.0] to [110.0, 5.0, 5.0] {step.unit}" in text
        assert "[0.0, 0.0, 0.0] to [5.0, 6.0, 7.0] mm" in text
        assert "is the unit right?" in text


@settings(max_examples=60, deadline=None)
@given(
    grids(),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.lists(st.integers(1, 8), min_size=3, max_size=3),
    st.data(),
)
def test_padding_moves_nothing_and_is_marked(grid, margin, multiple, data):
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    sample = replace(marked(grid, voxel), validity=None, field=None)
    after = Pad(margin=margin, multiple=multiple, fill=-3).apply(sample, None)
    for size, n, m, k in zip(after.grid.shape, grid.shape, margin, multiple, strict=True):
        assert size % k == 0
        assert n + 2 * m <= size < n + 2 * m + k
    for array in (after.image, after.target):
        (place,) = np.argwhere(array[0] == 1)
        np.testing.assert_allclose(after.grid.world(place), grid.world(voxel), atol=1e-6)
    if after.grid.shape == grid.shape:
        assert after is sample
        return
    start = np.rint(after.grid.voxels(grid.world((0, 0, 0)))).astype(int)
    inside = np.zeros(after.grid.shape, bool)
    inside[tuple(slice(a, a + n) for a, n in zip(start, grid.shape, strict=True))] = True
    np.testing.assert_array_equal(after.field[0] != 0, inside)
    np.testing.assert_array_equal(after.validity[0] != 0, inside)
    assert (after.image[0][~inside] == -3).all()
    assert (start >= margin).all()
    assert (np.array(after.grid.shape) - grid.shape - start >= margin).all()


@settings(max_examples=60, deadline=None)
@given(grids(), st.floats(0, 3), st.integers(0, 999))
def test_the_foreground_box_is_the_smallest_with_its_margin(grid, margin, seed):
    draw = np.random.default_rng(seed)
    image = np.where(draw.random((2, *grid.shape)) < 0.02, draw.choice([-1, 2], (2, *grid.shape)), 0)
    image[0, 1, 1, 1] = 5
    sample = Sample("c", image.astype(np.float32), grid, draw.integers(0, 3, (1, *grid.shape)))
    for above, shown in ((None, (image != 0).any(0)), (1, (image > 1).any(0))):
        after = CropToForeground(above=above, margin_mm=margin).apply(sample, None)
        voxels = np.argwhere(shown)
        reach = np.ceil(margin / np.array(grid.spacing) - 1e-6).astype(int)
        low = np.maximum(voxels.min(0) - reach, 0)
        high = np.minimum(voxels.max(0) + 1 + reach, grid.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        np.testing.assert_array_equal(after.image, sample.image[(slice(None), *box)])
        np.testing.assert_array_equal(after.target, sample.target[(slice(None), *box)])
        assert after.grid.same(grid.crop(low, high - low))
        assert after.field is None


def test_padding_is_no_foreground_and_the_target_does_not_matter():
    grid = Grid.of((6, 6, 6), np.eye(4))
    sample = marked(grid, (3, 3, 3))
    padded = Pad(margin=[2, 2, 2], fill=9).apply(sample, None)
    after = CropToForeground().apply(padded, None)
    assert after.grid.shape == (1, 1, 1)
    np.testing.assert_allclose(after.grid.world((0, 0, 0)), (3, 3, 3))
    without = CropToForeground().apply(replace(padded, target=None, validity=None), None)
    assert without.grid == after.grid


def test_an_empty_foreground_names_the_case_and_its_values():
    grid = Grid.of((4, 4, 4), np.eye(4))
    image = np.linspace(-1, 0, 64, dtype=np.float32).reshape(1, 4, 4, 4)
    with pytest.raises(DataError) as found:
        apply_steps(Sample("sub-03_T2w", image, grid), [CropToForeground(above=0)], [None])
    text = str(found.value)
    assert "a volume has no foreground to crop to" in text
    assert "sub-03_T2w" in text
    assert "values above 0" in text
    assert "-1 to 0" in text
    assert "choose another `above`" in text
    empty = Sample("labels", np.empty((0, 4, 4, 4), np.float32), grid, np.ones((1, 4, 4, 4), np.uint8))
    with pytest.raises(DataError, match="the case has no image"):
        CropToForeground().apply(empty, None)


def test_statistics_after_padding_are_those_of_the_acquired_field():
    grid = Grid.of((6, 6, 6), np.eye(4))
    image = np.random.default_rng(0).normal(100, 20, (1, 6, 6, 6)).astype(np.float32)
    padded = Pad(margin=[3, 3, 3]).apply(Sample("c", image, grid), None)
    whole, part = (ZScore().apply(s, None) for s in (Sample("c", image, grid), padded))
    np.testing.assert_allclose(part.image[:, 3:-3, 3:-3, 3:-3], whole.image, atol=1e-5)


@pytest.mark.parametrize(
    "step",
    [
        Crop(low=[1, "edge", 2], high=["edge", 14, "edge"]),
        Crop(low=["edge", -12, "edge"], high=[12, "edge", "edge"], unit="mm"),
        CropToForeground(above=0.5, margin_mm=3),
        Pad(margin=[1, 0, 2], multiple=[4, 4, 4]),
        CenterCrop(size=[12, 24, "full"]),
    ],
    ids=lambda step: step.type_name(),
)
def test_the_contract_holds(step):
    check_preprocessing(step)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Crop(low=[0, 5, 0], high=[4, 5, 4]), "must lie below high"),
        (lambda: Crop(low=[0.5, 0, 0], high=[4, 5, 4]), "whole numbers of voxels from 0"),
        (lambda: Crop(low=[-3, 0, 0], high=[4, 5, 4]), "whole numbers of voxels from 0"),
        (lambda: Crop(low=[0, 0], high=[4, 5, 4]), "at least 3"),
        (lambda: Pad(margin=[-1, 0, 0]), "data.crop takes voxels away"),
        (lambda: Pad(multiple=[0, 1, 1]), "positive numbers of voxels"),
        (lambda: CropToForeground(margin_mm=-1), "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, text):
    with pytest.raises(ValidationError) as found:
        make()
    assert text in str(found.value)
