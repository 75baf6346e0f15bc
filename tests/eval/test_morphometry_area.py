"""Area and shape of tubes against closed forms, and what must not change them."""

import numpy as np
import pytest
from analytic_tubes import arc, cone, cylinder, direction, grid_of, sampled
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.geometry import Grid
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.settings import TubeSettings
from mriad_eval.morphometry.shape import solidity_of
from mriad_eval.morphometry.volumes import volumes_of

DISC = np.pi * 25
SIZE = (44, 44, 40)


def kept(tube, column="area_mm2"):
    return getattr(tube, column)[~tube.end]


def off(values, truth):
    """Largest error in percent."""
    return 100 * float(np.max(np.abs(np.asarray(values) / truth - 1)))


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1), (0.5, 0.5, 3), (0.5, 0.5, 5), (0.5, 0.8, 2)])
@pytest.mark.parametrize("tilt", [0, 15, 30])
def test_a_tilted_soft_cylinder_is_exact_in_every_slice(spacing, tilt):
    grid = grid_of(spacing, SIZE)
    tube = measure_tube(sampled(cylinder(5, direction(0, tilt), (0.13, 0.21, 0)), grid, soft=True), grid)
    assert off(kept(tube), DISC) < 0.2
    assert kept(tube, "raw_mm2").mean() == pytest.approx(DISC / np.cos(np.radians(tilt)), rel=2e-3)
    assert np.allclose(kept(tube, "angle_rl"), tilt, atol=0.2)
    assert np.allclose(kept(tube, "angle_ap"), 0, atol=0.2)
    assert np.allclose(kept(tube, "length_mm"), spacing[2] / np.cos(np.radians(tilt)), rtol=2e-3)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1), (0.5, 0.5, 5), (0.5, 0.8, 3)])
@pytest.mark.parametrize("tilt", [0, 15, 30])
def test_a_hard_cylinder_is_exact_on_average(spacing, tilt):
    # An upright hard cylinder is the same pixels in every slice: how many depends on its place on the grid alone.
    grid, means = grid_of(spacing, (40, 44, 20)), []
    for x, y in np.random.default_rng(0).uniform(-0.5, 0.5, (16, 2)):
        tube = measure_tube(sampled(cylinder(5, direction(0, tilt), (x, y, 0)), grid, soft=False), grid)
        means.append(kept(tube).mean())
    assert off(np.mean(means), DISC) < 0.5


def test_two_tilts_of_thirty_degrees_are_measured_in_the_world():
    grid = grid_of((0.5, 0.5, 1), (60, 60, 40))
    tube = measure_tube(sampled(cylinder(5, direction(30, 30)), grid, soft=True), grid)
    assert kept(tube).mean() == pytest.approx(78.54, abs=0.1)
    assert kept(tube, "raw_mm2").mean() == pytest.approx(DISC / 0.7746, rel=1e-3)
    # Tilted towards the right is negative: SCT counts towards the left.
    assert np.allclose(kept(tube, "angle_ap"), -30, atol=0.2)
    assert np.allclose(kept(tube, "angle_rl"), 30, atol=0.2)
    assert np.allclose(kept(tube, "diameter_ap"), 10, rtol=0.01)
    assert np.allclose(kept(tube, "diameter_rl"), 10, rtol=0.01)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("tilt", [0, 20, 30])
