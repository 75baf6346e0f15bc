"""Area cannot be bettered by fragments, voxels that nobody annotated, the field of view, or deleted predictions."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from analytic_tubes import cylinder, direction, grid_of, sampled
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.case_table import Row, summarise
from mriad.evaluation import Reference, score_case
from mriad.person_rows import person_rows
from mriad.structure_pair import StructurePair
from mriad.vocabulary import LabelSet
from mriad_eval.csa_metrics import Csa, CsaAbsoluteError, CsaStd
from mriad_eval.morphometry.area import measure_tube
from mriad_eval.morphometry.settings import CsaSettings, TubeSettings

GRID = grid_of((0.5, 0.5, 1), (50, 50, 60))
CORD = sampled(cylinder(5, direction(0, 0)), GRID, soft=True, times=(6, 6, 1))
DISC = np.pi * 25
SLICES = np.arange(60)
LEVELS = np.zeros(GRID.shape, np.uint8)
LEVELS[:, :, 30:] = 2
LEVELS[:, :, :30] = 3


def pair(prediction, reference=CORD, at=("C2", "C3"), grid=GRID, **more):
    more.setdefault("annotations", {"levels": LEVELS})
    return StructurePair(prediction.astype(np.float32), reference, grid, case="a", at_levels=at, **more)


def value(metric, pair):
    return metric.build()(pair)


def keep(first, last, values=CORD):
    return np.where(np.isin(SLICES, range(first, last)), values, 0).astype(np.float32)


# Fragments


@pytest.mark.parametrize("at", [("C2", "C3"), ()])
def test_a_fragment_is_no_measurement_of_the_whole(at):
    # Slices 1 … 58 of the reference count. Of the fragment 28 … 31, its ends are dropped; 54 slices are lacking.
    wanted = DISC * 2 / (2 + 54)
    fragment = pair(keep(28, 32), at=at)
    assert value(Csa(), fragment) == (pytest.approx(wanted, rel=2e-3), "")
    assert value(CsaAbsoluteError(), fragment) == (pytest.approx(DISC - wanted, rel=2e-3), "")
    large = sampled(cylinder(5 * math.sqrt(1.05), direction(0, 0)), GRID, soft=True, times=(6, 6, 1))
    assert value(CsaAbsoluteError(), pair(large, at=at))[0] < value(CsaAbsoluteError(), fragment)[0]


def test_a_fragment_at_a_number_of_the_case_and_holes():
    fragment = pair(keep(28, 32), numbers={"area_mm2/C2-C3": DISC})
    assert value(CsaAbsoluteError(against="number"), fragment)[0] > 0.9 * DISC
    holes = CORD.copy()
    holes[:, :, 10:20] = 0
    assert value(Csa(), pair(holes))[0] == pytest.approx(DISC * 48 / 58, rel=2e-3)
    # A slice less at either end is what drop_ends is for: two of 58 slices are lacking, no more.
    assert value(Csa(), pair(keep(1, 59)))[0] == pytest.approx(DISC, rel=2e-3)
    assert value(Csa(), pair(keep(2, 58)))[0] == pytest.approx(DISC * 54 / 56, rel=2e-3)
    # Slices that only the prediction has are its own.
    assert value(Csa(), pair(CORD, keep(20, 40)))[0] == pytest.approx(DISC, rel=2e-3)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 59), max_size=59, unique=True))
def test_removing_slices_never_lowers_the_error(removed):
    small = sampled(cylinder(4.5, direction(0, 0)), GRID, soft=True, times=(4, 4, 1))
    cut = small.copy()
    cut[:, :, removed] = 0
    before, after = (value(CsaAbsoluteError(), pair(p))[0] for p in (small, cut))
    assert after >= before - 0.02  # hundredths of mm²: the line of fewer slices


# Voxels that are not annotated


def test_values_that_are_not_annotated_count_as_zero():
    validity = np.zeros(GRID.shape, bool)
    validity[30:70, 30:70] = True  # 20 x 20 mm of 50 x 50 mm
    haze = np.where(validity, CORD, 0.02).astype(np.float32)
    tube = measure_tube(haze, GRID, validity=validity)
    assert len(tube) == 60
    assert tube.area_mm2 == pytest.approx(np.full(60, DISC), rel=2e-3)
    found = pair(haze, validity=validity)
    assert value(CsaAbsoluteError(), found)[0] < 0.1


def test_a_speck_outside_takes_no_slice_away():
    validity = np.ones(GRID.shape, bool)
    validity[:10] = False
    specks = CORD.copy()
    specks[3, 3, 5:50] = 1
    tube = measure_tube(specks, GRID, validity=validity)
    assert (len(tube), len(tube.left_out), tube.note) == (60, 0, "")
    holes = specks.copy()  # a prediction that is wrong there cannot hide it behind a speck
    holes[..., 5:50] = np.where(np.arange(100)[:, None, None] < 10, holes[..., 5:50], 0.5 * CORD[..., 5:50])
    error = value(CsaAbsoluteError(), pair(holes, validity=validity))[0]
    assert error == pytest.approx(0.5 * DISC * 45 / 58, rel=3e-3)


def test_slices_where_the_reference_touches_are_left_out_on_both_sides():
    validity = np.ones(GRID.shape, bool)
    validity[55:, :, 20:30] = False  # through the structure
    tube = measure_tube(CORD, GRID, validity=validity)
    assert tube.left_out.tolist() == list(range(20, 30))
    assert set(tube.slices) == set(range(60)) - set(range(20, 30))
    assert "10 slices left out (the structure touches voxels that are not annotated)" in tube.note
    spoilt = CORD.copy()
    spoilt[:50, :, 20:30] = 0  # not measured there
    assert value(CsaAbsoluteError(), pair(spoilt, validity=validity)) == (pytest.approx(0, abs=1e-6), "")
    # Where only the prediction leaks up to such voxels, its slices count with what is annotated of them.
    validity = np.ones(GRID.shape, bool)
    validity[70:] = False
    leak = CORD.copy()
    leak[50:75, 40:60, 20:30] = 1
    found = pair(leak, validity=validity)
    assert value(Csa(), found)[0] > DISC * 1.1
    validity[55:] = False
    found = pair(CORD, validity=validity)
    assert value(Csa(), found)[1] == "incomplete: too few slices (60 left out, not annotated)"
    assert value(CsaAbsoluteError(), pair(0 * CORD, validity=validity))[1].startswith("incomplete")


# Field of view


def test_a_faint_background_does_not_grow_with_the_field_of_view():
    areas = []
    for size in (60, 220):
        grid = grid_of((1, 1, 2), (size, size, 20))
        values = sampled(cylinder(5, direction(0, 0)), grid, soft=True)
        tube = measure_tube(np.maximum(values, np.float32(1e-3)), grid)
        areas.append(tube.area_mm2[~tube.end].mean())
    assert areas[1] == pytest.approx(areas[0], rel=1e-9)
    # The background within 10 mm of the pixels of the cord (> .5) is not cut: about a ring from 5 to 15 mm.
    assert areas[0] - DISC == pytest.approx(1e-3 * np.pi * (15**2 - 5**2), abs=0.2)


def test_how_far_values_count():
    grid = grid_of((1, 1, 2), (80, 80, 12))
    values = sampled(cylinder(5, direction(0, 0)), grid, soft=False)
    whole = measure_tube(values, grid).raw_mm2[3]
    xs = np.arange(80) - 39.5
    edge = xs[values[:, 40, 3] > 0].max()
    for away, counted in ((9, 0.3), (10, 0.3), (11, 0.0), (25, 0.0)):
        spot = values.copy()
        spot[int(edge + away + 39.5), 40, 3] = 0.3
        assert measure_tube(spot, grid).raw_mm2[3] - whole == pytest.approx(counted, abs=1e-6)
    assert measure_tube(spot, grid, TubeSettings(reach_mm=30)).raw_mm2[3] - whole == pytest.approx(0.3)
    assert CsaSettings(reach_mm=4).tube.reach_mm == 4
    # Nothing above .5: the largest region at half of the slice's largest value.
    faint = measure_tube(0.4 * values, grid)
    assert faint.raw_mm2 == pytest.approx(0.4 * measure_tube(values, grid).raw_mm2)


def test_distances_are_in_mm_on_any_grid():
    grid = grid_of((0.5, 2, 3), (80, 80, 12))
    values = sampled(cylinder(6, direction(0, 0)), grid, soft=False)
    far = np.full(grid.shape, 0.01, np.float32)
    tube = measure_tube(np.maximum(values, far), grid)
    ring = tube.raw_mm2 - measure_tube(values, grid).raw_mm2
    assert ring == pytest.approx(np.full(len(tube), 0.01 * np.pi * (16**2 - 6**2)), rel=0.05)


# Deleted predictions


def scored(prediction, reference=CORD, case="a", **more):
    target = Reference(case, reference[None], GRID, annotations={"levels": LEVELS}, **more)
    (row,) = score_case(
        prediction[None].astype(np.float32),
        GRID,
        target,
        LabelSet.of({"cord": 1}),
        [CsaAbsoluteError()],
        at_levels=("C2", "C3"),
    )
    return row


def test_no_error_counts_worse_than_a_miss():
    leak = sampled(cylinder(10, direction(0, 0)), GRID, soft=True, times=(4, 4, 1))
    row, missed = scored(leak), scored(0 * CORD)
    assert row.value == pytest.approx(3 * DISC, rel=3e-3)  # as measured
    assert row.worst == row.counted == missed.counted == missed.value == missed.worst
    assert row.counted == pytest.approx(DISC, rel=2e-3)
    assert (row.direction, row.note, missed.note) == ("lower", "", "miss")
    invented = scored(leak, 0 * CORD)
    assert (invented.note, invented.counted) == ("false positive", invented.value)
    assert scored(leak).worst == scored(0.5 * leak).worst  # the case's, whatever was predicted


TRUTHS = [sampled(cylinder(r, direction(0, 0)), GRID, soft=True, times=(2, 2, 1)) for r in (3, 5)]
PREDICTED = {
    "leak": sampled(cylinder(10, direction(0, 0)), GRID, soft=True, times=(2, 2, 1)),
    "fragment": keep(28, 32),
    "one slice": keep(28, 29),
    "one level": keep(0, 20),
    "good": CORD,
    "faint": 0.3 * CORD,
}
ROWS = {
    (t, name): (scored(p, truth), scored(0 * p, truth))
    for (t, truth), (name, p) in itertools.product(enumerate(TRUTHS), PREDICTED.items())
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ROWS)), st.booleans()), min_size=1, max_size=8),
)
def test_deleting_any_predictions_never_lowers_the_counted_mean(cases):
    before = [ROWS[key][0] for key, _ in cases]
    after = [ROWS[key][int(deleted)] for key, deleted in cases]
    (kept,), (left,) = summarise(before), summarise(after)
    assert left.with_worst >= kept.with_worst - 1e-9


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000), st.booleans()), min_size=1, max_size=6))
def test_deleting_any_predictions_never_lowers_the_counted_spread(persons):
    def rows(deleting):
        return [
            replace(row, value=math.nan, note="miss") if deleting and gone and row.contrast == "T2w" else row
            for i, (first, second, gone) in enumerate(persons)
            for row in (
                Row(f"{i}_{c}", f"{i}", c, "", "cord", "csa", area, "mm2", "none", math.nan)
                for c, area in (("T1w", first), ("T2w", second))
            )
        ]

    (before,), (after,) = (summarise(person_rows(rows(d), [CsaStd()])) for d in (False, True))
    assert after.with_worst >= before.with_worst - 1e-9
