"""`Transform`: a group under composition, exact on disk, and pulling by it interpolates once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.vocabulary import Volume
from mriad_data.itk_images import LPS, affine_matrix, to_itk
from mriad_data.registration import Transform, compose
from mriad_data.registration.resampling import covered, pulled

sys.path.insert(0, str(Path(__file__).parent))  # the formula beside this file
from registration_phantom import anatomy, grid, head_points, pose, scan, turn

poses = st.builds(pose, st.integers(0, 1000), st.floats(0, 179), st.floats(0, 100), st.floats(0, 0.2))
POINTS = head_points()


@settings(max_examples=40, deadline=None)
@given(poses, poses, poses)
def test_transforms_form_a_group(a, b, c):
    np.testing.assert_allclose((a @ b)(POINTS), a(b(POINTS)), atol=1e-9)
    np.testing.assert_allclose(((a @ b) @ c).array, (a @ (b @ c)).array, atol=1e-9)
    np.testing.assert_allclose((a @ a.inverse()).array, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(compose([c, b, a]).array, (a @ b @ c).array, atol=1e-9)
    assert compose([]) == Transform.identity()


@settings(max_examples=20, deadline=None)
@given(poses)
def test_a_transform_survives_its_file_bit_for_bit(tmp_path_factory, a):
    path = a.save(tmp_path_factory.mktemp("t") / "a.json")
    assert Transform.load(path) == a


@pytest.mark.parametrize("degrees", [0, 1e-7, 3.5, 90, 179.99])
def test_angle(degrees):
    matrix = np.eye(4)
    matrix[:3, :3] = turn((1, -2, 0.5), degrees) * 1.1
    assert Transform.of(matrix).angle == pytest.approx(degrees, abs=1e-8)


def test_bad_transforms_are_refused(tmp_path):
    for bad in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.eye(4) + np.eye(4)[::-1], None):
        with pytest.raises(DataError, match="invertible affine matrix"):
            Transform.of(bad)
    with pytest.raises(DataError, match="a transform cannot be read"):
        Transform.load(tmp_path / "none.json")
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(DataError, match="not a transform of this version"):
        Transform.load(path)


OBLIQUE = grid((1.5, 2.5, 4), (1, 2, -1), 25, (150, 190, 150), flip=(-1, 1, -1))


@pytest.mark.parametrize("order", [1, 3])
def test_images_agree_with_simpleitk(order):
    moved = pose(3, 15, 8)
    moving = scan("T2w", OBLIQUE, moved)
    fixed = grid((2, 2, 2), (0, 1, 1), -10)
    mine = pulled(moving, moved, fixed, "image", order, fill=-50)
    # Fixed voxels are larger than moving ones along the first axis: ITK gets the smoothed image too.
    from scipy import ndimage

    inner = np.linalg.inv(OBLIQUE.matrix) @ moved.array @ fixed.matrix
    sigma = np.maximum(np.linalg.norm(inner[:3, :3], axis=1) - 1, 0) / 2
    smooth = ndimage.gaussian_filter(moving.data, sigma, mode="nearest")
    back = LPS @ moved.array @ LPS
    transform = sitk.AffineTransform(back[:3, :3].ravel().tolist(), back[:3, 3].tolist())
    np.testing.assert_allclose(affine_matrix(transform), moved.array, atol=1e-9)
    reference = to_itk(np.zeros(fixed.shape, np.float32), fixed)
    method = {1: sitk.sitkLinear, 3: sitk.sitkBSpline3}[order]
    theirs = sitk.Resample(to_itk(smooth, OBLIQUE), reference, transform, method, -50.0, sitk.sitkFloat32)
    theirs = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
    # ITK's spline mirrors at the border, ours holds the value: compare away from it.
    place = (
        np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij"), -1) @ inner[:3, :3].T
        + inner[:3, 3]
    )
    deep = ((place > 4) & (place < np.array(OBLIQUE.shape) - 5)).all(-1)
    assert deep.mean() > 0.3
    assert np.abs(mine.data - theirs)[deep].max() < 1e-3 * np.ptp(moving.data)
    outside = ((place < -1) | (place > np.array(OBLIQUE.shape))).any(-1)
    assert (mine.data[outside] == -50).all()
    assert np.array_equal(covered(OBLIQUE, moved, fixed), mine.data != -50)


def test_a_chain_is_interpolated_once():
    first, second = pose(1, 10, 6), pose(2, -8, 5)
    middle, last = grid((2, 2, 3), (1, 0, 0), 12), grid()
    chain = first @ second

    def waves(on, moved):
        """Waves of 14 mm; `moved` says where a point of the unmoved ones went."""
        voxels = np.stack(np.meshgrid(*map(np.arange, on.shape), indexing="ij"), -1)
        return np.sin(moved.inverse()(on.world(voxels)) * (2 * np.pi / 14)).sum(-1).astype(np.float32)

    given = grid((2, 2, 2), (1, 2, -1), 25)
    moving = Volume(waves(given, chain), given)
    exact = waves(last, Transform.identity())
    once = pulled(moving, first @ second, last, "image").data
    twice = pulled(pulled(moving, first, middle, "image"), second, last, "image").data
    inner = (slice(12, -12),) * 3
    errors = [np.abs(found - exact)[inner].mean() for found in (once, twice)]
    assert errors[0] < 0.75 * errors[1]


def test_still_voxels_are_returned_as_they_are():
    volume = scan("T1w", OBLIQUE)
    after = pulled(volume, Transform.identity(), OBLIQUE, "image")
    assert np.array_equal(after.data, volume.data)
    labels = Volume(anatomy(OBLIQUE), OBLIQUE)
    assert pulled(labels, Transform.identity(), OBLIQUE, "hard").data is labels.data


def test_hard_labels_keep_values_and_places():
    moved = pose(5, 18, 12)
    labels = Volume(anatomy(OBLIQUE, moved) * np.uint8(3), OBLIQUE)
    after = pulled(labels, moved, grid(), "hard")
    assert set(np.unique(after.data)) == {0, 3, 6, 9, 12}
    assert after.data.dtype == np.uint8
    truth = anatomy(grid())
    seen = covered(OBLIQUE, moved, grid())
    for value in (1, 2, 3):
        mine, other = (after.data == 3 * value) & seen, (truth == value) & seen
        assert 2 * (mine & other).sum() / (mine.sum() + other.sum()) > 0.85
    with pytest.raises(DataError, match="not whole numbers"):
        pulled(Volume(labels.data / 7, OBLIQUE), moved, grid(), "hard")


def test_soft_labels_keep_range_sum_and_volume():
    moved = pose(6, 18, 12)
    fine = grid((2, 2, 3), (1, 1, 0), 20, (190, 220, 180))
    one_hot = np.stack([anatomy(fine, moved) == value for value in range(5)]).astype(np.float32)
    after = pulled(Volume(one_hot, fine), moved, grid(), "soft")
    assert after.data.shape == (5, *grid().shape)
    assert 0 <= after.data.min() <= after.data.max() <= 1
    seen = covered(fine, moved, grid())
    np.testing.assert_allclose(after.data.sum(0)[seen], 1, atol=1e-5)
    assert (after.data[:, ~seen] == 0).all()
    for value in (2, 3, 4):
        before = one_hot[value].sum() * fine.voxel_volume
        assert after.data[value].sum() * grid().voxel_volume == pytest.approx(before, rel=2e-3)
    single = pulled(Volume(one_hot[3], fine), moved, grid(), "soft")
    np.testing.assert_array_equal(single.data, after.data[3])


def test_one_slice_and_one_voxel_grids():
    thin = Grid.of((20, 1, 20), grid().matrix)
    after = pulled(scan("T1w", OBLIQUE), Transform.identity(), thin, "image")
    assert after.data.shape == (20, 1, 20)
    point = pulled(
        Volume(np.ones((1, 1, 1), np.float32), Grid.of((1, 1, 1), np.eye(4))), pose(1, 0, 1), thin, "image"
    )
    assert point.data.shape == thin.shape
