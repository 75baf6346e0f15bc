"""`register` finds known motions, keeps good starts, and says why images cannot be registered."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad.images import read_volume
from mriad.vocabulary import Volume
from mriad_data.registration import Registration, Transform, overlap, register
from mriad_data.registration.similarity import mutual_information

sys.path.insert(0, str(Path(__file__).parent))  # the formula beside this file
from registration_phantom import CENTRE, grid, head_points, pose, scan

POINTS = head_points()
OTHER = grid((1.8, 2.2, 3.5), (1, -1, 2), 17, (180, 210, 170), flip=(-1, 1, 1))


@pytest.mark.parametrize(("degrees", "mm"), [(10, 10), (20, 20)])
def test_known_motions_of_another_contrast_are_found(degrees, mm):
    truth = pose(7 * degrees + mm, degrees, mm)
    match = register(scan("T2w", OTHER, truth, seed=1), scan("T1w", grid()))
    assert not match.kept
    assert match.transform.distance(truth, POINTS).mean() < 0.5
    assert match.information[1] > match.information[0]
    found = match.transform.array[:3, :3]
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-6)  # rigid stays rigid


@pytest.mark.slow
def test_affine_finds_another_size():
    truth = pose(4, 12, 10, stretch=0.08)
    match = register(scan("FLAIR", OTHER, truth, seed=1), scan("T1w", grid()), Registration(kind="affine"))
    assert match.transform.distance(truth, POINTS).mean() < 1
    rigid = register(scan("FLAIR", OTHER, truth, seed=1), scan("T1w", grid()))
    assert rigid.transform.distance(truth, POINTS).mean() > 2


@pytest.mark.slow
def test_thick_slices():
    truth = pose(11, 12, 9)
    thick = grid((1, 1, 6), (1, 0, 0), 20)
    match = register(scan("FLAIR", thick, truth, seed=2), scan("T1w", grid()))
    assert match.transform.distance(truth, POINTS).mean() < 0.5


@pytest.mark.parametrize("on", [pytest.param(grid(), marks=pytest.mark.slow), OTHER])
def test_an_aligned_pair_is_kept_exactly(on):
    match = register(scan("T2w", on, seed=1), scan("T1w", grid()))
    assert match.kept
    assert match.transform == Transform.identity()
    assert match.moved_mm < 0.5


def test_a_small_true_motion_is_not_taken_for_alignment():
    truth = pose(2, 0.5, 1.5)
    match = register(scan("T2w", OTHER, truth, seed=1), scan("T1w", grid()))
    assert not match.kept
    assert match.transform.distance(truth, POINTS).mean() < 0.3


def test_results_repeat_whatever_the_number_of_threads():
    moving, fixed = scan("T2w", OTHER, pose(3, 15, 10), seed=1), scan("T1w", grid())
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for number in (1, 4):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
            found.append(register(moving, fixed))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert found[0] == found[1]


def test_unrelated_positions_are_brought_together_by_their_centres():
    truth = pose(3, 15, 10)
    moving = scan("T2w", OTHER, truth, seed=1)
    far = np.eye(4)
    far[:3, 3] = (400, -300, 250)
    shifted = Volume(moving.data, Grid.of(OTHER.shape, far @ OTHER.matrix))
    with pytest.raises(DataError, match="do not overlap as their files place them") as found:
        register(shifted, scan("T1w", grid()))
    assert "overlap  0.0 %, expected at least 10 %" in str(found.value)
    assert "start: centres" in str(found.value)
    assert "x -79 to 89, y -111 to 87" in str(found.value)  # both fields of view in numbers
    match = register(shifted, scan("T1w", grid()), Registration(start="centres"))
    assert match.transform.distance(Transform.of(far) @ truth, POINTS).mean() < 2  # a voxel


@pytest.mark.slow
def test_a_sheared_grid_is_read_where_it_lies():
    sheared = OTHER.matrix
    sheared[:3, 1] += 0.25 * sheared[:3, 0]
    truth = pose(3, 15, 10)
    match = register(scan("T2w", Grid.of(OTHER.shape, sheared), truth, seed=1), scan("T1w", grid()))
    assert match.transform.distance(truth, POINTS).mean() < 0.4


def test_bad_input_is_named():
    fixed = scan("T1w", grid())
    slice_ = Volume(fixed.data[:, :, 40:41], fixed.grid.crop((0, 0, 40), (*fixed.grid.shape[:2], 1)))
    with pytest.raises(DataError, match="the moving image is too thin to register") as found:
        register(slice_, fixed)
    assert "at least 4 voxels" in str(found.value)
    with pytest.raises(DataError, match="the fixed image is constant: there is nothing to align"):
        register(fixed, Volume(np.full(fixed.data.shape, 3.0, np.float32), fixed.grid))
    broken = fixed.data.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="the moving image holds NaN"):
        register(Volume(broken, fixed.grid), fixed)


def test_overlap_is_part_of_the_smaller_field_of_view():
    whole = Grid.of((100, 100, 100), np.eye(4))
    assert overlap(whole, whole.crop((10, 10, 10), (20, 20, 20)), Transform.identity()) == 1
    half = overlap(whole, whole.crop((50, 0, 0), (100, 100, 100)), Transform.identity())
    assert half == pytest.approx(0.5, abs=0.03)


def test_mutual_information_by_hand_and_by_the_gaussian_formula():
    assert mutual_information(np.array([[5, 0], [0, 5]])) == pytest.approx(np.log(2))
    assert mutual_information(np.array([[2, 4], [3, 6]])) == pytest.approx(0, abs=1e-12)
    assert mutual_information(np.zeros((3, 3), int)) == 0
    draw = np.random.default_rng(0)
    x = draw.normal(size=400_000)
    y = 0.8 * x + 0.6 * draw.normal(size=len(x))
    joint, _, _ = np.histogram2d(x, y, 60, range=[(-4, 4), (-4, 4)])
    assert mutual_information(joint.astype(int)) == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.02)


def _pair(real_data, person, fixed, moving):
    folder = real_data / "ms-lesions" / "cross-sectional" / person
    return [read_volume(folder / f"{person}_{contrast}.nii.gz") for contrast in (fixed, moving)]


def _moved(volume: Volume, truth: Transform) -> Volume:
    """The same voxels at another place: no interpolation."""
    return Volume(volume.data, Grid.of(volume.grid.shape, truth.array @ volume.grid.matrix))


def _brain(fixed: Volume) -> np.ndarray:
    return fixed.grid.world(np.argwhere(fixed.data > 0)[::97])


@pytest.mark.parametrize("person", ["sub-07", pytest.param("sub-19", marks=pytest.mark.slow)])
def test_real_t1w_to_flair_after_a_start_of_20_degrees_and_20_mm(real_data, person):
    fixed, moving = _pair(real_data, person, "FLAIR", "T1w")
    brain = _brain(fixed)
    truth = pose(1, 20, 20, centre=brain.mean(0))
    match = register(_moved(moving, truth), fixed)
    assert match.transform.distance(truth, brain).mean() < 0.5
    assert match.transform.distance(truth, fixed.grid.corners()).mean() < 0.75


@pytest.mark.parametrize("person", ["sub-07", pytest.param("sub-19", marks=pytest.mark.slow)])
def test_a_real_aligned_pair_is_kept(real_data, person):
    fixed, moving = _pair(real_data, person, "FLAIR", "T1w")
    match = register(moving, fixed)
    assert match.kept
    assert match.transform == Transform.identity()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("person", "fixed", "moving"), [("sub-07", "FLAIR", "T1w"), ("sub-07", "T1w", "T2w")]
)
@pytest.mark.parametrize("degrees", [0, 10, 20])
@pytest.mark.parametrize("mm", [5, 10, 20])
def test_real_pairs_from_many_starts(real_data, person, fixed, moving, degrees, mm):
    volumes = _pair(real_data, person, fixed, moving)
    brain = _brain(volumes[0])
    for seed in range(4):
        truth = pose(seed, degrees, mm, centre=brain.mean(0))
        match = register(_moved(volumes[1], truth), volumes[0])
        assert match.transform.distance(truth, brain).mean() < 0.5


@pytest.mark.slow
def test_real_thick_slices_and_two_visits(real_data):
    """Two visits of one person, 3 mm slices, already in one space: a known motion is undone."""
    folder = real_data / "ms-lesions" / "longitudinal" / "sub-L01"
    fixed = read_volume(folder / "sub-L01_ses-1_T1w.nii.gz")
    moving = read_volume(folder / "sub-L01_ses-1_FLAIR.nii.gz")
    brain = _brain(fixed)
    for seed in range(3):
        truth = pose(seed, 20, 20, centre=brain.mean(0))
        match = register(_moved(moving, truth), fixed)
        assert match.transform.distance(truth, brain).mean() < 1.0  # a third of a slice


def test_the_centre_of_the_phantom_is_in_its_grid():
    voxel = grid().voxels(CENTRE)
    assert np.allclose(voxel, (np.array(grid().shape) - 1) / 2)
