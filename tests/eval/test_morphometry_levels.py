"""Vertebral levels: names, the disc conventions of SCT and TotalSpineSeg, level maps, means over levels."""

import numpy as np
import pytest
from analytic_tubes import arc, cylinder, direction, grid_of, sampled
from mriad.errors import DataError
from mriad.geometry import Grid
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.levels import (
    DISCS_TSS,
    LevelSet,
    disc_heights,
    disc_points,
    level_mean,
    level_name,
    levels_from_discs,
    levels_from_map,
    missing_discs,
)

GRID = grid_of((0.5, 0.5, 2), (40, 44, 80))


@pytest.fixture(scope="module")
def tube():
    return measure_tube(sampled(cylinder(5, direction(0, 15)), GRID, soft=True, times=(3, 3, 3)), GRID)


def points_file(places, grid=GRID):
    """Single voxels at world places by value."""
    out = np.zeros(grid.shape, dtype=np.uint8)
    for value, place in places.items():
        out[tuple(np.round(grid.voxels(place)).astype(int))] = value
    return out


def behind(height, gap=9.0):
    """A place `gap` mm before the tilted cylinder's axis, in its cross-section at this distance along it."""
    axis = direction(0, 15)
    anterior = np.array([0, axis[2], -axis[1]])
    return height * axis + gap * anterior


DISCS = {2: 34.0, 3: 20.0, 4: 4.0, 5: -13.0}


@pytest.mark.parametrize(
    ("text", "numbers", "name"),
    [
        ("C3", (3,), "C3"),
        ("c2-c3", (2, 3), "C2-C3"),
        ("2:3", (2, 3), "C2-C3"),
        ("C2, C3", (2, 3), "C2-C3"),
        ("C7-T2", (7, 8, 9), "C7-T2"),
        ("C2,C5", (2, 5), "C2,C5"),
        ("T12-L1", (19, 20), "T12-L1"),
        ("26", (26,), "26"),
    ],
)
def test_names_of_level_sets(text, numbers, name):
    found = LevelSet.parse(text)
    assert (found.numbers, found.name) == (numbers, name)
    assert LevelSet.parse(found.name) == found


@pytest.mark.parametrize("text", ["", "C9", "C3-C2", "0", "C2-C3-C4", "neck"])
def test_unknown_levels_are_refused(text):
    with pytest.raises(DataError, match=r"(?s)is no vertebral level.*C1 … C7"):
        LevelSet.parse(text)


def test_numbers_go_on_from_neck_to_sacrum():
    assert [level_name(n) for n in (1, 7, 8, 19, 20, 24, 25, 30)] == [
        "C1",
        "C7",
        "T1",
        "T12",
        "L1",
        "L5",
        "S1",
        "30",
    ]


def test_a_level_lies_between_the_disc_of_its_number_and_the_next(tube):
    points = disc_points(points_file({n: behind(z) for n, z in DISCS.items()}), GRID)
    levels = levels_from_discs(tube, points)
    along = tube.heights - tube.heights.mean()  # mm above the origin
    distance = along / direction(0, 15)[2]  # along the axis
    for level in (2, 3, 4):
        inside = (distance < DISCS[level] - 2.5) & (distance > DISCS[level + 1] + 2.5)
        assert inside.any()
        assert (levels[inside] == level).all()
    assert (levels[distance > DISCS[2] + 2.5] == 0).all()
    assert (levels[distance < DISCS[5] - 2.5] == 0).all()


def test_a_disc_is_projected_along_its_section_not_along_its_slice(tube):
    # 9 mm before a line that is tilted by 15 degrees, the same slice lies 2.4 mm further along.
    found = disc_heights({3: behind(20.0)[None]}, tube.line)
    expected = 20 * direction(0, 15)[2] + tube.heights.mean()
    assert found[3] == pytest.approx(expected, abs=0.1)


def test_disc_labels_may_lie_on_another_grid(tube):
    other = grid_of((1, 0.7, 1.1), (60, 60, 80), shift=(2, 1, -3))
    here = disc_points(points_file({n: behind(z) for n, z in DISCS.items()}), GRID)
    there = disc_points(points_file({n: behind(z) for n, z in DISCS.items()}, other), other)
    assert there.keys() == here.keys()
    assert all(np.linalg.norm(there[n] - here[n]) < 1.8 for n in here)


def test_only_neighbouring_discs_bound_a_level(tube):
    points = {n: behind(DISCS[n])[None] for n in (3, 5)}
    assert not levels_from_discs(tube, points).any()
    assert missing_discs(points, LevelSet.parse("C3-C4")) == [4]


def test_landmarks_that_are_no_discs_are_left_out():
    labels = points_file({3: behind(20), 49: behind(30), 50: behind(33)})
    assert list(disc_points(labels, GRID)) == [3]


