"""The numbers of `data.resample`: scipy's splines, exact averages, and labels that keep their volume."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.images import read_volume
from mriad.preparation import apply_steps
from mriad.vocabulary import Sample
from mriad_data.axis_weights import BALANCED, average_weights, image_weights, label_weights
from mriad_data.banded import multiply
from mriad_data.resampling import Resample, grid_at
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent))
from oblique_grids import grids, places, spacings


def scipy_spline(data, old: Grid, new: Grid, order, antialias=False) -> np.ndarray:
    """The same samples by scipy alone, in float64: each new centre's place, then `map_coordinates`."""
    at = old.voxels(new.world(places(new))).transpose(3, 0, 1, 2)
    data = data.astype(np.float64)
    if antialias:
        sigma = [max(b / a - 1, 0) / 2 for a, b in zip(old.spacing, new.spacing, strict=True)]
        data = ndimage.gaussian_filter(data, sigma, mode="nearest")
    return ndimage.map_coordinates(data, at, order=order, mode="nearest")


@settings(max_examples=40, deadline=None)
@given(grids(1, 24), st.lists(spacings, min_size=3, max_size=3), st.integers(1, 3), st.booleans())
def test_images_equal_scipy_splines_within_1e_4_of_the_range(grid, spacing, order, antialias):
    data = np.random.default_rng(3).normal(1000, 300, size=grid.shape).astype(np.float32)
    step = Resample(spacing_mm=spacing, image_order=order, antialias=antialias)
    after = step.apply(Sample("c", data[None], grid), None)
    expected = scipy_spline(data, grid, after.grid, order, antialias)
    limit = 1e-5 * max(np.ptp(data), 1)
    np.testing.assert_allclose(after.image[0], expected, atol=limit, rtol=1e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_an_int16_scan_equals_scipy_in_every_memory_order(order):
    draw = np.random.default_rng(0)
    grid = Grid.of((60, 48, 33), np.diag([0.9375, 0.9, 1.3, 1]))
    data = draw.integers(-200, 3000, size=grid.shape).astype(np.int16)
    made = []
    for axes in [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)]:
        laid = (
            np.ascontiguousarray(data.transpose(axes))
            .transpose(np.argsort(axes))
            .astype(np.float32, order="K")
        )
        after = Resample(spacing_mm=[1, 1, 1], image_order=order, antialias=False).apply(
            Sample("c", laid[None], grid), None
        )
        assert after.image.flags.c_contiguous
        made.append(after.image[0])
    expected = scipy_spline(data, grid, after.grid, order)
    for image in made:
        np.testing.assert_allclose(image, expected, atol=1e-5 * np.ptp(data))
        np.testing.assert_allclose(image, made[0], atol=1e-6 * np.ptp(data))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.lists(st.integers(0, 40), min_size=3, max_size=3),
    st.permutations(range(3)),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.booleans(),
)
def test_the_banded_product_is_the_dense_one(shape, sizes, axes, flips, given_out):
    draw = np.random.default_rng(1)
    data = draw.normal(size=[shape[a] for a in axes]).transpose(np.argsort(axes))
    data = data[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
    weights = {}
    for axis, (n, m) in enumerate(zip(shape, sizes, strict=True)):
        if m:
            matrix = draw.normal(size=(m, n))
            matrix[np.abs(np.arange(m)[:, None] * n / m - np.arange(n)) > 6] = 0
            weights[axis] = matrix
    expected = data
    for axis, matrix in weights.items():
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    out = np.empty(expected.shape, np.float32) if given_out else None
    before = data.copy()
    found = multiply(data, weights, out)
    assert found.flags.c_contiguous
    assert found.dtype == np.float32
    assert out is None or found is out
    assert not np.shares_memory(found, data)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(data, before)


def test_rows_without_weights_give_zero_and_no_rows_give_nothing():
    data = np.ones((40, 3, 4), np.float32)
    weights = np.zeros((70, 40))
    weights[0, 0] = 2
    found = multiply(data, {0: weights}, np.full((70, 3, 4), np.nan, np.float32))
    assert (found[0] == 2).all()
    assert (found[1:] == 0).all()
    assert multiply(data, {0: np.zeros((0, 40)), 2: np.ones((5, 4))}).shape == (0, 3, 5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 80), st.floats(0.2, 5))
