"""Working grid → native grid: voxels keep their place."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_fakes import Reorient, oblique
from mriad.errors import ShapeError
from mriad.geometry import Grid
from mriad.inference import native as native_module
from mriad.inference.native import VoxelMap, to_native
from mriad.inference.slab import Slab, collect
from mriad.vocabulary import Sample
from scipy.ndimage import affine_transform

CODES = [
    "".join(c) for order in itertools.permutations(("LR", "AP", "SI")) for c in itertools.product(*order)
]


def _slabs(array, axis, thickness):
    for start in range(0, array.shape[axis + 1], thickness):
        part = np.take(array, range(start, min(start + thickness, array.shape[axis + 1])), axis + 1)
        yield Slab(axis, start, torch.from_numpy(np.ascontiguousarray(part, np.float32)))


def _moved(array, working, native, axis=0, thickness=3):
    slabs = list(to_native(_slabs(array, axis, thickness), array.shape[0], working, native))
    covered = np.zeros(native.shape, int)
    for slab in slabs:
        covered[slab.index[1:]] += 1
    assert (covered == 1).all()
    return collect(slabs, array.shape[0], native.shape)


def _itk(array, grid):
    """A SimpleITK image of (X, Y, Z) on a grid; ITK's world is LPS."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1, -1, 1, 1]) @ grid.matrix
    image.SetSpacing(grid.spacing)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / np.array(grid.spacing)).ravel().tolist())
    return image


def _by_itk(array, working, native):
    reference = _itk(np.zeros(native.shape, np.float32), native)
    out = SimpleITK.Resample(
        _itk(array, working),
        reference,
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        0.0,
        SimpleITK.sitkFloat32,
    )
    return SimpleITK.GetArrayFromImage(out).transpose(2, 1, 0)


grids = st.builds(
    lambda shape, seed, spacing: Grid.of(shape, oblique(seed, spacing)),
    st.tuples(*[st.integers(2, 8)] * 3),
    st.integers(0, 10_000),
    st.tuples(*[st.floats(0.4, 3)] * 3),
)


@settings(max_examples=60, deadline=None)
@given(
    grid=grids,
    codes=st.sampled_from(CODES),
    crop=st.tuples(*[st.integers(-3, 3)] * 3),
    more=st.tuples(*[st.integers(-3, 3)] * 3),
    axis=st.integers(0, 2),
    thickness=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_orient_crop_pad_come_back_exactly(grid, codes, crop, more, axis, thickness, seed):
    """What lies inside the crop is bit for bit the same at its place; what was cut away is 0."""
    data = np.random.default_rng(seed).random((2, *grid.shape), np.float32) + 0.1
    oriented = Reorient(axes=codes).apply(Sample("a", data, grid), None)
    size = tuple(max(1, n + m) for n, m in zip(oriented.grid.shape, more, strict=True))
    step = Reorient(axes=codes, start=crop, size=size)
    prepared = step.apply(Sample("a", data, grid), None)
    assert VoxelMap.between(prepared.grid, grid).exact
    back = _moved(prepared.image, prepared.grid, grid, axis, thickness)
    kept = step.apply(Sample("a", np.ones_like(data), grid), None).image
    inside = _moved(kept, prepared.grid, grid, axis, thickness)
    assert set(np.unique(inside)) <= {0.0, 1.0}
    np.testing.assert_array_equal(back, data * inside)
    # Every voxel that a crop by world position keeps is kept.
    low, high = -0.5, np.array(size) - 0.5
    at = prepared.grid.voxels(
        grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    )
    np.testing.assert_array_equal(inside[0] == 1, ((at > low) & (at < high)).all(-1))


@settings(max_examples=40, deadline=None)
@given(grid=grids, codes=st.sampled_from(CODES), data=st.data())
def test_a_marked_voxel_keeps_its_place(grid, codes, data):
    """Through orientation and back, on oblique, flipped, permuted, anisotropic grids."""
    voxel = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    marked = np.zeros((1, *grid.shape), np.float32)
    marked[(0, *voxel)] = 1
    prepared = Reorient(axes=codes).apply(Sample("a", marked, grid), None)
    there = np.argwhere(prepared.image[0] == 1)
    np.testing.assert_allclose(prepared.grid.world(there[0]), grid.world(voxel), atol=1e-6)
    back = _moved(prepared.image, prepared.grid, grid, axis=data.draw(st.integers(0, 2)))
    assert np.argwhere(back[0]).tolist() == [list(voxel)]


@settings(max_examples=40, deadline=None)
@given(
    working=grids,
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    turn=st.integers(0, 10_000),
    codes=st.sampled_from(CODES),
    shift=st.tuples(*[st.floats(-4, 4)] * 3),
    axis=st.integers(0, 2),
    thickness=st.integers(1, 4),
)
def test_linear_interpolation_equals_simpleitk(working, shape, turn, codes, shift, axis, thickness):
    """Any two grids: oblique against each other, flipped, permuted, of other spacing, partly outside."""
    native = Grid.of(shape, oblique(turn, (1.3, 0.7, 1.9)))
    turned = Reorient(axes=codes).apply(Sample("a", np.zeros((1, *shape), np.float32), native), None).grid
    matrix = turned.matrix
    centre = working.world((np.array(working.shape) - 1) / 2) + shift
    matrix[:3, 3] += centre - turned.world((np.array(turned.shape) - 1) / 2)
    native = Grid.of(turned.shape, matrix)
    data = np.random.default_rng(turn).random((2, *working.shape), np.float32)
    found = _moved(data, working, native, axis, thickness)
    at = working.voxels(native.world(np.stack(np.meshgrid(*map(np.arange, native.shape), indexing="ij"), -1)))
    edge = np.minimum(np.abs(at + 0.5), np.abs(at - (np.array(working.shape) - 0.5))).min(-1) < 1e-3
    for s in range(2):
        theirs = _by_itk(data[s], working, native)
        np.testing.assert_allclose(np.where(edge, 0, found[s]), np.where(edge, 0, theirs), atol=1e-4)
    assert found.min() >= 0
    assert found.max() <= 1


def test_linear_interpolation_equals_scipy_inside():
    working, native = (
        Grid.of((9, 10, 11), oblique(1, (1, 1, 1))),
        Grid.of((6, 7, 5), oblique(1, (1.2, 0.9, 1.5))),
    )
    matrix = native.matrix
    matrix[:3, 3] = working.world((1.3, 0.4, 1.1))
    native = Grid.of(native.shape, matrix)
    data = np.random.default_rng(0).random((1, 9, 10, 11), np.float32)
    both = np.linalg.inv(working.matrix) @ native.matrix
    theirs = affine_transform(
        data[0].astype(np.float64), both[:3, :3], both[:3, 3], native.shape, order=1, mode="nearest"
    )
    np.testing.assert_allclose(_moved(data, working, native)[0], theirs, atol=1e-5)


def test_a_linear_ramp_stays_a_linear_ramp():
    """Analytic: linear interpolation is exact for linear functions of world position."""
    working, native = Grid.of((20, 20, 20), oblique(3, (1, 1, 1))), None
    centre = working.world((9.5, 9.5, 9.5))
    matrix = oblique(4, (0.7, 0.9, 1.3))
    matrix[:3, 3] = centre - matrix[:3, :3] @ [3.5, 3.5, 2.5]
    native = Grid.of((8, 8, 6), matrix)

    def ramp(grid):
        world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)) - centre
        return (0.5 + world @ [0.01, -0.02, 0.015])[None].astype(np.float32)

    np.testing.assert_allclose(_moved(ramp(working), working, native), ramp(native), atol=1e-5)