def test_a_cone_has_the_area_of_its_section_in_each_slice(soft, tilt):
    grid, axis = grid_of((0.5, 0.5, 2), SIZE), direction(0, tilt)
    tube = measure_tube(sampled(cone(5, 0.03, axis, (0.1, 0.2, 0)), grid, soft=soft), grid)
    # Where the cone's axis meets the plane of a slice, s = z / cos θ along it.
    z = grid.world(np.stack([0 * tube.slices, 0 * tube.slices, tube.slices], -1))[:, 2]
    truth = np.pi * (5 + 0.03 * z / axis[2]) ** 2
    if soft:
        assert off(kept(tube), truth[~tube.end]) < 0.5
    assert off(kept(tube).mean(), truth[~tube.end].mean()) < 0.5


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1), (0.5, 0.5, 3), (0.5, 0.5, 5), (1, 1, 1)])
def test_a_bent_tube_keeps_its_area_in_every_slice(spacing):
    # The axis tilts from -30 to 30 degrees over the field of view.
    grid = grid_of(spacing, (16, 44, 80), shift=(0.13, -8, 0.07))
    tube = measure_tube(sampled(arc(5, 80), grid, soft=True), grid)
    assert max(abs(tube.angle_rl)) > 23
    assert off(kept(tube), DISC) < (0.5 if max(spacing[:2]) < 1 else 0.6)
    assert off(kept(tube).mean(), DISC) < 0.1


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1), (0.5, 0.5, 5)])
def test_a_bent_hard_tube_keeps_its_area_on_average(spacing):
    means = []
    for x, y, z in np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3)):
        grid = grid_of(spacing, (16, 44, 80), shift=(x, y - 8, z))
        means.append(kept(measure_tube(sampled(arc(5, 80), grid, soft=False), grid)).mean())
    assert off(np.mean(means), DISC) < 0.5


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.floats(-25, 25)] * 3),
    st.floats(-20, 20),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.booleans()] * 3),
)
def test_oblique_grids_and_any_order_of_axes_give_the_same_area(angles, tilt, order, flips):
    a, b, c = np.radians(angles)
    about = [
        np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]),
        np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]),
        np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]),
    ]
    grid = grid_of((0.7, 0.7, 2.5), (44, 44, 34), about[0] @ about[1] @ about[2])
    values = sampled(cylinder(5, direction(3, tilt)), grid, soft=True, times=(4, 4, 4))
    tube = measure_tube(values, grid)
    assert off(kept(tube), DISC) < 0.5
    # The same voxels, stored in another order.
    turned, matrix = np.transpose(values, order), grid.matrix[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            matrix[:3, 3] += matrix[:3, axis] * (turned.shape[axis] - 1)
            matrix[:3, axis] *= -1
            turned = np.flip(turned, axis)
    again = measure_tube(turned, Grid.of(turned.shape, matrix))
    for column in ("slices", "raw_mm2", "area_mm2", "angle_ap", "angle_rl", "diameter_rl", "solidity"):
        assert np.allclose(getattr(again, column), getattr(tube, column), atol=1e-6), column


def test_pixels_are_measured_by_the_affine_not_by_rounded_zooms():
    matrix = np.diag([0.5, 0.5, 2.0, 1.0])
    matrix[0, 1] = 0.25  # sheared: the pixel's edge is longer than 0.5 mm, its area is not larger
    grid = Grid.of((30, 30, 8), matrix)
    values = np.ones(grid.shape, dtype=np.float32)
    assert measure_tube(values, grid).raw_mm2 == pytest.approx(30 * 30 * 0.25)


def test_the_field_of_view_and_a_voxel_elsewhere_change_nothing():
    grid = grid_of((0.5, 0.5, 2), (60, 60, 60))
    values = sampled(cylinder(5, direction(0, 15), (1, 2, 0)), grid, soft=True)
    whole = measure_tube(values, grid)
    box = (slice(20, 95), slice(15, 102))
    cropped = measure_tube(values[box], grid.crop((20, 15, 0), values[box].shape))
    assert np.allclose(cropped.area_mm2, whole.area_mm2, rtol=1e-9)
    # Fewer slices: the middle is measured as before, though the line is fitted to less.
    fewer = measure_tube(values[:, :, 6:-6], grid.crop((0, 0, 6), values[:, :, 6:-6].shape))
    assert off(kept(fewer), whole.area_mm2[6:-6][~fewer.end]) < 0.1
    spot = values.copy()
    spot[2, 3, 15] = 1
    marked = measure_tube(spot, grid)
    assert marked.regions.tolist().count(2) == 1
    assert "1 slice of several regions" in marked.note
    assert np.allclose(marked.angle_rl, whole.angle_rl, atol=1e-6)
    assert off(kept(marked).mean(), kept(whole).mean()) < 0.02
    assert marked.raw_mm2[15] == pytest.approx(whole.raw_mm2[15], rel=1e-9)


def test_background_of_soft_maps_does_not_pull_the_centre_line():
    grid = grid_of((0.5, 0.5, 2), (60, 60, 60))
    values = sampled(cylinder(5, direction(0, 15)), grid, soft=True)
    tube = measure_tube(np.maximum(values, np.float32(0.02)), grid)  # 2 % everywhere
    assert np.allclose(tube.angle_rl, 15, atol=0.2)
    values[:, :, :8] = 0.05  # no slice of the structure: no value reaches a tenth
    assert measure_tube(values, grid).slices.tolist() == list(range(8, 30))


def test_soft_values_are_not_stretched():
    grid = grid_of((0.5, 0.5, 2), (20, 20, 20))
    values = 0.4 * sampled(cylinder(5, direction(0, 0)), grid, soft=True)
    tube = measure_tube(values, grid)
    assert off(kept(tube), 0.4 * DISC) < 0.2
    assert tube.note == "10 slices with no value above .5 (measured as they are)"
    # A tie is background, so nothing is left of a mask of one half.
    assert len(measure_tube(np.full(grid.shape, 0.5, np.float32), grid, TubeSettings("binary"))) == 0


def test_ends_are_dropped_and_said():
    grid = grid_of((0.5, 0.5, 2), (20, 20, 20))
    values = sampled(cylinder(5, direction(0, 0)), grid, soft=True)
    values[:, :, 0] *= 0.5  # cut through by the end
    values[:, :, -1] *= 0.3
    tube = measure_tube(values, grid)
    assert tube.end.tolist() == [True] + [False] * 8 + [True]
    assert off(kept(tube), DISC) < 0.2
    assert not measure_tube(values, grid, TubeSettings(drop_ends=0)).end.any()
    assert measure_tube(values, grid, TubeSettings(drop_ends=2)).end.sum() == 4


def test_empty_masks_and_few_slices():
    grid = grid_of((0.5, 0.5, 2), (20, 20, 20))
    nothing = measure_tube(np.zeros(grid.shape, np.float32), grid)
    assert len(nothing) == 0
    assert nothing.line is None
    assert nothing.note == "the structure is in no slice"
    values = sampled(cylinder(5, direction(0, 10)), grid, soft=True)
    for count, corrected in ((1, 0), (3, 0), (4, 4), (5, 5)):
        part = np.where(np.arange(10) < count, values, 0)
        tube = measure_tube(part, grid)
        assert len(tube) == count
        assert np.isfinite(tube.area_mm2).sum() == corrected
        assert np.isfinite(tube.raw_mm2).all()  # the raw area needs no direction
        assert ("no corrected area" in tube.note) == (corrected == 0)
    single = measure_tube(np.where(np.arange(10) == 4, values, 0), grid, TubeSettings(drop_ends=0))
    assert np.isnan(single.area_mm2).all()


def test_a_gap_does_not_break_the_line():
    grid = grid_of((0.5, 0.5, 1), SIZE)
    values = sampled(cylinder(5, direction(0, 20)), grid, soft=True)
    values[:, :, 15:22] = 0
    tube = measure_tube(values, grid)
    assert off(kept(tube), DISC) < 0.2


def test_slices_with_voxels_that_are_not_annotated_are_left_out():
    grid = grid_of((0.5, 0.5, 2), (20, 20, 20))
    values = sampled(cylinder(5, direction(0, 0)), grid, soft=True)
    validity = np.ones(grid.shape, dtype=bool)
    validity[:, :, :3] = False
    validity[0, 0, 5] = False  # far from the structure: its slice stays
    tube = measure_tube(values, grid, validity=validity)
    assert tube.slices.tolist() == list(range(3, 10))


@pytest.mark.parametrize("turn", [0, 30, 60, 90])
def test_the_ellipse_of_a_section(turn):
    a, b, angle = 6.0, 4.0, np.radians(turn)

    def distance(points):
        x, y = points[..., 0] - 0.1, points[..., 1] + 0.2
        u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        return (np.hypot(u / a, v / b) - 1) * b

    grid = grid_of((0.25, 0.25, 2), (16, 16, 20))
    tube = measure_tube(sampled(distance, grid, soft=True), grid)
    sizes = (2 * a, 2 * b) if turn < 45 else (2 * b, 2 * a)
    assert np.allclose(kept(tube, "diameter_rl"), sizes[0], rtol=2e-3)
    assert np.allclose(kept(tube, "diameter_ap"), sizes[1], rtol=2e-3)
    assert np.allclose(kept(tube, "eccentricity"), np.sqrt(1 - b * b / a / a), atol=2e-3)
    assert np.allclose(kept(tube, "orientation"), turn, atol=0.2)
    assert off(kept(tube), np.pi * a * b) < 0.1


def test_shape_of_a_mask_against_regionprops():
    # Values of scikit-image 0.26's regionprops for this mask, an ellipse of 25 degrees with a piece cut off.
    y, x = np.mgrid[:40, :50]
    c, s = np.cos(np.radians(25)), np.sin(np.radians(25))
    u, w = (y - 18.3) * c + (x - 22.7) * s, -(y - 18.3) * s + (x - 22.7) * c
    mask = np.hypot(u / 14, w / 8) < 1
    mask[18:24, 30:60] = False
    assert mask.sum() == 336
    values = np.repeat(mask[..., None], 6, axis=2).astype(np.float32)
    tube = measure_tube(values, Grid.of(values.shape, np.diag([1, 1, 2, 1])))
    assert kept(tube, "diameter_rl") == pytest.approx(28.195130672114864)
    assert kept(tube, "diameter_ap") == pytest.approx(15.354596423406198)
    assert kept(tube, "eccentricity") == pytest.approx(0.8387067803650473)
    assert kept(tube, "orientation") == pytest.approx(23.212458538092395)
    assert kept(tube, "solidity") == pytest.approx(0.9307479224376731)


def test_solidity_of_simple_masks():
    square = np.ones((5, 7), dtype=bool)
    assert solidity_of(square) == 1
    corner = square.copy()
    corner[:3, :4] = False
    assert 0.6 < solidity_of(corner) < 0.85
    assert solidity_of(np.ones((1, 1), dtype=bool)) == 1
    assert np.isnan(solidity_of(np.zeros((3, 3), dtype=bool)))


def test_volumes_are_in_mm3():
    grid = Grid.of((4, 5, 6), np.diag([0.5, 0.5, 3, 1]))
    values = np.zeros(grid.shape, dtype=np.float32)
    values[1, 1, 1:4] = (1.0, 0.5, 0.25)
    found = volumes_of(values, grid)
    assert (found.soft_mm3, found.binary_mm3, found.voxels) == pytest.approx((1.75 * 0.75, 0.75, 1))
