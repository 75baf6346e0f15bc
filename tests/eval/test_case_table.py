"""The tidy table: written whole, read back exactly, summarised so that a miss never helps."""

from __future__ import annotations

import math
import resource
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mriad.case_table import COLUMNS, Row, read_rows, summarise, write_rows
from mriad.errors import DataError, StorageError
from mriad.evaluation import Reference, score_case
from mriad.geometry import Grid
from mriad.vocabulary import LabelSet
from mriad_eval.metrics import (
    AbsoluteVolumeError,
    AverageSurfaceDistance,
    AverageSymmetricSurfaceDistance,
    Dice,
    HausdorffDistance,
    HausdorffPercentile,
    Precision,
    RelativeVolumeError,
    Sensitivity,
    SoftDice,
    Specificity,
    SurfaceDice,
)
from mriad_eval.metrics_lesion import LesionF1, LesionPredictiveValue, LesionSensitivity
from mriad_eval.metrics_soft import CalibrationError

if TYPE_CHECKING:
    from pathlib import Path


def row(value: float, note: str = "", case: str = "a", **changes: object) -> Row:
    base = Row(case, case, "T1w", "", "cord", "dice", value, "1", "higher", 0.0, note)
    return replace(base, **changes)  # type: ignore[arg-type]


def distance(value: float, note: str = "", case: str = "a") -> Row:
    return row(value, note, case, metric="asd", unit="mm", direction="lower", worst=200.0)


def test_written_and_read_back_to_the_last_digit(tmp_path: Path) -> None:
    rows = [
        row(0.1 + 0.2, case='scan, "one"\nof two', reference="truth"),
        distance(math.nan, "miss"),
        row(12.5, metric="rve", unit="%", direction="toward 0", worst=-100.0),
        row(0.5, part="12"),
        row(
            math.nan,
            "incomplete: 2 slices at C2, C3",
            case="",
            metric="csa",
            direction="none",
            worst=math.nan,
        ),
    ]
    path = write_rows(tmp_path / "deep" / "cases.csv", rows)
    np.testing.assert_equal([vars(r) for r in read_rows(path)], [vars(r) for r in rows])
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [p.name for p in path.parent.iterdir()] == ["cases.csv"]


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"(?s)cannot write.*file/cases\.csv.*try "):
        write_rows(tmp_path / "file" / "cases.csv", [row(0.5)])


