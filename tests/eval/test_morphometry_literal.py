"""The literal mode of SCT 6.0: its quirks, and its steps against values of scikit-image."""

import numpy as np
import pytest
from analytic_tubes import cylinder, direction, grid_of, sampled
from mriad.geometry import Grid
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.literal_sct import _area, _squeezed, literal_area, literal_levels

DISC = np.pi * 25
MIDDLE = slice(5, -5)


def test_one_tilt_is_measured_as_in_the_clean_mode():
    grid = grid_of((0.5, 0.5, 1), (60, 60, 40))
    for axis in (direction(0, 30), direction(20, 0)):
        found = literal_area(sampled(cylinder(5, axis), grid, soft=True), grid)
        assert np.nanmean(found.area_mm2[MIDDLE]) == pytest.approx(DISC, rel=3e-3)


def test_two_tilts_of_thirty_degrees_come_out_small():
    grid = grid_of((0.5, 0.5, 1), (60, 60, 40))
    values = sampled(cylinder(5, direction(30, 30)), grid, soft=True)
    literal, clean = literal_area(values, grid), measure_tube(values, grid)
    share = np.nanmean(literal.area_mm2[MIDDLE]) / clean.area_mm2[MIDDLE].mean()
    assert share == pytest.approx(0.75 / 0.7746, abs=2e-3)  # -3.2 %
    assert np.nanmean(literal.angle_ap[MIDDLE]) == pytest.approx(clean.angle_ap[MIDDLE].mean(), abs=0.3)
    assert np.nanmean(literal.angle_rl[MIDDLE]) == pytest.approx(clean.angle_rl[MIDDLE].mean(), abs=0.3)


def test_a_soft_slice_is_stretched_to_one():
    grid = grid_of((0.5, 0.5, 2), (30, 30, 20))
    values = 0.4 * sampled(cylinder(5, direction(0, 0)), grid, soft=True)
    assert np.nanmean(literal_area(values, grid).area_mm2) == pytest.approx(DISC, rel=2e-3)
    assert measure_tube(values, grid).area_mm2.mean() == pytest.approx(0.4 * DISC, rel=2e-3)


def test_a_correction_can_be_left_out():
    grid = grid_of((0.5, 0.5, 1), (60, 60, 40))
    found = literal_area(
        sampled(cylinder(5, direction(0, 30)), grid, soft=True), grid, angle_correction=False
    )
    assert np.nanmean(found.area_mm2[MIDDLE]) == pytest.approx(DISC / np.cos(np.radians(30)), rel=3e-3)
    assert set(found.angle_rl[MIDDLE]) == {0.0}


def test_empty_slices_have_no_value_and_ends_are_not_dropped():
    grid = grid_of((0.5, 0.5, 2), (30, 30, 20))
    values = sampled(cylinder(5, direction(0, 0)), grid, soft=True)
    values[..., :2] = 0
    found = literal_area(values, grid)
    assert np.isnan(found.area_mm2).tolist() == [True] * 2 + [False] * 8
    assert np.isnan(literal_area(0 * values, grid).area_mm2).all()


def test_oblong_pixels_are_made_square():
    grid = grid_of((0.5, 0.9, 2), (30, 30, 20))
    found = literal_area(sampled(cylinder(5, direction(0, 0)), grid, soft=True), grid)
    assert np.nanmean(found.area_mm2) == pytest.approx(DISC, rel=5e-3)


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR"])
def test_slices_count_from_inferior_whatever_the_file_order(codes):
    order = ["RL".find(c) >= 0 for c in codes].index(True), ["AP".find(c) >= 0 for c in codes].index(True)
    grid = grid_of((0.5, 0.5, 2), (30, 30, 20))
    values = sampled(cylinder(5, direction(0, 10)), grid, soft=True)
    values[..., :3] = 0  # the three most inferior slices
    along = [order[0], order[1], 3 - sum(order)]
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    stored = values
    for axis, c in enumerate("RAS"):
        if c not in codes:
            stored = np.flip(stored, axis)
        matrix[axis, along[axis]] = grid.spacing[axis] * (1 if c in codes else -1)
    stored = np.transpose(stored, np.argsort(along))
    found = literal_area(stored, Grid.of(stored.shape, matrix))
    assert np.isnan(found.area_mm2).tolist() == [True] * 3 + [False] * 7
    expected = literal_area(values, grid)
    assert np.allclose(found.area_mm2[3:], expected.area_mm2[3:], rtol=1e-3)
    assert np.allclose(found.angle_rl[3:], expected.angle_rl[3:], atol=1e-6)


@pytest.mark.parametrize(
    ("ap", "rl", "area"),
    [
        (0, 0, 281.8797124132132),
        (20, 0, 265.1898422194174),
        (0, 20, 264.9931551353347),
        (15, 25, 246.32703103),
    ],
)
def test_squeezing_and_enlarging_against_scikit_image(ap, rl, area):
    # Values of scikit-image 0.26: warp with AffineTransform, regionprops' box, pyramid_expand, all in float64.
    y, x = np.mgrid[:40, :50]
    image = np.clip(8 - np.hypot(y - 18.3, (x - 22.7) / 1.4) + 0.5, 0, 1)
    found = _area(_squeezed(image, np.cos(np.radians(ap)), np.cos(np.radians(rl))))
    assert found == pytest.approx(area, rel=3e-5)


def test_two_parts_of_a_slice_are_one_region():
    # The program labels nothing: all that is above one half is one region.
    image = np.zeros((30, 30))
    image[3:8, 3:8] = image[15:22, 15:22] = 1
    assert _area(image) == pytest.approx(25 + 49, rel=1e-6)


def test_the_level_of_a_slice_is_the_rounded_mean():
    grid = Grid.of((4, 4, 3), np.diag([1, 1, 1, 1]))
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[:, :, 1] = 3
    labels[:, :, 2] = 2
    labels[0, 0, 2] = 5
    assert literal_levels(labels, grid).tolist() == [0, 3, 2]