def test_label_weights_are_shares_that_keep_the_volume(n, ratio):
    m = max(int(np.floor(n / ratio + 0.5)), 1)
    offset = (n - 1) / 2 - ratio * (m - 1) / 2
    weights, average = label_weights(n, m, ratio, offset), average_weights(n, m, ratio, offset)
    linear = image_weights(n, m, ratio, offset, 1, 0.0)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(weights.sum(0), average.sum(0), rtol=6 * BALANCED, atol=1e-12)
    if ratio < 1:
        assert (weights[linear == 0] == 0).all()  # the two neighbours of linear interpolation, no others
        assert np.abs(weights - linear).max() <= 0.13
    # What a voxel covers, by integrating its indicator on 2000 points.
    fine = offset + ratio * (np.arange(m)[:, None] + (np.arange(2000) + 0.5) / 2000 - 0.5)
    owner = np.clip(np.floor(fine + 0.5), 0, n - 1).astype(int)
    counted = np.stack([np.bincount(row, minlength=n) for row in owner]) / 2000
    np.testing.assert_allclose(average, counted, atol=2e-3)


def test_label_weights_are_linear_at_half_the_spacing():
    at = (10, 20, 0.5, -0.25)
    np.testing.assert_allclose(label_weights(*at), image_weights(*at, 1, 0.0), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(grids(9, 20), st.lists(st.floats(0.4, 4), min_size=3, max_size=3), st.integers(0, 99))
def test_soft_labels_keep_volume_range_and_sum(grid, spacing, seed):
    """Two structures that do not touch the border keep their volume to 0.1 %, whatever the grids are."""
    draw = np.random.default_rng(seed)
    soft = np.zeros((2, *grid.shape), np.float32)
    inner = tuple(slice(3, n - 3) for n in grid.shape)
    soft[0][inner] = draw.random([n - 6 for n in grid.shape])
    soft[1][inner] = (1 - soft[0][inner]) * draw.random([n - 6 for n in grid.shape])
    # A new voxel is at most as wide as what surrounds them, so that the new field of view holds them.
    spacing = [min(s, 3 * g) for s, g in zip(spacing, grid.spacing, strict=True)]
    after = Resample(spacing_mm=spacing).apply(Sample("c", soft[:1], grid, soft), None)
    assert after.target.min() >= 0
    assert after.target.max() <= 1
    assert after.target.sum(0).max() <= 1 + 1e-5
    before = soft.sum((1, 2, 3), dtype=float) * grid.voxel_volume
    np.testing.assert_allclose(
        after.target.sum((1, 2, 3), dtype=float) * after.grid.voxel_volume, before, rtol=1e-3
    )
    together = Resample(spacing_mm=spacing).apply(
        Sample("c", soft[:1], grid, soft.sum(0, keepdims=True)), None
    )
    np.testing.assert_allclose(after.target.sum(0), together.target[0], atol=1e-5)


MASKS = [
    "spine/PAM50/PAM50_res-1x1x2_label-cord_seg.nii.gz",
    "spine/PAM50/PAM50_res-1x1x2_label-levels_seg.nii.gz",
    "spine/sub-errsm30/sub-errsm30_T2star_label-gm_seg.nii.gz",
    "spine/sub-errsm30/sub-errsm30_MTon_label-gm_prob.nii.gz",
    "spine/labelmaps/sub-unf01_label-cordcsf_dseg.nii.gz",
]


@pytest.mark.parametrize("spacing", [[1, 1, 1], [0.5, 0.5, 0.5], [0.8, 0.9, 5]], ids=str)
def test_real_masks_keep_their_volume_as_soft_labels(real_data, spacing):
    paths = [real_data / name for name in MASKS]
    paths += sorted((real_data / "hippocampus" / "labelsTr").glob("*.nii.gz"))[:6]
    assert len(paths) == len(MASKS) + 6
    for path in paths:
        volume = read_volume(path)
        whole = np.issubdtype(volume.data.dtype, np.integer)
        values = [v for v in np.unique(volume.data) if v] if whole else [None]
        soft = np.stack([volume.data if v is None else volume.data == v for v in values]).astype(np.float32)
        # Cords run out of the scan; with air around, nothing is lost at its border.
        margin = [int(np.ceil(s / g)) + 1 for s, g in zip(spacing, volume.grid.spacing, strict=True)]
        soft = np.pad(soft, [(0, 0), *((m, m) for m in margin)])
        grid = volume.grid.crop([-m for m in margin], soft.shape[1:])
        after = Resample(spacing_mm=spacing).apply(Sample("c", soft[:1], grid, soft), None)
        assert after.target.min() >= 0
        assert after.target.max() <= 1
        np.testing.assert_allclose(
            after.target.sum((1, 2, 3), dtype=float) * after.grid.voxel_volume,
            soft.sum((1, 2, 3), dtype=float) * grid.voxel_volume,
            rtol=1e-3,
            err_msg=str(path),
        )


def test_hard_labels_are_the_largest_share_as_scipy_counts_it():
    """At half the spacing the weights are linear: scipy's own linear masks, largest wins, ties to the first."""
    draw = np.random.default_rng(5)
    grid = Grid.of((14, 12, 10), np.diag([1.0, 1.2, 2.0, 1]))
    labels = ndimage.zoom(draw.integers(0, 4, size=(7, 6, 5)), 2, order=0).astype(np.uint8)
    step = Resample(spacing_mm=[0.5, 0.6, 1.0])
    after = step.apply(Sample("c", labels[None].astype(np.float32), grid, labels[None]), None)
    shares = np.stack([scipy_spline(labels == v, grid, after.grid, 1) for v in range(4)])
    top = np.sort(shares, 0)
    clear = top[-1] - top[-2] > 1e-4
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(after.target[0][clear], shares.argmax(0)[clear])
    # Twice as coarse: the majority of eight voxels.
    step = Resample(spacing_mm=[2.0, 2.4, 4.0])
    found = step.apply(Sample("c", labels[None].astype(np.float32), grid, labels[None]), None).target[0]
    eight = labels.reshape(7, 2, 6, 2, 5, 2).transpose(0, 2, 4, 1, 3, 5).reshape(7, 6, 5, 8)
    np.testing.assert_array_equal(found, [[[np.bincount(v).argmax() for v in r] for r in s] for s in eight])


def test_thick_slices_are_the_mean_of_the_thin_ones_that_they_cover():
    draw = np.random.default_rng(2)
    grid = Grid.of((4, 5, 24), np.diag([1, 1, 0.5, 1]))
    data = draw.normal(size=grid.shape).astype(np.float32)
    thick = Resample(spacing_mm=["keep", "keep", 2], slice_profile=True)
    after = thick.apply(Sample("c", data[None], grid), None)
    np.testing.assert_allclose(after.image[0], data.reshape(4, 5, 6, 4).mean(-1), atol=1e-6)
    uneven = Resample(spacing_mm=["keep", "keep", 1.2], slice_profile=True)
    after = uneven.apply(Sample("c", data[None], grid), None)
    assert after.grid.shape[2] == 10
    # 2.4 thin slices each: the first two and 0.4 of the third; then 0.6 of that, one, and 0.8 of the fifth.
    first = (data[..., 0] + data[..., 1] + 0.4 * data[..., 2]) / 2.4
    second = (0.6 * data[..., 2] + data[..., 3] + 0.8 * data[..., 4]) / 2.4
    np.testing.assert_allclose(after.image[0][..., 0], first, atol=1e-6)
    np.testing.assert_allclose(after.image[0][..., 1], second, atol=1e-6)
    # Finer axes are splines still.
    finer = Resample(spacing_mm=["keep", "keep", 0.3], slice_profile=True).apply(
        Sample("c", data[None], grid), None
    )
    np.testing.assert_allclose(
        finer.image[0], scipy_spline(data, grid, finer.grid, 3), atol=1e-5 * np.ptp(data)
    )


def test_in_plane_and_through_plane_orders_are_apart_on_anisotropic_scans():
    draw = np.random.default_rng(2)
    data = draw.normal(size=(12, 10, 6)).astype(np.float32)
    labels = (data > 0).astype(np.uint8)
    step = Resample(spacing_mm=[0.7, 0.7, 1.0], through_image_order=0, through_label_order=0)
    thick = Grid.of(data.shape, np.diag([0.5, 0.5, 5, 1]))
    after = step.apply(Sample("c", data[None], thick, labels[None]), None)
    # Each slice by itself, then copied to the new slices that lie nearest.
    flat = Grid.of((12, 10, 1), np.diag([0.5, 0.5, 5, 1]))
    alone = Resample(spacing_mm=[0.7, 0.7, "keep"])
    picks = [
        int(np.floor(z + 0.5)) for z in thick.voxels(after.grid.world([(0, 0, k) for k in range(30)]))[:, 2]
    ]
    for k, pick in enumerate(np.clip(picks, 0, 5)):
        here = (None, ..., slice(pick, pick + 1))
        one = alone.apply(Sample("c", data[here], flat, labels[here]), None)
        np.testing.assert_allclose(after.image[0, ..., k], one.image[0, ..., 0], atol=1e-5)
        np.testing.assert_array_equal(after.target[0, ..., k], one.target[0, ..., 0])
    # 2 mm slices of 1 mm pixels are no more than three times as thick: one order for all axes.
    mild = Grid.of(data.shape, np.diag([1, 1, 2, 1]))
    plain = Resample(spacing_mm=[0.7, 0.7, 1.0])
    for field in ("image", "target"):
        np.testing.assert_array_equal(
            getattr(step.apply(Sample("c", data[None], mild, labels[None]), None), field),
            getattr(plain.apply(Sample("c", data[None], mild, labels[None]), None), field),
        )


def test_null_keeps_an_axis_and_is_the_same_setting_as_keep():
    assert Resample(spacing_mm=[None, 1, 2]) == Resample(spacing_mm=["keep", 1, 2])
    grid = Grid.of((4, 5, 6), np.diag([2.0, 2, 2, 1]))
    assert grid_at(grid, [None, 1, 2]).shape == (4, 10, 6)


def test_one_slice_and_one_voxel_axes_come_out_constant_along_them():
    data = np.random.default_rng(0).normal(size=(1, 9, 8, 1)).astype(np.float32)
    grid = Grid.of((9, 8, 1), np.diag([1.0, 1, 4, 1]))
    after = Resample(spacing_mm=[0.8, "keep", 1]).apply(
        Sample("c", data, grid, (data > 0).astype(np.uint8)), None
    )
    assert after.grid.shape == (11, 8, 4)
    np.testing.assert_allclose(after.image, np.repeat(after.image[..., :1], 4, -1), atol=1e-6)
    np.testing.assert_array_equal(after.target, np.repeat(after.target[..., :1], 4, -1))
    dot = Sample("c", np.full((1, 1, 1, 1), 5, np.float32), Grid.of((1, 1, 1), np.eye(4)))
    for spacing, count in ((0.4, 3), (3.0, 1)):
        one = Resample(spacing_mm=[spacing] * 3).apply(dot, None)
        assert one.grid.shape == (count,) * 3
        np.testing.assert_allclose(one.image, 5, atol=1e-5)
        np.testing.assert_allclose(one.grid.world((np.array(one.grid.shape) - 1) / 2), 0, atol=1e-9)


def test_a_case_of_label_maps_without_images_is_resampled():
    labels = np.zeros((1, 6, 6, 6), np.uint8)
    labels[0, 2:4, 2:4, 2:4] = 3
    grid = Grid.of((6, 6, 6), np.eye(4))
    after = Resample(spacing_mm=[0.5] * 3).apply(
        Sample("c", np.empty((0, 6, 6, 6), np.float32), grid, labels), None
    )
    assert after.image.shape == (0, 12, 12, 12)
    assert set(np.unique(after.target)) == {0, 3}


@settings(max_examples=30, deadline=None)
@given(grids(), st.lists(spacings, min_size=3, max_size=3))
def test_field_and_validity_take_the_nearest_voxel_and_make_no_value(grid, spacing):
    """Where the nearest old voxel was padding or not annotated, so is the new one; a confidence stays as it is."""
    draw = np.random.default_rng(7)
    field = draw.integers(0, 2, (1, *grid.shape)).astype(np.uint8)
    confidence = draw.choice([0, 0.25, 0.9], (1, *grid.shape)).astype(np.float32)
    hard = draw.integers(0, 3, (1, *grid.shape)).astype(np.uint8)
    sample = Sample("c", hard.astype(np.float32), grid, hard, confidence, field)
    after = Resample(spacing_mm=spacing).apply(sample, None)
    at = grid.voxels(after.grid.world(places(after.grid)))
    index = tuple(
        np.clip(np.floor(at + 0.5 + 1e-9).astype(int), 0, np.array(grid.shape) - 1).transpose(3, 0, 1, 2)
    )
    clear = (np.abs(at - np.floor(at) - 0.5) > 1e-6).all(-1)  # exactly between two either is the nearest
    for array, old in ((after.field, field), (after.validity, confidence)):
        assert array.dtype == old.dtype
        np.testing.assert_array_equal(array[0][clear], old[0][index][clear])
        assert set(np.unique(array)) <= set(np.unique(old))


def test_a_left_handed_affine_is_resampled_in_place():
    data = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    right, left = (Grid.of(data.shape, np.diag([s, 1.0, 1, 1])) for s in (1, -1))
    step = Resample(spacing_mm=[0.7, 0.7, 0.7])
    a, b = (step.apply(Sample("c", data[None], g), None) for g in (right, left))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_allclose(a.grid.corners() * [-1, 1, 1], b.grid.corners(), atol=1e-9)


def test_a_zoom_that_needs_terabytes_is_refused_with_the_numbers():
    grid = Grid.of((256, 256, 200), np.diag([1.0, 1, 1, 1]))
    sample = Sample("sub-01", np.zeros((1, 256, 256, 200), np.float32), grid)
    with pytest.raises(DataError) as found:
        apply_steps(sample, [Resample(spacing_mm=[0.01, 0.01, 0.01])], [None])
    text = str(found.value)
    assert "resampling needs more memory than this machine has" in text
    assert "sub-01" in text
    assert "256×256×200, 1×1×1 mm" in text
    assert "25600×25600×20000, 0.01×0.01×0.01 mm" in text
    assert "190.7 TiB" in text  # 16 bytes a voxel
    assert "a larger spacing_mm" in text


@pytest.mark.parametrize("spacing", [0, -1, 1e-5, float("inf"), float("nan")])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match=r"positive numbers of mm \(0.001 at least\), or `keep`"):
        Resample(spacing_mm=[1, spacing, 1])
