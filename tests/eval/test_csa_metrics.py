"""Metrics of area: values, levels, misses that never improve, spread over contrasts."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from analytic_tubes import cylinder, direction, grid_of, sampled
from mriad.case_table import Row, summarise
from mriad.evaluation import Reference, score_case
from mriad.interfaces import Metric
from mriad.person_rows import person_rows, with_needed
from mriad.structure_pair import StructurePair
from mriad.vocabulary import LabelSet
from mriad_eval.csa_metrics import Csa, CsaAbsoluteError, CsaLiteralSct, CsaStd

GRID = grid_of((0.5, 0.5, 2), (30, 30, 60))
LARGE = sampled(cylinder(5, direction(0, 10)), GRID, soft=True, times=(4, 4, 4))
SMALL = sampled(cylinder(4, direction(0, 10)), GRID, soft=True, times=(4, 4, 4))
NOTHING = np.zeros(GRID.shape, dtype=np.float32)
LEVELS = np.zeros(GRID.shape, dtype=np.uint8)
LEVELS[:, :, 15:] = 2
LEVELS[:, :, 8:15] = 3
DISC = np.pi * 25


def pair(prediction, reference, at=("C2", "C3"), **more):
    more.setdefault("annotations", {"levels": LEVELS})
    return StructurePair(prediction, reference, GRID, case="sub-1_T2w", at_levels=at, **more)


def value(metric, pair):
    return metric.build()(pair)


def only(values, first, last):
    """The slices of this range, nothing elsewhere."""
    inside = np.arange(GRID.shape[2])
    return np.where((inside >= first) & (inside < last), values, 0).astype(np.float32)


@pytest.mark.parametrize("at", [("C2", "C3"), ("C2-C3",), ("C3",), ()])
def test_area_at_levels_and_everywhere(at):
    assert value(Csa(), pair(LARGE, SMALL, at)) == (pytest.approx(DISC, rel=2e-3), "")
    assert value(CsaAbsoluteError(), pair(LARGE, SMALL, at)) == (pytest.approx(np.pi * 9, rel=3e-3), "")


def test_discs_serve_where_there_is_no_map_of_levels():
    discs = np.zeros(GRID.shape, dtype=np.uint8)
    for number, k in ((2, 28), (3, 20), (4, 12)):
        discs[30, 48, k] = number
    both = pair(LARGE, SMALL, annotations={"discs": discs})
    assert value(Csa(), both) == (pytest.approx(DISC, rel=2e-3), "")
    discs[discs == 4] = 0
    assert value(Csa(), both)[1] == ""  # measured once a pair
    again = pair(LARGE, SMALL, annotations={"discs": discs})
    assert value(Csa(), again)[1] == "incomplete: no disc 4"


def test_binary_and_soft_are_two_columns():
    half = 0.6 * LARGE
    assert value(Csa(), pair(half, LARGE))[0] == pytest.approx(0.6 * DISC, rel=2e-3)
    assert value(Csa(mask="binary"), pair(half, LARGE))[0] == pytest.approx(DISC, rel=0.12)
    assert [Csa(mask=m).key() for m in ("soft", "binary")] == ["csa", "csa_binary"]
    assert CsaAbsoluteError(mask="binary", against="number").key() == "csa_abs_error_of_area_mm2_binary"


def test_a_number_of_the_case_in_place_of_a_mask():
    metric = CsaAbsoluteError(against="number")
    known = pair(LARGE, SMALL, numbers={"area_mm2/C2-C3": 70.0, "area_mm2/C3": 1.0})
    assert value(metric, known) == (pytest.approx(DISC - 70, abs=0.2), "")
    assert value(metric, pair(LARGE, SMALL)) == (
        pytest.approx(math.nan, nan_ok=True),
        "incomplete: the case has no number area_mm2/C2-C3",
    )


@pytest.mark.parametrize(
    ("prediction", "reference", "csa", "error", "note"),
    [
        (NOTHING, LARGE, math.nan, DISC, "miss"),
        (only(LARGE, 0, 12), LARGE, math.nan, DISC, "miss"),  # nothing of C2
        (NOTHING, NOTHING, math.nan, math.nan, "empty"),
        (LARGE, NOTHING, math.nan, DISC, "false positive"),
    ],
)
def test_what_is_not_there(prediction, reference, csa, error, note):
    found = pair(prediction, reference)
    assert value(Csa(), found) == (pytest.approx(csa, nan_ok=True), note)
    assert value(CsaAbsoluteError(), found) == (pytest.approx(error, rel=2e-3, nan_ok=True), note)


@pytest.mark.parametrize(
    ("at", "more", "why"),
    [
        (("C4",), {}, "no slices of C4"),
        (("C2", "C4"), {}, "no slices of C4"),
        (("C3",), {"annotations": {}}, "the case has no levels or discs"),
    ],
)
def test_a_case_without_levels_is_incomplete(at, more, why):
    found = pair(LARGE, SMALL, at, **more)
    for metric in (Csa(), CsaAbsoluteError()):
        assert value(metric, found) == (pytest.approx(math.nan, nan_ok=True), f"incomplete: {why}")


def test_too_few_slices():
    short = pair(LARGE, SMALL, ("C3",))
    assert value(Csa(min_slices=8), short)[1] == "incomplete: 7 slices, 8 needed"
    one = only(LARGE, 9, 10)
    assert value(Csa(), pair(one, one, ("C3",)))[1] == "incomplete: too few slices for a direction"
    assert value(Csa(), pair(one, LARGE, ("C3",)))[1] == "miss"


def test_slices_that_are_not_annotated_do_not_count():
    validity = np.ones(GRID.shape, dtype=bool)
    validity[:, :, 15:] = False
    spoilt = LARGE.copy()
    spoilt[:, :, 15:] = 1  # where nothing is known
    found = pair(spoilt, LARGE, ("C3",), validity=validity)
    assert value(CsaAbsoluteError(), found) == (pytest.approx(0, abs=0.1), "")


def test_the_literal_area_is_marked_and_stretches():
    assert CsaLiteralSct.literal
    half = 0.4 * LARGE
    assert value(CsaLiteralSct(mask="soft"), pair(half, LARGE))[0] == pytest.approx(DISC, rel=3e-3)
    assert value(CsaLiteralSct(), pair(half, LARGE)) == (pytest.approx(math.nan, nan_ok=True), "miss")
    assert value(CsaLiteralSct(), pair(LARGE, LARGE, ()))[0] == pytest.approx(DISC, rel=0.01)
    assert value(CsaLiteralSct(), pair(LARGE, LARGE, ("C4",)))[1] == "incomplete: no slices of C4"
    assert (
        value(CsaLiteralSct(), pair(LARGE, LARGE, annotations={}))[1] == "incomplete: the case has no levels"
    )


def rows_of(areas, person="sub-1", metric="csa", notes=None):
    return [
        Row(
            case=f"{person}_{contrast}",
            person=person,
            contrast=contrast,
            domain="",
            structure="cord",
            metric=metric,
            value=area,
            unit="mm2",
            direction="none",
            worst=math.nan,
            note=(notes or {}).get(contrast, ""),
        )
        for contrast, area in areas.items()
    ]


def spread(rows, metric=None):
    return {row.person: (row.value, row.note) for row in person_rows(rows, [metric or CsaStd()])}


def test_the_spread_over_contrasts():
    nan = pytest.approx(math.nan, nan_ok=True)
    pairs = rows_of({"T1w": 74.0, "T2w": 76.0})
    assert spread(pairs) == {"sub-1": (pytest.approx(math.sqrt(2)), "")}
    assert spread(rows_of({"T1w": 75.0, "T2w": 75.0})) == {"sub-1": (0.0, "")}
    # Every contrast of the table must be there and finite.
    other = rows_of({"T1w": 70.0, "T2w": math.nan}, "sub-2", notes={"T2w": "incomplete: no slices of C2"})
    third = rows_of({"T1w": 71.0}, "sub-3")
    assert spread(pairs + other + third) == {
        "sub-1": (pytest.approx(math.sqrt(2)), ""),
        "sub-2": (nan, "incomplete: 1 of 2 contrasts"),
        "sub-3": (nan, "incomplete: 1 of 2 contrasts"),
    }
    assert spread(rows_of({"T1w": 70.0})) == {"sub-1": (nan, "incomplete: one contrast has no spread")}
    named = CsaStd(contrasts=("T1w", "T2w", "DWI"))
    assert spread(pairs, named) == {"sub-1": (nan, "incomplete: 2 of 3 contrasts")}
    assert spread(pairs, CsaStd(contrasts=("T2w", "T1w")))["sub-1"][0] == pytest.approx(math.sqrt(2))


def test_sessions_of_a_contrast_are_averaged_first():
    twice = rows_of({"T1w": 74.0, "T2w": 76.0}) + [
        replace(row, case=f"{row.case}_2") for row in rows_of({"T1w": 76.0, "T2w": 80.0})
    ]
    assert spread(twice)["sub-1"][0] == pytest.approx(np.std([75, 78], ddof=1))


def test_a_miss_never_improves_the_spread():
    good = rows_of({"T1w": 70.0, "T2w": 76.0}) + rows_of({"T1w": 74.0, "T2w": 75.0}, "sub-2")
    missed = [replace(row, value=math.nan, note="miss") if row.case == "sub-1_T2w" else row for row in good]
    (before,) = summarise(person_rows(good, [CsaStd()]))
    (after,) = summarise(person_rows(missed, [CsaStd()]))
    assert after.misses == 1
    assert after.with_worst > before.with_worst


def test_deleting_predictions_never_improves_the_error():
    metric = CsaAbsoluteError()
    kept = [value(metric, pair(SMALL, LARGE)), value(metric, pair(LARGE, LARGE))]
    deleted = [value(metric, pair(NOTHING, LARGE)), kept[1]]
    assert np.mean([v for v, _ in deleted]) > np.mean([v for v, _ in kept])


def test_through_the_table_as_an_experiment_makes_it():
    index = (LARGE > 0.5).astype(np.uint8)[None]
    rows = []
    metrics = with_needed([CsaStd(), CsaAbsoluteError()])
    assert [m.key() for m in metrics] == ["csa_std", "csa_abs_error", "csa"]
    for contrast, prediction in (("T1w", LARGE), ("T2w", SMALL)):
        reference = Reference(
            f"sub-1_{contrast}",
            index,
            GRID,
            person="sub-1",
            contrast=contrast,
            annotations={"levels": LEVELS},
        )
        found = [m for m in metrics if m.level == "case"]
        rows += score_case(
            prediction[None], GRID, reference, LabelSet.of({"cord": 1}), found, at_levels=("C2", "C3")
        )
    (std,) = person_rows(rows, metrics)
    assert (std.metric, std.unit, std.case) == ("csa_std", "mm2", "")
    assert std.value == pytest.approx(np.pi * 9 / math.sqrt(2), rel=5e-3)
    units = {row.metric: (row.unit, row.direction) for row in rows}
    assert units == {"csa": ("mm2", "none"), "csa_abs_error": ("mm2", "lower")}


def test_the_metrics_are_installed_and_light():
    assert {Metric.resolve(f"eval.{n}").key() for n in ("csa", "csa_abs_error", "csa_std")} == {
        "csa",
        "csa_abs_error",
        "csa_std",
    }
    code = (
        "import sys; import mriad_eval.csa_metrics, mriad_eval.reports, mriad_eval.measure;"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