def test_a_full_disk_leaves_the_old_table(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "cases.csv", [row(0.5)])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            write_rows(path, [row(0.5, case=f"case {i}") for i in range(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["cases.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,value\na,1\n", r"lacks columns(?s:.*)missing\s+person"),
        (",".join(COLUMNS) + "\na,a,,,cord,dice,much,1,higher,0,,,\n", r"cases\.csv:2(?s:.*)'much'"),
        (",".join(COLUMNS) + "\na,a,,,cord,dice,1,1,higher,0,lost,,\n", r"cases\.csv:2(?s:.*)'lost'"),
        (",".join(COLUMNS) + "\na,a,,,cord,dice,1,1,higher,0,miss: 2,,\n", r"cases\.csv:2(?s:.*)'miss: 2'"),
        (",".join(COLUMNS) + "\na,a,,,cord,dice,1,1,sideways,0,,,\n", r"cases\.csv:2(?s:.*)'sideways'"),
        (",".join(COLUMNS) + "\na,a\n", r"cases\.csv:2"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_rows(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / "absent.csv")


def test_summary_of_an_overlap() -> None:
    rows = [row(0.9), row(0.7, case="b"), row(0.0, "miss", "c"), row(math.nan, "empty", "d")]
    (s,) = summarise(rows)
    assert (s.n, s.total, s.persons, s.misses, s.empty) == (3, 3, 4, 1, 1)
    assert s.mean == pytest.approx(1.6 / 3)
    assert s.sd == pytest.approx(np.std([0.9, 0.7, 0.0], ddof=1))
    assert s.with_worst == s.mean
    assert s.text(2) == "0.53 ± 0.47 (n 3/3, 1 miss)"


def test_summary_of_a_distance_shows_both_means() -> None:
    rows = [distance(1.0), distance(3.0, case="b"), distance(math.nan, "miss", "c")]
    rows += [distance(math.nan, "false positive", "d"), distance(math.nan, "empty", "e")]
    (s,) = summarise(rows)
    assert (s.n, s.total, s.misses, s.false_positives, s.empty) == (2, 4, 1, 1, 1)
    assert (s.mean, s.with_worst) == (2.0, 101.0)
    assert s.text(1) == "2.0 ± 1.4 (n 2/4, 1 miss, 1 false positive)"


def test_summary_of_a_signed_error_counts_sizes() -> None:
    def rve(value: float, note: str = "") -> Row:
        return row(value, note, metric="rve", unit="%", direction="toward 0", worst=-100.0)

    (s,) = summarise([rve(20), rve(-20), rve(300), rve(-100, "miss"), rve(math.nan, "false positive")])
    assert s.mean == pytest.approx(50)  # signed: a bias
    assert s.with_worst == pytest.approx((20 + 20 + 100 + 100 + 100) / 5)


def test_what_is_incomplete_is_left_out_and_counted() -> None:
    rows = [row(0.8), row(math.nan, "incomplete: no levels", case="b")]
    assert math.isnan(rows[1].counted)
    (s,) = summarise(rows)
    assert (s.n, s.total, s.incomplete, s.with_worst) == (1, 2, 1, 0.8)
    assert s.text(1) == "0.8 (n 1/2, 0 misses, 1 incomplete)"


def test_nothing_defined_gives_no_number() -> None:
    (s,) = summarise([distance(math.nan, "miss")])
    assert math.isnan(s.mean)
    assert (s.n, s.with_worst) == (0, 200.0)
    assert s.text().startswith("– (n 0/1, 1 miss)")


def test_groups() -> None:
    rows = [row(0.5), row(0.7, contrast="T2w"), row(0.9, structure="csf"), row(0.1, reference="truth")]
    assert len(summarise(rows)) == 3
    assert [s.contrast for s in summarise(rows, per_contrast=True)] == ["T1w", "T2w", "T1w", "T1w"]
    assert summarise([]) == []


METRICS = [
    Dice(),
    SoftDice(),
    AverageSurfaceDistance(),
    AverageSymmetricSurfaceDistance(),
    RelativeVolumeError(),
    RelativeVolumeError(volume="soft"),
    AbsoluteVolumeError(),
    Sensitivity(),
    Specificity(),
    Precision(),
    HausdorffDistance(),
    HausdorffPercentile(),
    SurfaceDice(),
    LesionF1(larger_than_mm3=0),
    LesionSensitivity(larger_than_mm3=0),
    LesionPredictiveValue(larger_than_mm3=0),
    CalibrationError(),
]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=8, max_size=8), st.floats(0.02, 0.6))
def test_deleting_predictions_never_improves_an_aggregate(
    seed: int, deleted: list[bool], density: float
) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.of((4, 5, 3), np.diag([1, 1, 3, 1]))
    labels = LabelSet.of({"cord": 1})
    whole: list[Row] = []
    part: list[Row] = []
    for i, gone in enumerate(deleted):
        g = (rng.random((1, *grid.shape)) < density).astype(np.float32)
        g[0, 0, 0, 0] = 1  # something to find in every case
        p = np.where(rng.random(g.shape) < rng.random(), rng.random(g.shape), g).astype(np.float32)
        reference = Reference(f"case {i}", g, grid)
        whole += score_case(p, grid, reference, labels, METRICS)
        part += score_case(np.zeros_like(p) if gone else p, grid, reference, labels, METRICS)
    for before, after in zip(summarise(whole), summarise(part), strict=True):
        if before.direction == "higher":
            assert after.with_worst <= before.with_worst + 1e-12
        else:
            assert after.with_worst >= before.with_worst - 1e-12
        assert after.total == before.total == len(deleted)
        assert after.misses >= sum(deleted)
