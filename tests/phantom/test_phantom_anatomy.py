"""Anatomy in closed form against numerical differentiation and integration."""

import numpy as np
import pytest
from mriad_data.phantom.anatomy import draw_anatomy
from scipy.integrate import quad

Z = np.linspace(-120, 60, 400)


def test_derivatives_of_the_centre_line():
    line = draw_anatomy(0, 1).line
    h = 1e-4
    position, first, second = line.derivatives(Z)
    plus, minus = line.derivatives(Z + h), line.derivatives(Z - h)
    assert np.allclose((plus[0] - minus[0]) / (2 * h), first, atol=1e-7)
    assert np.allclose((plus[1] - minus[1]) / (2 * h), second, atol=1e-7)
    assert np.array_equal(position[:, 2], Z)


def test_the_frame_is_right_handed_and_orthonormal():
    tangent, lateral, anterior = draw_anatomy(0, 2).line.frame(Z)
    frame = np.stack([lateral, anterior, tangent], -1)
    assert np.allclose(frame.swapaxes(-1, -2) @ frame, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)
    assert (lateral[:, 0] > 0.9).all()
    assert (anterior[:, 1] > 0.8).all()
    assert (tangent[:, 2] > 0.8).all()


@pytest.mark.parametrize("person", range(1, 13))
def test_people_are_plausible(person):
    """Wide bounds around Kato 2012 (78 ± 9 mm² at C5); the tube must be regular and the cord stay in its sac."""
    anatomy = draw_anatomy(0, person)
    areas = {name: anatomy.mean_area(*ends) for name, ends in anatomy.levels().items()}
    assert 52 < areas["C3"] < 105
    assert 55 < areas["C5"] < 115
    assert areas["C5"] > areas["T1"]
    a, b = anatomy.cord(Z)
    sac_a, sac_b = anatomy.sac(Z)
    _, first, second = anatomy.line.derivatives(Z)
    bend = np.linalg.norm(np.cross(first, second), axis=-1) / anatomy.line.speed(Z) ** 3
    assert bend.max() * sac_a.max() < 0.5
    assert (sac_a > a + 1).all()
    assert (sac_b > b + abs(anatomy.sac_offset) + 0.5).all()


def test_mean_area_is_weighted_by_arc_length():
    anatomy = draw_anatomy(4, 1)
    top, bottom = anatomy.levels()["C5"]
    z_to_s = [quad(lambda z: float(anatomy.line.speed(z)), bottom, top)[0]]
    area = quad(lambda z: float(anatomy.area(z) * anatomy.line.speed(z)), bottom, top)[0]
    assert anatomy.mean_area(top, bottom) == pytest.approx(area / z_to_s[0], rel=1e-9)
    a, b = anatomy.cord(-40.0)
    assert float(anatomy.area(-40.0)) == pytest.approx(float(np.pi * a * b))


@pytest.mark.parametrize("percent", [1, 2, 5])
def test_atrophy_is_exact_and_leaves_the_rest(percent):
    whole, less = draw_anatomy(0, 3), draw_anatomy(0, 3, 1 - percent / 100)
    for name, ends in whole.levels().items():
        assert less.mean_area(*ends) / whole.mean_area(*ends) == pytest.approx(1 - percent / 100), name
    assert np.allclose(np.stack(less.sac(Z)), np.stack(whole.sac(Z)))
    assert less.line == whole.line
    assert less.discs == whole.discs


def test_persons_differ_and_do_not_depend_on_the_others():
    assert draw_anatomy(0, 1) == draw_anatomy.__wrapped__(0, 1)
    lines = {draw_anatomy(0, n).line for n in range(1, 20)}
    assert len(lines) == 19
    assert draw_anatomy(1, 1).line != draw_anatomy(0, 1).line


def test_discs_lie_behind_each_other_at_the_back_of_the_bodies():
    anatomy = draw_anatomy(0, 1)
    points = anatomy.disc_points()
    assert list(points) == list(range(1, len(points) + 1))
    heights = [p[2] for p in points.values()]
    assert heights == sorted(heights, reverse=True)
    assert points[3][2] == pytest.approx(0.0, abs=3.0)  # C2-C3, tilted with the line
    for number, point in points.items():
        centre, _, _ = anatomy.line.derivatives(anatomy.discs[number - 1])
        distance = np.linalg.norm(point - centre)
        assert distance > anatomy.sac(anatomy.discs[number - 1])[1] + anatomy.sac_offset
