"""Apply, then inverse: what every geometric step made comes back on the grid of the scan (decision 0004)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.images import read_volume
from mriad.inference.native import VoxelMap, to_native
from mriad.inference.slab import Slab, collect
from mriad.preparation import apply_steps
from mriad.vocabulary import Sample
from mriad_data.cropping import CenterCrop, Crop
from mriad_data.foreground import CropToForeground
from mriad_data.orientation import Orient
from mriad_data.padding import Pad
from mriad_data.resampling import Resample

sys.path.insert(0, str(Path(__file__).parent))
from oblique_grids import grids, marked, places

if TYPE_CHECKING:
    from mriad.geometry import Grid

AXES = [a + b + c for a in "RL" for b in "AP" for c in "SI"] + ["PIR", "SLA", "IPR", "ASR"]
sizes = st.lists(st.integers(6, 12), min_size=3, max_size=3)
few = st.lists(st.integers(0, 3), min_size=3, max_size=3)
exact_steps = st.one_of(
    st.builds(Orient, axes=st.sampled_from(AXES)),
    st.builds(CenterCrop, size=sizes),
    st.builds(Pad, margin=few, multiple=st.lists(st.integers(1, 4), min_size=3, max_size=3)),
    st.builds(Crop, low=st.lists(st.integers(0, 1), min_size=3, max_size=3), high=st.just(["edge"] * 3)),
    st.builds(CropToForeground, above=st.just(0.5), margin_mm=st.floats(0, 4)),
)


def native(array: np.ndarray, working: Grid, scan: Grid) -> np.ndarray:
    """(C, X, Y, Z) on the working grid → (C, *scan.shape), as the predictor does it."""
    slabs = [Slab(0, 0, torch.from_numpy(np.ascontiguousarray(array, np.float32)))]
    return collect(list(to_native(slabs, len(array), working, scan)), len(array), scan.shape)


@settings(max_examples=100, deadline=None)
@given(grids(6, 10), st.lists(exact_steps, min_size=1, max_size=4), st.integers(0, 99))
def test_orient_crop_and_pad_in_any_order_come_back_bit_for_bit(grid, steps, seed):
    draw = np.random.default_rng(seed)
    image = draw.uniform(0.6, 1, (1, *grid.shape)).astype(np.float32)  # foreground everywhere
    target = draw.integers(0, 3, (1, *grid.shape)).astype(np.uint8)
    ones = np.ones((1, *grid.shape), np.uint8)
    after = apply_steps(Sample("c", image, grid, target, ones, ones), steps, [None] * len(steps))
    assert VoxelMap.between(after.grid, grid).exact
    kept = native(after.field, after.grid, grid)
    assert set(np.unique(kept)) <= {0.0, 1.0}
    back = native(after.image, after.grid, grid)
    assert back.shape == image.shape
    np.testing.assert_array_equal(back, image * kept)
    for structure in (1, 2):
        mask = native(after.target == structure, after.grid, grid)
        np.testing.assert_array_equal(mask, (target == structure) * kept)
    np.testing.assert_array_equal(after.validity, after.field)
    if not any(isinstance(step, Crop | CenterCrop) for step in steps):
        assert kept.all()  # nothing was cut away


@settings(max_examples=60, deadline=None)
@given(grids(6, 10), st.lists(exact_steps, min_size=1, max_size=4), st.data())
def test_a_marked_voxel_keeps_its_place_through_every_chain(grid, steps, data):
    voxel = tuple(data.draw(st.integers(1, n - 1)) for n in grid.shape)
    before = marked(grid, voxel)
    before = replace(before, image=before.image + 0.6)  # foreground everywhere
    after = apply_steps(before, steps, [None] * len(steps))
    for array, mark in ((after.image, np.float32(1.6)), (after.target, 1), (after.validity, 1)):
        found = np.argwhere(array[0] == mark)
        assert len(found) <= 1
        for place in found:
            np.testing.assert_allclose(after.grid.world(place), grid.world(voxel), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    grids(8, 14),
    st.sampled_from(AXES),
    st.lists(st.floats(0.3, 1.0), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)
def test_a_ramp_in_the_world_comes_back_as_itself_through_resampling(grid, axes, finer, slope):
    """Linear interpolation keeps linear functions: a wrong offset, flip or size anywhere would show."""
    world = grid.world(places(grid)) @ np.array(slope)
    ramp = ((world - world.min()) / max(np.ptp(world), 1e-6)).astype(np.float32)
    oriented = Orient(axes=axes).apply(Sample("c", ramp[None], grid), None)
    spacing = [float(s * f) for s, f in zip(oriented.grid.spacing, finer, strict=True)]
    steps = [Orient(axes=axes), Resample(spacing_mm=spacing, image_order=1), Pad(margin=[1, 0, 2])]
    after = apply_steps(Sample("c", ramp[None], grid), steps, [None] * 3)
    back = native(after.image, after.grid, grid)[0]
    assert back.shape == grid.shape
    inner = (slice(1, -1),) * 3  # beyond the outermost centres values are held, not continued
    np.testing.assert_allclose(back[inner], ramp[inner], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(grids(9, 14), st.lists(st.floats(0.4, 2), min_size=3, max_size=3), st.data())
def test_a_marked_voxel_keeps_its_place_through_resampling(grid, factor, data):
    """The centre of mass of a marked voxel, in image and target, stays within half of the coarser voxel."""
    voxel = np.array([data.draw(st.integers(4, n - 5)) for n in grid.shape])
    sample = marked(grid, tuple(voxel))
    spacing = [s * f for s, f in zip(grid.spacing, factor, strict=True)]
    soft = replace(sample, target=sample.image, validity=None)
    after = Resample(spacing_mm=spacing, image_order=1, slice_profile=True).apply(soft, None)
    coarse = np.maximum(after.grid.spacing, grid.spacing)
    turn = after.grid.matrix[:3, :3] / np.array(after.grid.spacing)
    for array in (after.image, after.target):
        weight = array[0].astype(float)
        found = after.grid.world((places(after.grid) * weight[..., None]).sum((0, 1, 2)) / weight.sum())
        apart = np.abs(turn.T @ (found - grid.world(voxel)))
        assert (apart <= 0.5 * coarse + 1e-6).all()


REAL = [
    "spine/sub-errsm30/sub-errsm30_T2w_label-cord_seg.nii.gz",
    "spine/sub-errsm30/sub-errsm30_T2star_label-cord_seg.nii.gz",
    "spine/sub-fakelesion/sub-fakelesion_T2w_label-cord_seg.nii.gz",
    "spine/PAM50/PAM50_res-1x1x2_label-cord_seg.nii.gz",
    "hippocampus/labelsTr/hippocampus_001.nii.gz",
    "hippocampus/labelsTr/hippocampus_003.nii.gz",
]


@pytest.mark.parametrize("name", REAL, ids=lambda name: Path(name).name.partition(".")[0])
def test_real_masks_come_back_onto_their_scan(real_data, name):
    volume = read_volume(real_data / name)
    mask = (volume.data != 0).astype(np.float32)[None]
    sample = Sample(name, mask, volume.grid, mask.astype(np.uint8))
    exact = [Orient(axes="SPL"), CropToForeground(margin_mm=6), Pad(margin=[2, 2, 2], multiple=[16, 16, 16])]
    after = apply_steps(sample, exact, [None] * 3)
    np.testing.assert_array_equal(native(after.image, after.grid, volume.grid), mask)
    np.testing.assert_array_equal(native(after.target, after.grid, volume.grid), mask)
    # Through finer voxels, as a soft label: the volume stays, and half of each boundary voxel at most moves.
    finer = [float(s) / 2 for s in after.grid.spacing]
    steps = [*exact, Resample(spacing_mm=finer)]
    soft = apply_steps(replace(sample, target=mask), steps, [None] * 4)
    back = native(soft.target, soft.grid, volume.grid)
    assert back.shape == mask.shape
    assert back.sum(dtype=float) == pytest.approx(mask.sum(dtype=float), rel=0.03)
    overlap = 2 * (mask * (back > 0.5)).sum() / (mask.sum() + (back > 0.5).sum())
    assert overlap > 0.97