def test_outside_the_field_of_view_is_background_up_to_the_faces():
    working = Grid.of((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1]))
    native = Grid.of((24, 4, 4), np.array([[0.5, 0, 0, -2.25], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    found = _moved(np.ones((1, 4, 4, 4), np.float32), working, native)
    x = -2.25 + 0.5 * np.arange(24)
    np.testing.assert_array_equal(found[0, :, 0, 0], ((x > -1) & (x < 7)).astype(np.float32))


def test_far_apart_grids_give_background_and_ask_for_little():
    working, native = Grid.of((8, 4, 4), np.eye(4)), Grid.of((5, 4, 4), oblique(0))
    matrix = native.matrix
    matrix[:3, 3] = 1000
    asked = []

    def slabs():
        for slab in _slabs(np.ones((1, 8, 4, 4)), 0, 1):
            asked.append(slab.start)
            yield slab

    for far in (1000, -1000):
        matrix[:3, 3] = far
        found = collect(to_native(slabs(), 1, working, Grid.of((5, 4, 4), matrix)), 1, (5, 4, 4))
        assert not found.any()


def test_planes_that_are_not_needed_are_not_asked_for_nor_kept(monkeypatch):
    """A native crop near the start: the rest of the volume is never computed."""
    monkeypatch.setattr(native_module, "planes_per_slab", lambda *a: 1)
    working = Grid.of((30, 4, 4), np.eye(4))
    asked = []

    def slabs():
        for slab in _slabs(np.ones((1, 30, 4, 4)), 0, 2):
            asked.append(slab.start)
            yield slab

    list(to_native(slabs(), 1, working, working.crop((4, 0, 0), (5, 4, 4))))
    assert max(asked) <= 10


@pytest.mark.parametrize("flip", [False, True])
def test_only_a_few_planes_are_alive_at_a_time(monkeypatch, flip):
    """Streaming: slabs are let go while the result passes by, in both directions."""
    import weakref

    monkeypatch.setattr(native_module, "planes_per_slab", lambda *a: 2)
    working = Grid.of((40, 4, 4), np.eye(4))
    matrix = np.diag([-0.9 if flip else 0.9, 1, 1, 1.0])
    matrix[0, 3] = 39 if flip else 0
    native = Grid.of((44, 4, 4), matrix)
    alive = weakref.WeakSet()
    most = 0

    def slabs():
        for slab in _slabs(np.ones((1, 40, 4, 4)), 0, 2):
            alive.add(slab.values)
            yield slab

    for _ in to_native(slabs(), 1, working, native):
        most = max(most, len(alive))
    assert most <= 5


def test_rounding_of_a_header_is_still_exact():
    """NIfTI keeps float32: a sform written and read again is the same grid."""
    grid = Grid.of((30, 40, 50), oblique(7))
    header = nib.Nifti1Header()
    header.set_sform(grid.matrix.astype(np.float32))
    assert VoxelMap.between(grid, Grid.of(grid.shape, header.get_sform())).exact
    moved = grid.matrix
    moved[0, 3] += 0.01
    assert not VoxelMap.between(grid, Grid.of(grid.shape, moved)).exact


def test_a_slab_of_another_shape_is_refused():
    grid = Grid.of((4, 4, 4), np.eye(4))
    with pytest.raises(ShapeError, match="do not lie on the working grid"):
        list(to_native(_slabs(np.ones((1, 4, 5, 4)), 0, 2), 1, grid, grid))