def test_totalspineseg_maps():
    assert {63: 3, 67: 7, 71: 8, 82: 19, 91: 20, 95: 24, 100: 25}.items() <= DISCS_TSS.items()
    assert len(DISCS_TSS) == len(set(DISCS_TSS.values())) == 23
    grid = grid_of((1, 1, 1), (30, 50, 70))
    values = sampled(cylinder(5, direction(0, 0)), grid, soft=False)
    tube = measure_tube(values, grid)
    labels = np.where(values > 0, 1, 0).astype(np.uint8)
    middle = grid.shape[0] // 2
    for value, height in (
        (63, 60),
        (64, 44),
        (65, 27),
    ):  # discs from 9 mm before the axis, sinking away from it
        for away in range(9, 22):
            labels[middle - 6 : middle + 6, 25 + away, height - away // 6 - 1 : height - away // 6 + 2] = (
                value
            )
    labels[:, 40:48, 45:59] = 13  # vertebra C3 says nothing about its ends
    points = disc_points(labels, grid, "totalspineseg")
    assert {n: len(p) > 100 for n, p in points.items()} == {3: True, 4: True, 5: True}
    levels = levels_from_discs(tube, points)
    assert (levels[46:57] == 3).all()
    assert (levels[29:41] == 4).all()
    assert not levels[62:].any()


def test_the_conventions_are_not_mixed_up():
    labels = points_file({63: behind(20), 64: behind(4)})
    with pytest.raises(DataError, match=r"(?s)convention 'sct'.*63, 64.*--convention totalspineseg"):
        disc_points(labels, GRID, file="x.nii.gz")
    with pytest.raises(DataError, match=r"(?s)convention 'totalspineseg'.*labels\s+3\n"):
        disc_points(points_file({3: behind(20)}), GRID, "totalspineseg")


def test_a_map_in_place_of_points_and_no_labels_at_all():
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    with pytest.raises(
        DataError, match=r"(?s)no disc labels in this file.*all 0.*--discs FILE.*--levels FILE"
    ):
        disc_points(labels, GRID, file="x.nii.gz")
    labels[10:30, 10:30, 10:30] = 3
    with pytest.raises(DataError, match=r"(?s)points, but this file holds areas.*8000.*--levels FILE"):
        disc_points(labels, GRID)


def test_labels_of_another_space_or_order_are_refused(tube):
    with pytest.raises(DataError, match=r"(?s)far from the structure.*disc\s+3.*87 mm"):
        disc_heights({3: np.array([[0.0, 90.0, 0.0]])}, tube.line)
    with pytest.raises(DataError, match=r"(?s)not in order.*3: .*4: "):
        disc_heights({3: behind(4)[None], 4: behind(20)[None]}, tube.line)


def test_a_map_of_levels_speaks_by_majority_in_the_structure():
    grid = Grid.of((12, 12, 6), np.diag([1, 1, 3, 1]))
    values = np.zeros(grid.shape, dtype=np.float32)
    values[4:8, 4:8] = 1
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[..., 3:] = 2
    labels[..., :3] = 3
    labels[4:8, 4:8, 3] = 3
    labels[6:8, 4:8, 3] = 0  # the rest of this slice says 2
    labels[4:8, 4:8, 0] = 0  # only outside the structure
    tube = measure_tube(values, grid)
    assert levels_from_map(tube, values, labels).tolist() == [3, 3, 3, 3, 2, 2]


def test_means_over_levels(tube):
    levels = np.zeros(len(tube), dtype=np.int64)
    levels[10:14], levels[14:16], levels[16:17] = 3, 2, 5
    column = np.arange(float(len(tube)))
    c3 = level_mean(tube, levels, LevelSet.parse("C3"), column)
    assert (c3.mean, c3.n, c3.note) == (11.5, 4, "")
    assert c3.sd == pytest.approx(np.std([10, 11, 12, 13]))
    both = level_mean(tube, levels, LevelSet.parse("C2-C3"), column)
    assert (both.mean, both.n) == (12.5, 6)  # slices have equal weights
    column[11] = np.nan
    assert level_mean(tube, levels, LevelSet.parse("C3"), column).n == 3


@pytest.mark.parametrize(
    ("text", "least", "note"),
    [
        ("C5", 2, "1 slice, 2 needed"),
        ("C3", 5, "4 slices, 5 needed"),
        ("C4", 2, "no slices of C4"),
        ("C2-C4", 2, "no slices of C4"),
    ],
)
def test_no_mean_from_too_little(tube, text, least, note):
    levels = np.zeros(len(tube), dtype=np.int64)
    levels[10:14], levels[14:16], levels[16:17] = 3, 2, 5
    found = level_mean(tube, levels, LevelSet.parse(text), tube.area_mm2, least)
    assert np.isnan(found.mean)
    assert found.note == note


def test_dropped_ends_do_not_enter_a_mean(tube):
    levels = np.full(len(tube), 3)
    found = level_mean(tube, levels, LevelSet.parse("C3"), tube.area_mm2)
    assert found.n == len(tube) - 2


def test_levels_of_a_bent_tube_follow_its_bend():
    grid = grid_of((0.5, 0.5, 1), (16, 60, 80), shift=(0, -4, 0))
    tube = measure_tube(sampled(arc(5, 80), grid, soft=True, times=(3, 3, 3)), grid)
    # Discs 10 mm outside the axis, at angles of 20, 5 and -10 degrees of the arc.
    places = {}
    for number, angle in ((3, 20), (4, 5), (5, -10)):
        a = np.radians(angle)
        places[number] = np.array([[0, 90 * np.cos(a) - 80, 90 * np.sin(a)]])
    heights = disc_heights(places, tube.line)
    z0 = grid.world((0, 0, 0))[2]
    for number, angle in ((3, 20), (4, 5), (5, -10)):
        assert heights[number] + z0 == pytest.approx(80 * np.sin(np.radians(angle)), abs=0.3)
