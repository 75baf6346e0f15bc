"""Patches and slices: right place, right frequency of structures, padding marked, reproducible."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad.vocabulary import LabelSet, Sample, Task
from mriad_data.patches import Patch, Slice

TASK = Task(("T1w",), {"": LabelSet.of({"a": 1, "b": 2})}, "softmax")
GRID = Grid.of((20, 16, 12), np.diag([-1, 1.5, 2, 1]))


def numbered(grid=GRID, target=None) -> Sample:
    """Each voxel holds its own number, so that a patch says where it is from."""
    image = np.arange(1, np.prod(grid.shape) + 1, dtype=np.float32).reshape(1, *grid.shape)
    return Sample("c", image, grid, target)


def labelled() -> Sample:
    target = np.zeros((1, *GRID.shape), np.uint8)
    target[0, 3, 4, 5] = 1
    target[0, 10:18, 10:14, 6:10] = 2
    return numbered(target=target)


def check_place(sample: Sample, patch: Sample) -> None:
    """Every acquired voxel of the patch holds what lies at its world position in the sample."""
    image = patch.image if patch.image.ndim == 4 else patch.image[..., None]
    field = (
        np.ones(image.shape[1:], bool) if patch.field is None else patch.field.reshape(image.shape[1:]) > 0
    )
    there = np.argwhere(field)
    voxels = sample.grid.voxels(patch.grid.world(there)).round().astype(int)
    np.testing.assert_array_equal(image[0][field], sample.image[0][tuple(voxels.T)])
    np.testing.assert_allclose(patch.grid.world(there), sample.grid.world(voxels), atol=1e-6)
    assert (image[0][~field] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 26), st.just("full")), min_size=3, max_size=3),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 2**30),
)
def test_a_patch_has_its_size_and_place(size, margin, foreground, seed):
    sample = labelled()
    draw = Patch(size=size, foreground=foreground).build(TASK)
    patch = draw(sample, np.random.default_rng(seed), (margin,) * 3)
    wanted = tuple((n if s == "full" else s) + 2 * margin for s, n in zip(size, GRID.shape, strict=True))
    assert patch.image.shape[1:] == patch.target.shape[1:] == patch.grid.shape == wanted
    check_place(sample, patch)
    if patch.field is not None:
        assert (patch.validity == patch.field).all()
        assert (patch.target[patch.field == 0] == 0).all()


def test_the_core_of_a_patch_stays_inside_a_volume_that_is_larger():
    draw = Patch(size=[8, 8, 8], foreground=0.5).build(TASK)
    for seed in range(30):
        assert draw(labelled(), np.random.default_rng(seed), (0, 0, 0)).field is None


def test_foreground_is_met_as_often_as_asked_and_each_structure_alike():
    sample = labelled()
    draw = Patch(size=[1, 1, 1], foreground=0.6).build(TASK)
    generator = np.random.default_rng(0)
    found = np.array([draw(sample, generator, (0, 0, 0)).target.item() for _ in range(1500)])
    share = 128 / np.prod(GRID.shape)
    assert (found == 1).mean() == pytest.approx(0.3, abs=0.04)
    assert (found == 2).mean() == pytest.approx(0.3 + 0.4 * share, abs=0.04)


def test_every_place_is_equally_likely_without_foreground():
    draw = Patch(size=[18, 16, 12], foreground=0).build(TASK)
    generator = np.random.default_rng(0)
    corners = [int(draw(labelled(), generator, (0, 0, 0)).image[0, 0, 0, 0]) for _ in range(600)]
    _, counts = np.unique(corners, return_counts=True)
    assert len(counts) == 3
    assert counts.min() > 150


def test_soft_and_invalid_voxels():
    soft = np.zeros((2, *GRID.shape), np.float32)
    soft[0, 2, 2, 2] = 0.9
    soft[0, 9, 9, 9] = 0.4
    soft[1, 5, 5, 5] = 0.8
    valid = np.ones((1, *GRID.shape), np.uint8)
    valid[0, 5, 5, 5] = 0
    sample = replace(numbered(target=soft), validity=valid)
    draw = Patch(size=[1, 1, 1], foreground=1).build(TASK)
    generator = np.random.default_rng(0)
    assert {float(draw(sample, generator, (0,) * 3).target[0].item()) for _ in range(20)} == {np.float32(0.9)}


def test_unlabelled_and_empty_samples_are_drawn_anywhere():
    for sample in (numbered(), numbered(target=np.zeros((1, *GRID.shape), np.uint8))):
        draw = Patch(size=[4, 4, 4], foreground=1).build(TASK)
        patches = [draw(sample, np.random.default_rng(s), (0,) * 3) for s in range(8)]
        assert len({float(p.image[0, 0, 0, 0]) for p in patches}) > 4


def test_a_draw_depends_on_the_generator_alone():
    first, second = (Patch(size=[4, 4, 4]).build(TASK) for _ in range(2))
    second(replace(labelled(), case="other"), np.random.default_rng(5), (0,) * 3)
    second = pickle.loads(pickle.dumps(second))
    for seed in range(10):
        a, b = (d(labelled(), np.random.default_rng(seed), (1,) * 3) for d in (first, second))
        np.testing.assert_array_equal(a.image, b.image)
    generator = np.random.default_rng(0)
    first(labelled(), generator, (0,) * 3)
    other = np.random.default_rng(0)
    first(numbered(), other, (0,) * 3)
    assert generator.random() == other.random()


@pytest.mark.parametrize(
    ("plane", "shape"), [("axial", (20, 16)), ("coronal", (20, 12)), ("sagittal", (16, 12))]
)
def test_a_slice_lies_across_its_anatomical_axis(plane, shape):
    sample = labelled()
    draw = Slice(axis=plane, foreground=1).build(TASK)
    for seed in range(5):
        found = draw(sample, np.random.default_rng(seed), (0, 0, 0))
        assert found.image.shape == (1, *shape)
        assert found.target.shape == (1, *shape)
        assert found.grid.shape == (*shape, 1)
        assert found.target.any()
        check_place(sample, found)


def test_a_slice_follows_the_orientation_and_takes_a_size_and_margin():
    turned = Grid.of((12, 20, 16), [[0, 1, 0, 0], [0, 0, 1, 0], [2, 0, 0, 0], [0, 0, 0, 1]])
    assert turned.orientation == "SRA"
    sample = numbered(turned)
    found = Slice(axis="axial", size=[24, 8]).build(TASK)(sample, np.random.default_rng(0), (2, 2, 2))
    assert found.image.shape == (1, 28, 12)
    assert found.field.shape == (1, 28, 12)
    check_place(sample, found)
