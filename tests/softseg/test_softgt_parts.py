"""Alignment against scipy, the composed warp against SimpleITK, and the options of the average."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad_softseg.average import build, carry_back
from mriad_softseg.coverage import coverage_at, padded
from mriad_softseg.discs import carried, centres
from mriad_softseg.masks import Mask, moved, slice_axis
from mriad_softseg.slicewise import align
from mriad_softseg.soft_ground_truth import SoftGroundTruth
from scipy import ndimage

PLAIN = SoftGroundTruth(trim_mm=0)


def ellipse(angle: float, shape=(41, 41), axes=(12.0, 6.0), centre=(20.0, 20.0)) -> np.ndarray:
    x, y = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    x, y = x - centre[0], y - centre[1]
    u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    return ((u / axes[0]) ** 2 + (v / axes[1]) ** 2 <= 1).astype(float)


class TestAlignment:
    def test_shifts_are_differences_of_scipys_centres(self):
        rng = np.random.default_rng(1)
        a, b = (ndimage.gaussian_filter(rng.random((20, 22, 6)), (3, 3, 0)) for _ in range(2))
        a, b = a / a.max(), b / b.max()
        found = align(a, b, (0.8, 1.3))
        for k in range(6):
            difference = np.subtract(
                ndimage.center_of_mass(b[:, :, k]), ndimage.center_of_mass(a[:, :, k])
            ) * [0.8, 1.3]
            assert np.allclose(found.shift[k], difference, atol=1e-9)

    @pytest.mark.parametrize("turn", [-0.6, 0.2, 0.7])
    def test_principal_axes(self, turn):
        a = np.stack([ellipse(0.9)] * 3, -1)
        b = np.stack([ellipse(0.9 + turn, centre=(22.0, 17.0))] * 3, -1)
        found = align(a, b, (1, 1), rotation="pca")
        assert np.allclose(found.angle, turn, atol=0.02)
        assert np.allclose(found.shift, [2, -3], atol=0.05)
        points = np.random.default_rng(0).uniform(0, 40, (3, 50)) * [[1], [1], [0.05]]
        there = found.pull(points)
        assert np.allclose(found.push(there), points)
        # a point on the long axis goes to a point on the long axis
        far = found.pull(np.array([[20 + 12 * np.cos(0.9)], [20 + 12 * np.sin(0.9)], [1.0]]))[:2, 0]
        end = np.array([22 + 12 * np.cos(0.9 + turn), 17 + 12 * np.sin(0.9 + turn)])
        assert np.linalg.norm(far - end) < 0.4

    def test_a_round_section_has_no_direction(self):
        a = np.stack([ellipse(0, axes=(8, 8))] * 2, -1)
        assert (align(a, np.stack([ellipse(1.2)] * 2, -1), (1, 1), rotation="pca").angle == 0).all()

    @pytest.mark.parametrize(("gaps", "middle"), [("linear", 2.5), ("zero", 0.0)])
    def test_gaps(self, gaps, middle, discs):
        fixed = discs(np.full((7, 2), 12.0), (25, 25, 7), 4).astype(float)
        places = np.array(
            [[np.nan] * 2, [13, 12], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2, [16, 12], [np.nan] * 2]
        )
        found = align(fixed, discs(places, (25, 25, 7), 4).astype(float), (1, 1), gaps=gaps)
        assert found.measured.tolist() == [False, True, False, False, False, True, False]
        ends = (1.0, 4.0) if gaps == "linear" else (0.0, 0.0)
        assert found.shift[:, 0].tolist() == pytest.approx(
            [ends[0], 1, *([1.75, middle, 3.25] if gaps == "linear" else [0, 0, 0]), 4, ends[1]]
        )

    def test_nothing_in_common(self, discs):
        one, two = np.full((4, 2), np.nan), np.full((4, 2), np.nan)
        one[:2], two[2:] = 10, 10
        masks = [discs(c, (21, 21, 4), 4).astype(float) for c in (one, two)]
        assert align(*masks, (1, 1)) is None


def test_the_composed_warp_is_one_linear_interpolation_as_simpleitk_does_it():
    """A contrast on an oblique grid of other voxels, pulled through an in-plane shift that differs by slice."""
    rng = np.random.default_rng(2)
    fixed_grid = Grid.of((40, 42, 30), np.diag([0.8, 0.8, 0.8, 1.0]))
    affine = np.array(
        [[0.9, 0.03, 0.2, -2.0], [-0.02, 0.88, 0.1, -1.0], [0.02, 0.01, 3.0, -3.0], [0, 0, 0, 1.0]]
    )
    grid = Grid.of((40, 44, 11), affine)
    world = grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1))
    wobble = np.interp(world[..., 2], np.linspace(-5, 30, 12), rng.uniform(-1.5, 1.5, 12))
    moving = np.hypot(world[..., 0] - 16 - wobble, world[..., 1] - 17) < 6
    world = fixed_grid.world(
        np.stack(np.meshgrid(*[np.arange(n) for n in fixed_grid.shape], indexing="ij"), -1)
    )
    fixed = np.hypot(world[..., 0] - 16, world[..., 1] - 16.5) < 6
    shared = build({"T2w": Mask.of(fixed, fixed_grid), "MTon": Mask.of(moving, grid)}, "T2w", PLAIN)
    motion = shared.warped["MTon"].motion
    assert np.ptp(motion.shift[:, 0]) > 0.5

    def image(data, matrix):
        made = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)).astype(np.float64))
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        made.SetSpacing(spacing.tolist())
        made.SetOrigin(matrix[:3, 3].tolist())
        return made, matrix[:3, :3] / spacing

    reference, _ = image(fixed, fixed_grid.matrix)
    source, _ = image(moving, np.diag([1.0, 1, 1, 1]))  # in voxels: ITK would refuse a sheared direction
    # world → voxels of the moving image, after the shift
    inverse = np.linalg.inv(affine)
    field = np.zeros((*fixed_grid.shape, 3))
    moved_world = world + np.concatenate([motion.shift, np.zeros((30, 1))], 1)[None, None]
    field = moved_world @ inverse[:3, :3].T + inverse[:3, 3] - world
    vectors = SimpleITK.GetImageFromArray(np.ascontiguousarray(field.transpose(2, 1, 0, 3)), isVector=True)
    vectors.CopyInformation(reference)
    warp = SimpleITK.DisplacementFieldTransform(SimpleITK.Cast(vectors, SimpleITK.sitkVectorFloat64))
    theirs = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(source, reference, warp, SimpleITK.sitkLinear, 0.0)
    ).transpose(2, 1, 0)
    ends = np.zeros(fixed_grid.shape)
    ends[shared.box] = shared.warped["MTon"].ends[0]
    away = slice(3, 27)
    assert np.abs(ends - theirs)[:, :, away].max() < 1e-6
    assert theirs[:, :, away].max() == 1


class TestCoverage:
    def test_positions(self):
        there = np.array([False, True, True, False, True])
        at = coverage_at(there, np.array([-2, -0.5, 0, 0.5, 1, 1.5, 2.25, 3, 3.5, 4, 4.5, 5, 9]))
        assert at.tolist() == [0, 0, 0, 0.5, 1, 1, 0.75, 0, 0.5, 1, 0.5, 0, 0]

    def test_padding_repeats_the_ends_once(self, discs):
        places = np.full((4, 2), 5.0)
        places[0] = np.nan
        data = discs(places, (11, 11, 4), 3)
        longer, grid = padded(data, Grid.of(data.shape, np.diag([1, 1, 5, 1])))
        assert np.array_equal(longer[:, :, 1], data[:, :, 1])
        assert np.array_equal(longer[:, :, 5], data[:, :, 3])
        assert not longer[:, :, 0].any()
        assert grid.matrix[2, 3] == -5

    def test_a_wider_field_of_view_is_annotated_to_its_sides(self, discs, mask_of):
        narrow = mask_of(discs(np.full((8, 2), 10.0), (21, 21, 8), 4))
        wide_grid = Grid.of(
            (61, 61, 8), np.array([[1, 0, 0, -20.0], [0, 1, 0, -20], [0, 0, 1, 0], [0, 0, 0, 1]])
        )
        wide = mask_of(discs(np.full((8, 2), 30.0), (61, 61, 8), 4), wide_grid)
        target = carry_back(build({"T2w": narrow, "DWI": wide}, "T2w", PLAIN), "DWI")
        assert target.valid.all()
        assert np.array_equal(target.soft, wide.inside.astype(np.float32))


class TestOptions:
    def test_weights_by_resolution(self, discs, mask_of):
        grid = Grid.of((25, 25, 4), np.diag([1, 1, 4, 1.0]))
        fine = Grid.of((25, 25, 16), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1.5], [0, 0, 0, 1.0]]))
        masks = {
            "T2w": mask_of(discs(np.full((16, 2), 12.0), (25, 25, 16), 4), fine),
            "DWI": mask_of(discs(np.full((4, 2), 12.0), (25, 25, 4), 8), grid),
        }
        soft = build(masks, "T2w", SoftGroundTruth(trim_mm=0, weights="resolution"))
        # voxel volumes 1 and 4 mm³: the ring that DWI alone holds has 1/4 of 5/4
        assert soft.full(soft.soft)[12 + 6, 12, 8] == pytest.approx(0.2)

    def test_the_slice_profile_is_the_mean_over_the_thickness(self, mask_of):
        """A cone: the section at the centre of a thick slice is smaller than the mean over its thickness."""
        z = np.arange(48)
        x, y = np.meshgrid(np.arange(41) - 20, np.arange(41) - 20, indexing="ij")
        cone = np.hypot(x, y)[..., None] <= 4 + 0.2 * z
        thick_grid = Grid.of(
            (41, 41, 4), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 12, 5.5], [0, 0, 0, 1.0]])
        )
        thick = np.stack([cone[:, :, 12 * k + 6] for k in range(4)], -1)
        masks = {"T2w": mask_of(cone), "DWI": mask_of(thick, thick_grid)}
        shared = build(masks, "T2w", PLAIN)
        # The target itself, averaged in a plain loop over 24 places in each slice.
        soft = shared.full(shared.soft).astype(float)
        for k in (1, 2):
            places = 12 * k + 5.5 + 12 * ((np.arange(24) + 0.5) / 24 - 0.5)
            low = np.floor(places).astype(int)
            part = places - low
            mean = np.mean(
                [(1 - p) * soft[:, :, i] + p * soft[:, :, i + 1] for i, p in zip(low, part, strict=True)], 0
            )
            found = carry_back(shared, "DWI", slice_profile=True).soft[:, :, k]
            assert np.abs(found - mean).max() < 1e-6
            centre = carry_back(shared, "DWI").soft[:, :, k]
            assert np.allclose(centre, (soft[:, :, 12 * k + 5] + soft[:, :, 12 * k + 6]) / 2, atol=1e-6)
            assert np.abs(found - centre).max() > 0.2

    def test_discs_travel_by_their_centres(self, discs, mask_of):
        shape = (25, 25, 40)
        reference = mask_of(discs(np.full((40, 2), 12.0), shape, 4))
        thick = Grid.of((25, 25, 8), np.array([[1, 0, 0, 3], [0, 1, 0, -2], [0, 0, 5, 2], [0, 0, 0, 1.0]]))
        moving = mask_of(discs(np.full((8, 2), 12.0), (25, 25, 8), 4), thick)
        points = np.zeros(shape, np.uint8)
        points[12, 6, 9], points[12, 6, 24] = 3, 4
        points[11:14, 6, 39] = 5  # three voxels: their centre counts
        points[0, 0, 20] = 9
        shared = build({"T2w": reference, "DWI": moving}, "T2w", PLAIN)
        found, lost = carried(centres(points), shared, "DWI")
        # the world shift of 3, −2 mm is what the motion has found, so in-plane places stay; slices are 5 mm
        assert {int(found[tuple(p)]): p.tolist() for p in np.argwhere(found)} == {
            3: [12, 6, 1],
            4: [12, 6, 4],
            5: [12, 6, 7],
            9: [0, 0, 4],
        }
        assert lost == []
        gone, lost = carried(
            {7: np.array([60.0, 6, 9]), 3: np.array([12.0, 6, 9]), 4: np.array([12.0, 6, 8])}, shared, "DWI"
        )
        assert lost == [4, 7]
        assert (gone != 0).sum() == 1


class TestMasks:
    def test_slices_are_brought_to_the_last_axis_and_back(self):
        grid = Grid.of((5, 6, 7), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]]))
        assert slice_axis(grid) == 0
        data = np.zeros((5, 6, 7), np.uint8)
        data[2, 3, 4] = 1
        mask = Mask.of(data, grid)
        assert mask.grid.shape == (6, 7, 5)
        assert np.allclose(moved(grid, 0).world([3, 4, 2]), grid.world([2, 3, 4]))
        assert mask.annotated.tolist() == [False, False, True, False, False]
        assert mask.thickness == 3
        assert np.array_equal(mask.back(mask.inside), data != 0)

    @pytest.mark.parametrize("top", [1, 255])
    def test_a_mask_scaled_to_255_is_the_same_mask(self, top, discs, mask_of):
        data = discs(np.full((3, 2), 6.0), (13, 13, 3), 3)
        assert np.array_equal(mask_of(data * top).inside, data == 1)
        assert np.array_equal(mask_of(data.astype(np.float32) * top).inside, data == 1)

    @pytest.mark.parametrize("scale", [1.0, 255.0])
    def test_a_soft_mask_is_refused(self, scale, mask_of):
        soft = ndimage.gaussian_filter(np.eye(9)[..., None].repeat(3, 2), (1, 1, 0))
        data = (soft / soft.max() * scale).astype(np.float32 if scale == 1 else np.uint8)
        with pytest.raises(DataError, match="a soft mask stands where a hard one is meant") as caught:
            mask_of(data)
        assert f"to {scale:g}" in str(caught.value)
        assert "binarise" in str(caught.value)

    def test_other_values_are_refused(self, discs, mask_of):
        data = discs(np.full((3, 2), 6.0), (13, 13, 3), 3)
        with pytest.raises(DataError, match="the mask is not binary") as caught:
            mask_of(data * 2)
        assert "0 and 1 (or 0 and 255)" in str(caught.value)
        assert mask_of(data * 7, value=7).inside.any()

    def test_an_empty_mask(self, mask_of):
        with pytest.raises(DataError, match="the mask is empty") as caught:
            mask_of(np.zeros((4, 5, 6), np.uint8))
        assert "leave the contrast out" in str(caught.value)

    def test_several_blobs_on_a_slice_are_refused_and_a_gap_is_not(self, discs, mask_of):
        places = np.full((6, 2), 6.0)
        places[2:4] = np.nan
        data = discs(places, (13, 13, 6), 3)
        assert mask_of(data).annotated.tolist() == [True, True, False, False, True, True]
        data[0, 0, 4] = 1
        with pytest.raises(DataError, match="several blobs on one slice") as caught:
            mask_of(data)
        assert "4 (2 blobs)" in str(caught.value)
