"""What figures draw: all values, failures at their worst, the numbers of the tables; and the axis that shows them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from figure_tables import by_hand, phantom_table
from hypothesis import given
from hypothesis import strategies as st
from mriad.errors import DataError
from mriad_eval.comparison import Question, TrialTable, compare
from mriad_eval.comparison.render import figures_cells
from mriad_eval.figures.points import matched, points_of, same_slot, text_of
from mriad_eval.figures.value_axis import ValueAxis

SMALL = phantom_table(persons=6, contrasts=("T1w", "T2w"), structures=("cord",), misses=False)


@pytest.fixture(scope="module")
def table() -> TrialTable:
    return phantom_table(contrasts=("DWI", "T1w", "T2w"))


class TestPoints:
    def test_no_row_is_lost(self, table: TrialTable) -> None:
        for metric in ("dice", "assd", "csa"):
            found = points_of(table, metric)
            rows = [r for t in table.trials for r in t.rows if r.metric == metric]
            assert len(found.points) + found.left_out == len(rows)
            assert found.left_out == 0
            assert sum(p.failure == "miss" for p in found.points) == sum(r.note == "miss" for r in rows) == 6

    def test_a_miss_stands_at_its_worst(self, table: TrialTable) -> None:
        assert {p.value for p in points_of(table, "assd").points if p.failure} == {70.0}
        assert {p.value for p in points_of(table, "dice").points if p.failure} == {0.0}

    def test_a_value_that_one_trial_lacks_is_a_failure(self) -> None:
        first, *rest = SMALL.trials
        at = next(i for i, r in enumerate(first.rows) if r.metric == "assd")
        rows = list(first.rows)
        rows[at] = replace(rows[at], value=math.nan, note="incomplete: no surface")
        found = points_of(replace(SMALL, trials=(replace(first, rows=tuple(rows)), *rest)), "assd")
        (bad,) = [p for p in found.points if p.failure]
        assert (bad.failure, bad.value) == ("undefined", 70.0)
        assert "1 undefined in all" in found.counts()

    def test_nothing_to_find_is_left_out_and_said(self) -> None:
        def emptied(row):
            empty = row.metric == "assd" and row.case == "p00_T1w"
            return replace(row, value=math.nan, note="empty") if empty else row

        trials = tuple(replace(t, rows=tuple(map(emptied, t.rows))) for t in SMALL.trials)
        found = points_of(replace(SMALL, trials=trials), "assd")
        assert found.left_out == len(trials)
        assert f"{len(trials)} without a value, not drawn" in found.counts()

    def test_numbers_are_the_tables(self, table: TrialTable) -> None:
        result = compare(table, Question("dice/cord", "hard_all", ("assd/cord", "rve/cord")))
        _, cells = figures_cells(result)
        for metric in ("dice/cord", "assd/cord", "rve/cord"):
            for variant, numbers in points_of(table, metric).numbers().items():
                row = next(c for c in cells if c[0].split(" ")[0] == metric and c[1] == variant)
                text = text_of(numbers)
                assert text.split("\n")[0] == row[2]
                assert f"n {row[3]}, {row[4]} miss" in text

    def test_numbers_by_hand(self, table: TrialTable) -> None:
        for contrast in ("DWI", "T2w"):
            numbers = points_of(table, "assd/cord").numbers("contrast", contrast)["hard_all"]
            mean, sd = by_hand(table, "hard_all", "assd", structure="cord", contrast=contrast)
            assert numbers.mean == pytest.approx(mean)
            assert numbers.sd == pytest.approx(sd)
        assert numbers.n == 11  # one person was missed by both seeds
        assert (numbers.total, numbers.misses) == (12, 2)

    def test_seeds_are_paired_by_name_and_fixed_models_with_all(self, table: TrialTable) -> None:
        found = points_of(table, "dice/cord")
        a, b = found.of("soft_all"), found.of("hard_all")
        assert len(matched(a, b, same_slot)) == 72
        fixed = [replace(p, seed="") for p in b if p.seed == "0"]
        assert len(matched(a, fixed, same_slot)) == 72
        other = [replace(p, seed=str(int(p.seed) + 100)) for p in b]
        assert len(matched(a, other, same_slot)) == 72

    def test_a_metric_that_no_case_has(self, table: TrialTable) -> None:
        with pytest.raises(DataError, match=r"(?s)no case has the metric 'hd95'.*assd.*dice"):
            points_of(table, "hd95")

    def test_several_references(self) -> None:
        trials = tuple(
            replace(t, rows=(*t.rows, *(replace(r, reference="soft") for r in t.rows))) for t in SMALL.trials
        )
        table = replace(SMALL, trials=trials)
        assert points_of(table, "dice").measure.reference == "truth"
        assert points_of(table, "dice", "soft").measure.reference == "soft"
        assert points_of(table, "csa").measure.reference == "truth"
        other = tuple(
            replace(t, rows=tuple(replace(r, reference=r.reference.replace("truth", "own")) for r in t.rows))
            for t in trials
        )
        for metric in ("csa", "dice"):
            with pytest.raises(DataError, match=r"(?s)several references.*own"):
                points_of(replace(SMALL, trials=other), metric)


class TestAxis:
    def test_a_far_worst_value_has_a_strip(self) -> None:
        axis = ValueAxis.of([0.2, 0.9], [70.0])
        assert axis.above == "worst\n70"
        assert axis.holds(0.9)
        assert not axis.holds(70.0)
        assert axis.high < axis.place(70.0, failed=True) < axis.ends[1] < 1.2

    def test_a_near_one_is_to_scale(self) -> None:
        axis = ValueAxis.of([0.1, 0.9], [0.0])
        assert (axis.below, axis.above) == ("", "")
        assert axis.place(0.0, failed=True) == 0.0

    def test_both_sides(self) -> None:
        axis = ValueAxis.of([-1.0, 1.0], [-70.0, 68.0, 70.0])
        assert (axis.below, axis.above) == ("worst\n-70", "worst\n68 to 70")
        assert axis.place(-70.0, failed=True) < axis.low < axis.high < axis.place(68.0, failed=True)

    def test_nothing_but_failures(self) -> None:
        axis = ValueAxis.of([], [70.0, 70.0])
        assert axis.holds(70.0)

    @given(
        st.lists(st.floats(-100, 100), max_size=20),
        st.lists(st.floats(-100, 100), max_size=5),
    )
    def test_everything_is_seen(self, ordinary: list[float], failures: list[float]) -> None:
        axis = ValueAxis.of(ordinary, failures)
        start, stop = axis.ends
        assert start < stop
        assert all(start <= v <= stop for v in ordinary)
        assert all(start <= axis.place(v, failed=True) <= stop for v in failures)
        # A failure off the scale never lies among ordinary values.
        assert all(axis.holds(v) or not axis.holds(axis.place(v, failed=True)) for v in failures)
