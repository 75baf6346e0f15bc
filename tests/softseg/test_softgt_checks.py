"""The nine checks of the specification of the soft ground truth, each against figures known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad_softseg.average import build, carry_back, combine
from mriad_softseg.coverage import trimmed
from mriad_softseg.masks import Mask
from mriad_softseg.slicewise import SliceMotion
from mriad_softseg.soft_ground_truth import SoftGroundTruth
from scipy import ndimage

NAMES = ("T2w", "T1w", "T2star", "MTon", "GRE-T1w", "DWI")
PLAIN = SoftGroundTruth(trim_mm=0)


def full(shared) -> np.ndarray:
    return shared.full(shared.soft)


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(4),
        # oblique, anisotropic, slices along the first axis and upside down
        np.array([[0.1, 0.8, 0.05, -7.3], [0.2, -0.1, 0.9, 3.1], [-3.0, 0.1, 0.1, 11.7], [0, 0, 0, 1]]),
    ],
)
def test_1_copies_of_one_mask_give_the_mask_bit_for_bit(affine, discs, mask_of):
    data = discs(10 + np.stack([np.sin(np.arange(9)), np.cos(np.arange(9))], 1), (21, 23, 9), 5)
    if affine[2, 0]:
        data = np.ascontiguousarray(np.moveaxis(data, -1, 0))
    masks = {name: mask_of(data, Grid.of(data.shape, affine)) for name in NAMES}
    shared = build(masks, "T2w", PLAIN)
    assert np.array_equal(masks["T2w"].back(full(shared)), data)
    for name in NAMES:
        target = carry_back(shared, name)
        assert np.array_equal(target.soft, data.astype(np.float32))
        assert target.valid.all()


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=12, max_size=12),
)
@settings(max_examples=25, deadline=None)
def test_2_integer_shifts_of_each_slice_are_undone_exactly(first, second):
    rng = np.random.default_rng(0)
    blob = ndimage.binary_opening(rng.random((7, 9, 12)) < 2)  # a box, trimmed to a shape without symmetry
    blob[0, :4], blob[5:, 7:] = False, False
    reference = np.zeros((31, 33, 12), np.uint8)
    reference[12:19, 12:21] = blob
    moved = {}
    for name, shifts in (("T1w", first), ("DWI", second)):
        moved[name] = np.stack(
            [np.roll(reference[:, :, k], shift, (0, 1)) for k, shift in enumerate(shifts)], -1
        )
    grid = Grid.of(reference.shape, np.diag([0.8, 0.7, 2.0, 1]))
    masks = {name: Mask.of(d, grid) for name, d in {"T2w": reference, **moved}.items()}
    shared = build(masks, "T2w", PLAIN)
    assert np.array_equal(full(shared), reference.astype(np.float32))
    for name, data in moved.items():
        assert np.array_equal(carry_back(shared, name).soft, data.astype(np.float32))
        assert np.allclose(
            shared.warped[name].motion.shift, np.array(first if name == "T1w" else second) * [0.8, 0.7]
        )


def test_3_concentric_discs_have_the_mean_area(discs, mask_of):
    n, fine = 151, 0.1
    grid = Grid.of((n, n, 2), np.diag([fine, fine, 1, 1]))
    centre = np.full((2, 2), n // 2)
    masks = {
        name: mask_of(discs(centre, (n, n, 2), radius, fine), grid)
        for name, radius in (("T2w", 3), ("T1w", 5))
    }
    shared = build(masks, "T2w", PLAIN)
    soft = full(shared)[:, :, 0]
    x, y = np.meshgrid(*[np.arange(n) - n // 2] * 2, indexing="ij")
    r = np.hypot(x, y) * fine
    assert (soft[r <= 3] == 1).all()
    assert (soft[(r > 3) & (r <= 5)] == 0.5).all()
    assert (soft[r > 5] == 0).all()
    assert soft.sum() * fine**2 == pytest.approx((9 + 25) * np.pi / 2, rel=2e-3)


def test_4_where_one_contrast_alone_covers_the_value_is_its_own(discs, mask_of):
    centres = np.full((20, 2), 15.0)
    half = centres.copy()
    half[10:] = np.nan
    small, large = discs(centres, (31, 31, 20), 5), discs(half, (31, 31, 20), 8)
    shared = build({"T2w": mask_of(small), "T1w": mask_of(large)}, "T2w", PLAIN)
    soft = full(shared)
    assert np.array_equal(soft[:, :, 10:], small[:, :, 10:].astype(np.float32))
    assert np.array_equal(soft[:, :, :10], (small[:, :, :10] + large[:, :, :10].astype(np.float32)) / 2)
    for name in ("T2w", "T1w"):
        back = carry_back(shared, name)
        assert back.soft.min() >= 0
        assert back.soft.max() <= 1
    # The upper half of the second contrast is not annotated, though the target exists there.
    assert carry_back(shared, "T1w").slices.tolist() == [True] * 10 + [False] * 10
    assert carry_back(shared, "T2w").slices.all()


def test_5_a_mask_counts_only_where_it_is_covered():
    s, m = np.array([1.0, 0.0, 1.0]).reshape(3, 1), np.array([1.0, 1.0, 0.0]).reshape(3, 1)
    soft, covered = combine(list(s), list(m), [1, 1, 1])
    assert soft.tolist() == [0.5]
    assert covered.tolist() == [True]
    soft, covered = combine([np.array([1.0])], [np.array([1e-4])], [1])
    assert soft.tolist() == [0.0]
    assert covered.tolist() == [False]


@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
@settings(max_examples=20, deadline=None)
def test_6_there_and_back(dx, dy):
    from mriad_softseg.sampling import points_of, sampled

    data = ndimage.gaussian_filter(np.pad(np.ones((12, 12, 6)), ((12, 12), (12, 12), (0, 0))), (4, 4, 0))
    everything = tuple(slice(0, n) for n in data.shape)
    points = points_of(everything)
    inner = (slice(3, -3), slice(3, -3))
    for shift, worst in (((dx, dy), 0.05), ((2.0, -3.0), 0.0)):
        motion = SliceMotion(
            np.zeros((6, 2)), np.tile(shift, (6, 1)), np.zeros(6), (1.0, 1.0), np.ones(6, bool)
        )
        there = sampled(data, motion.pull(points))
        back = sampled(there, motion.push(points))
        assert np.abs(back - data)[inner].max() <= worst
        assert np.allclose(motion.push(motion.pull(points)), points, atol=1e-12)


@pytest.mark.parametrize("rotation", ["none", "pca"])
def test_7_the_area_of_the_target_is_the_mean_of_the_areas(rotation):
    """On slices that all cover wholly, with contrasts on grids of their own, sub-voxel shifts and unlike sizes."""
    rng = np.random.default_rng(3)
    masks = {}
    for name, spacing, tilt in (
        ("T2w", (0.8,) * 3, 0),
        ("T1w", (1, 1, 1), 0.05),
        ("DWI", (0.9, 0.9, 5), -0.03),
    ):
        shape = [round(40 / s) for s in spacing]
        affine = np.diag([*spacing, 1.0])
        affine[0, 2], affine[1, 0] = tilt * spacing[2], tilt * spacing[0]
        grid = Grid.of(shape, affine)
        world = grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1))
        a, b = rng.uniform(5, 7, 2)
        off = world[..., :2] - 19 - rng.uniform(-1, 1, 2) - 0.5 * np.sin(world[..., 2:] / 9)
        masks[name] = Mask.of((off[..., 0] / a) ** 2 + (off[..., 1] / b / 1.4) ** 2 <= 1, grid)
    shared = build(masks, "T2w", SoftGroundTruth(trim_mm=4, rotation=rotation))
    common = shared.common
    assert common.sum() > 15
    area = shared.soft.sum(axis=(0, 1))[common]
    mean = np.mean([w.segmentation.sum(axis=(0, 1)) for w in shared.warped.values()], axis=0)[common]
    assert np.abs(area / mean - 1).max() < 1e-6


def test_8_the_trim_takes_mask_and_coverage(discs, mask_of):
    n, centres, away = 101, np.full((101, 2), 12.0), np.full((101, 2), np.nan)
    away[20:81] = 12
    masks = {"T2w": mask_of(discs(centres, (25, 25, n), 4)), "DWI": mask_of(discs(away, (25, 25, n), 7))}
    shared = build(masks, "T2w", SoftGroundTruth(trim_mm=10))
    alone = build({"T2w": masks["T2w"]}, "T2w", SoftGroundTruth(trim_mm=10))
    differs = np.flatnonzero((full(shared) != full(alone)).any(axis=(0, 1)))
    assert differs.tolist() == list(range(30, 71))
    covered = shared.warped["DWI"].coverage.any(axis=(0, 1))
    assert np.flatnonzero(covered).tolist() == list(range(30, 71))
    # What is left is not diluted: the ends hold their full mean.
    ring = full(shared)[12 + 6, 12]
    assert set(ring[30:71].tolist()) == {0.5}
    # The ends of the trimmed contrast, where nobody else is, are not annotated in it either.
    later = np.full((n, 2), np.nan)
    later[40:] = 12
    lonely = build(
        {"T2w": mask_of(discs(later, (25, 25, n), 4)), "DWI": masks["DWI"]}, "T2w", SoftGroundTruth()
    )
    slices = carry_back(lonely, "DWI").slices
    assert np.flatnonzero(slices).tolist() == list(range(28, 81))


def test_8_by_hand():
    s, m = np.ones((1, 1, 7)), np.array([0.2, 0.6, 1, 1, 1, 0.5, 0.4]).reshape(1, 1, 7)
    a, b = trimmed(s, m, 0)
    assert b[0, 0].tolist() == [0, 0.6, 1, 1, 1, 0.5, 0]
    assert a[0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]
    a, b = trimmed(s, m, 1)
    assert b[0, 0].tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert not trimmed(s, m, 3)[1].any()


@pytest.mark.parametrize(("votes", "inside"), [(1, False), (2, False), (3, True), (4, True)])
def test_9_a_tie_is_background(votes, inside, discs, mask_of):
    """Of four contrasts, so many are wide; the ring between is a tie with two of them."""
    centre = np.full((3, 2), 12.0)
    masks = {
        name: mask_of(discs(centre, (25, 25, 3), 8 if i < votes else 5)) for i, name in enumerate(NAMES[:4])
    }
    soft = carry_back(build(masks, "T2w", PLAIN), "T1w").soft
    assert soft[12 + 7, 12, 1] == votes / 4
    assert ((soft > 0.5)[12 + 7, 12, 1]) == inside
