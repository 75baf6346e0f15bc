"""Every step keeps voxels where they are in the world; interpolation is compared with SimpleITK's."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own habit)
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad.testing import check_preprocessing
from mriad.vocabulary import Sample
from mriad_data.cropping import CenterCrop
from mriad_data.normalising import ZScore
from mriad_data.orientation import Orient
from mriad_data.resampling import Resample
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

AXES = [a + b + c for a in "RL" for b in "AP" for c in "SI"] + ["PIR", "SLA", "IPR", "ASR"]
angles = st.floats(-40, 40, allow_nan=False)
spacings = st.floats(0.4, 4, allow_nan=False)


@st.composite
def grids(draw) -> Grid:
    """Oblique, flipped, permuted, anisotropic grids."""
    shape = [draw(st.integers(3, 9)) for _ in range(3)]
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = (turn * np.array(signs))[:, order] * np.array([draw(spacings) for _ in range(3)])
    matrix[:3, 3] = [draw(st.floats(-200, 200)) for _ in range(3)]
    return Grid.of(shape, matrix)


def marked(grid: Grid, voxel) -> Sample:
    """One bright voxel in image, target and validity."""
    one = np.zeros((1, *grid.shape), np.uint8)
    one[(0, *voxel)] = 1
    return Sample("c", one.astype(np.float32), grid, one, one.copy(), one.copy())


def as_itk(data: np.ndarray, grid: Grid) -> sitk.Image:
    """The array (X, Y, Z) on a RAS grid as an ITK image (LPS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    flip = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(grid.spacing)
    image.SetDirection((flip @ (grid.matrix[:3, :3] / np.array(grid.spacing))).ravel())
    image.SetOrigin(flip @ grid.matrix[:3, 3])
    return image


def itk_resampled(data: np.ndarray, old: Grid, new: Grid, interpolator) -> np.ndarray:
    there = as_itk(np.zeros(new.shape, np.float32), new)
    return sitk.GetArrayFromImage(sitk.Resample(as_itk(data, old), there, sitk.Transform(), interpolator)).T


@settings(max_examples=60, deadline=None)
@given(grids(), st.sampled_from(AXES), st.data())
def test_orienting_moves_no_voxel_in_the_world(grid, axes, data):
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    after = Orient(axes=axes).apply(marked(grid, voxel), None)
    assert after.grid.orientation == axes
    for array in (after.image, after.target, after.validity, after.field):
        place = np.argwhere(array[0] == 1)
        assert len(place) == 1
        np.testing.assert_allclose(after.grid.world(place[0]), grid.world(voxel), atol=1e-6)
        assert all(n == 1 or stride > 0 for n, stride in zip(array.shape, array.strides, strict=True))


@settings(max_examples=30, deadline=None)
@given(grids(), st.sampled_from(AXES))
def test_orienting_agrees_with_nibabel(grid, axes):
    draw = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    image = nib.Nifti1Image(draw, grid.matrix)
    here = nib.io_orientation(grid.matrix)
    if "".join(nib.orientations.ornt2axcodes(here)) != grid.orientation:
        return  # at 45° nibabel's polar decomposition and the nearest axis may differ
    turned = image.as_reoriented(nib.orientations.ornt_transform(here, nib.orientations.axcodes2ornt(axes)))
    after = Orient(axes=axes).apply(Sample("c", draw[None], grid), None)
    np.testing.assert_array_equal(after.image[0], turned.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(after.grid.matrix, turned.affine, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(grids(), st.lists(st.integers(1, 12), min_size=3, max_size=3), st.data())
def test_cropping_and_padding_move_no_voxel_and_mark_what_they_add(grid, size, data):
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    sample = Sample("c", marked(grid, voxel).image, grid, marked(grid, voxel).target)
    after = CenterCrop(size=size, fill=-7).apply(sample, None)
    assert after.image.shape[1:] == after.grid.shape == tuple(size)
    for array in (after.image, after.target):
        place = np.argwhere(array[0] == 1)
        if len(place):
            np.testing.assert_allclose(after.grid.world(place[0]), grid.world(voxel), atol=1e-6)
    voxels = np.argwhere(np.ones(after.grid.shape, bool))
    before = grid.voxels(after.grid.world(voxels)).round(6)
    inside = (
        ((before >= -1e-3) & (before <= np.array(grid.shape) - 1 + 1e-3)).all(1).reshape(after.grid.shape)
    )
    field = np.ones(after.grid.shape, bool) if after.field is None else after.field[0].astype(bool)
    np.testing.assert_array_equal(field, inside)
    assert (after.image[0][~inside] == -7).all()
    if not inside.all():
        np.testing.assert_array_equal(after.validity[0].astype(bool), inside)
    # The centre stays within half a voxel.
    middle = [g.world((np.array(g.shape) - 1) / 2) for g in (grid, after.grid)]
    assert np.linalg.norm(middle[0] - middle[1]) <= 0.5 * np.linalg.norm(grid.spacing) + 1e-6


def test_full_keeps_an_axis_and_a_fitting_volume_is_returned_as_it_is(grid, make_sample):
    sample = make_sample(grid)
    assert CenterCrop(size=["full", 3, "full"]).apply(sample, None).grid.shape == (9, 3, 7)
    assert CenterCrop(size=list(grid.shape)).apply(sample, None) is sample


@settings(max_examples=40, deadline=None)
@given(grids(), st.lists(spacings, min_size=3, max_size=3))
def test_the_new_grid_has_the_spacing_and_the_centre(grid, spacing):
    after = Resample(spacing_mm=spacing, antialias=False).apply(marked(grid, (1, 1, 1)), None).grid
    np.testing.assert_allclose(after.spacing, spacing, rtol=1e-3)
    middle = [g.world((np.array(g.shape) - 1) / 2) for g in (grid, after)]
    np.testing.assert_allclose(*middle, atol=1e-6)
    np.testing.assert_allclose(
        after.matrix[:3, :3] / after.spacing, grid.matrix[:3, :3] / grid.spacing, atol=1e-9
    )
    # New centres lie in the old field of view.
    inside = grid.voxels(after.corners())
    assert (inside >= -0.5 - 1e-6).all()
    assert (inside <= np.array(grid.shape) - 0.5 + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(grids(), st.lists(st.floats(0.4, 2.5), min_size=3, max_size=3))
def test_linear_and_nearest_agree_with_itk(grid, spacing):
    data = np.random.default_rng(3).normal(size=grid.shape).astype(np.float32)
    labels = np.random.default_rng(4).integers(0, 5, size=grid.shape).astype(np.uint8)
    sample = Sample("c", data[None], grid, labels[None])
    step = Resample(spacing_mm=spacing, image_order=1, label_order=0, antialias=False)
    after = step.apply(sample, None)
    voxels = grid.voxels(after.grid.world(np.argwhere(np.ones(after.grid.shape, bool))))
    inner = ((voxels > 1e-3) & (voxels < np.array(grid.shape) - 1 - 1e-3)).all(1).reshape(after.grid.shape)
    expected = itk_resampled(data, grid, after.grid, sitk.sitkLinear)
    np.testing.assert_allclose(after.image[0][inner], expected[inner], atol=1e-4)
    # Exactly between two voxels either neighbour is the nearest.
    clear = inner & (np.abs(voxels - np.floor(voxels) - 0.5) > 1e-3).all(1).reshape(after.grid.shape)
    expected = itk_resampled(labels, grid, after.grid, sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(after.target[0][clear], expected[clear])


def test_cubic_agrees_with_itk_away_from_the_border(grid):
    wide = Grid.of((40, 36, 32), grid.matrix)
    places = np.stack(np.meshgrid(*map(np.arange, wide.shape), indexing="ij"))
    data = (np.sin(places[0] / 3) + np.cos(places[1] / 4) * places[2] / 30).astype(np.float32)
    step = Resample(spacing_mm=[0.6, 0.9, 1.7], image_order=3, antialias=False)
    after = step.apply(Sample("c", data[None], wide), None)
    expected = itk_resampled(data, wide, after.grid, sitk.sitkBSpline3)
    inner = tuple(slice(12, -12) for _ in range(3))
    np.testing.assert_allclose(after.image[0][inner], expected[inner], atol=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_ball_keeps_its_centre_and_volume_in_every_array(order):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [10, -25, 30], degrees=True).as_matrix() * [0.7, 1.0, 1.6]
    grid = Grid.of((46, 34, 24), matrix)
    centre = grid.world([21.3, 15.2, 11.4])
    places = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    distance = np.linalg.norm(places - centre, axis=-1)
    soft = np.clip(8.5 - distance, 0, 1).astype(np.float32)
    hard = (distance < 8).astype(np.uint8)
    for target in (soft, hard):
        sample = Sample("c", soft[None], grid, target[None])
        after = Resample(spacing_mm=[1.2, 1.2, 1.2], image_order=order).apply(sample, None)
        weights = np.stack(np.meshgrid(*map(np.arange, after.grid.shape), indexing="ij"), -1)
        for array, was in ((after.image[0], soft), (after.target[0], target)):
            total = array.sum(dtype=float)
            found = after.grid.world((weights * array[..., None]).sum((0, 1, 2)) / total)
            assert np.linalg.norm(found - centre) < 0.15
            assert total * after.grid.voxel_volume == pytest.approx(
                was.sum(dtype=float) * grid.voxel_volume, rel=0.03
            )


@settings(max_examples=25, deadline=None)
@given(grids(), st.lists(spacings, min_size=3, max_size=3), st.booleans())
def test_soft_labels_keep_their_range_and_sum_and_hard_ones_their_values(grid, spacing, antialias):
    draw = np.random.default_rng(0)
    soft = draw.dirichlet((0.3, 0.3, 0.3), size=grid.shape).transpose(3, 0, 1, 2).astype(np.float32)
    step = Resample(spacing_mm=spacing, antialias=antialias)
    after = step.apply(Sample("c", soft[:1], grid, soft), None).target
    assert after.dtype == np.float32
    assert after.min() >= 0
    assert after.max() <= 1
    np.testing.assert_allclose(after.sum(0), 1, atol=1e-5)
    hard = draw.choice([0, 2, 7], size=(1, *grid.shape)).astype(np.uint8)
    found = step.apply(Sample("c", soft[:1], grid, hard), None).target
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 2, 7}


def test_values_that_are_not_annotated_do_not_flow_into_annotated_ones():
    grid = Grid.of((12, 1, 1), np.eye(4))
    valid = np.ones((1, 12, 1, 1), np.uint8)
    valid[:, 6:] = 0
    for wrong in (0, 1):
        soft = np.full((1, 12, 1, 1), 0.8, np.float32)
        soft[:, 6:] = wrong
        step = Resample(spacing_mm=[0.4, 1, 1])
        after = step.apply(Sample("c", soft, grid, soft, valid), None)
        np.testing.assert_allclose(after.target[after.validity == 1], 0.8, atol=1e-6)
        hard = (soft > 0.5).astype(np.uint8)
        hard[:, :6] = 1
        after = step.apply(Sample("c", soft, grid, hard, valid), None)
        assert (after.target[after.validity == 1] == 1).all()
        assert after.validity.sum() == 15


def test_downsampling_is_antialiased_as_scikit_image_does():
    from scipy.ndimage import gaussian_filter1d

    grid = Grid.of((64, 1, 1), np.eye(4))
    stripes = np.tile([0, 1], 32).astype(np.float32).reshape(1, 64, 1, 1)
    smooth = Resample(spacing_mm=[4, 1, 1], image_order=1)
    sample = Sample("c", stripes, grid)
    blurred = gaussian_filter1d(stripes[0, :, 0, 0], 1.5, mode="nearest")
    found = smooth.apply(sample, None).image[0, :, 0, 0]
    np.testing.assert_allclose(found, np.interp(np.arange(16) * 4 + 1.5, np.arange(64), blurred), atol=1e-5)


def test_an_axis_that_is_kept_or_already_right_stays(grid, make_sample):
    sample = make_sample(grid)
    assert Resample(spacing_mm=list(grid.spacing)).apply(sample, None) is sample
    after = Resample(spacing_mm=[0.4, "keep", "keep"], image_order=1).apply(sample, None)
    assert after.grid.shape == (18, 11, 7)
    np.testing.assert_allclose(after.grid.spacing[1:], grid.spacing[1:])


@pytest.mark.parametrize(
    "step",
    [
        Orient(axes="PIR"),
        Resample(spacing_mm=[1.3, 0.8, 1.5]),
        Resample(spacing_mm=[2, 2, 2], label_order=0, image_order=2),
        CenterCrop(size=[12, 24, "full"]),
        ZScore(),
        ZScore(per_channel=False),
    ],
    ids=lambda step: step.type_name(),
)
def test_the_contract_of_preprocessing_holds(step):
    check_preprocessing(step)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Orient(axes="RAR"), "must hold one of R L"),
        (lambda: Orient(axes="RASI"), "must hold one of R L"),
        (lambda: Resample(spacing_mm=[1, 0, 1]), "positive numbers of mm"),
        (lambda: Resample(spacing_mm=[1, 1]), "at least 3"),
        (lambda: Resample(spacing_mm=[1, 1, 1], label_order=3), "Input should be 0 or 1"),
        (lambda: CenterCrop(size=[4, 0, 4]), "positive numbers of voxels"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, text):
    with pytest.raises(ValidationError) as found:
        make()
    assert text in str(found.value)
