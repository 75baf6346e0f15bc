"""`mriad evaluate` on what people hand in: other grids, scaled masks, other label sets; and its newer options."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import typer
from mriad.errors import DataError, MriadError
from mriad.evaluation import read_rows
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_eval.evaluate import evaluate
from mriad_eval.metric_names import metric_named
from mriad_eval.resample import onto_grid
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command()(evaluate)
GRID = Grid.of((20, 22, 12), np.diag([1, 1, 2, 1]))


def ball(grid: Grid, radius: float = 7) -> np.ndarray:
    """A ball in world space, centred in GRID."""
    places = np.stack(np.indices(grid.shape), axis=-1)
    return (np.linalg.norm(grid.world(places) - [9.5, 10.5, 11], axis=-1) < radius).astype(np.uint8)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)


def files(tmp_path: Path, predictions: dict[str, Any], form: Any = "labels", grid: Grid = GRID) -> list[str]:
    places = [tmp_path / "predictions", tmp_path / "labels"]
    for place in places:
        place.mkdir(exist_ok=True)
    for name, data in predictions.items():
        write_like(places[0] / f"{name}.nii.gz", data, grid, form, overwrite=True)
        write_like(places[1] / f"{name}.nii.gz", ball(GRID), GRID, "labels", overwrite=True)
    return [str(place) for place in places]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["--qc-cases", "0", *map(str, arguments)], env={"COLUMNS": "140"})
    if result.exception is not None and isinstance(result.exception, MriadError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def rows_of(folder: Path) -> dict[tuple[str, str], Any]:
    return {(r.case or r.person, r.metric): r for r in read_rows(folder / "cases.csv")}


def test_other_grids_are_refused_and_put_together_when_asked(tmp_path: Path) -> None:
    finer = Grid.of((44, 40, 30), [[0.5, 0, 0, -1], [0, 0.6, 0, -0.5], [0, 0, 0.9, -1], [0, 0, 0, 1]])
    places = files(tmp_path, {"sub-1": ball(finer)}, grid=finer)
    with pytest.raises(
        DataError, match=r"(?s)different grids.*axis 0: 44 instead of 20.*mriad evaluate --resample"
    ):
        run(*places, "--labels", "cord=1")
    run(*places, "--labels", "cord=1", "--resample", "--out", tmp_path / "out")
    assert rows_of(tmp_path / "out")["sub-1", "dice"].value > 0.95
    assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["resample"] is True


def test_resampling_finds_the_same_place() -> None:
    turned = Grid.of((22, 20, 12), [[0, -1, 0, 19], [1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(
        onto_grid(ball(turned)[None].astype(np.float32), turned, GRID)[0], ball(GRID)
    )
    soft = (0.7 * ball(turned)).astype(np.float32)
    np.testing.assert_allclose(onto_grid(soft[None], turned, GRID)[0], 0.7 * ball(GRID), atol=1e-6)
    shifted = Grid.of(GRID.shape, GRID.matrix + np.eye(4, k=3) * 0.5)
    found = onto_grid(soft.transpose(1, 0, 2)[None] * 0 + 0.5 * ball(GRID), shifted, GRID)
    assert set(np.unique(found)) == {0.0, 0.25, 0.5}  # half way between neighbours
    far = Grid.of(GRID.shape, GRID.matrix + np.eye(4, k=3) * 500)
    assert onto_grid(ball(GRID)[None].astype(np.float32), far, GRID).max() == 0


def test_0_to_255(tmp_path: Path) -> None:
    places = files(tmp_path, {"sub-1": 255 * ball(GRID)})
    with pytest.raises(
        DataError, match=r"(?s)soft or scaled\?.*sub-1.*values\s+0, 255.*saved as 0 and 255.*cord=255"
    ):
        run(*places, "--labels", "cord=1")
    ramp = np.linspace(0, 255, ball(GRID).size).reshape(GRID.shape).astype(np.uint8)
    files(tmp_path, {"sub-1": ramp})
    with pytest.raises(DataError, match=r"(?s)soft or scaled\?.*a soft map times 255.*scl_slope to 1/255"):
        run(*places, "--labels", "cord=1")
    files(tmp_path, {"sub-1": ramp.astype(np.float32)}, form="float32")
    with pytest.raises(DataError, match=r"soft or scaled\?"):
        run(*places, "--labels", "cord=1")


def test_soft_values_out_of_range(tmp_path: Path) -> None:
    places = files(tmp_path, {"sub-1": np.stack([1.3 * ball(GRID), 0 * ball(GRID)])}, form="float32")
    with pytest.raises(DataError, match=r"(?s)outside \[0, 1\].*0 to 1\.3"):
        run(*places, "--labels", "cord=1,csf=2")


def test_another_label_set(tmp_path: Path) -> None:
    places = files(tmp_path, {"sub-1": 4 * ball(GRID)})
    with pytest.raises(DataError, match=r"(?s)outside the label set.*values\s+4.*1 cord"):
        run(*places, "--labels", "cord=1")


def test_persons_have_rows_of_their_own(tmp_path: Path) -> None:
    places = files(
        tmp_path,
        {f"sub-1_{c}": ball(GRID, r) for c, r in [("T1w", 7), ("T2w", 6.5)]} | {"sub-2_T1w": ball(GRID)},
    )
    shown = run(*places, "--labels", "cord=1", "--metrics", "dice,volume_cv", "--out", tmp_path / "out")
    found = rows_of(tmp_path / "out")
    volumes = [found[f"sub-1_{c}", "volume"].value for c in ("T1w", "T2w")]
    assert volumes == [2.0 * ball(GRID, r).sum() for r in (7, 6.5)]
    cv = found["sub-1", "volume_cv"]
    assert cv.value == pytest.approx(100 * np.std(volumes, ddof=1) / np.mean(volumes))
    assert (cv.case, cv.contrast, cv.unit) == ("", "", "%")
    assert found["sub-2", "volume_cv"].note == "incomplete: 1 contrast"
    assert "3 cases of 2 persons" in shown
    assert "worst: sub-1_T2w" in shown


def test_parquet_beside_the_table(tmp_path: Path) -> None:
    places = files(tmp_path, {"sub-1": ball(GRID, 6), "sub-2": 0 * ball(GRID)})
    run(*places, "--labels", "cord=1", "--out", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "cases.parquet")
    rows = read_rows(tmp_path / "out" / "cases.csv")
    assert list(table.columns) == list(vars(rows[0]))
    assert table["value"].dtype == float
    np.testing.assert_array_equal(table["value"], [r.value for r in rows])
    assert table["note"].tolist() == [r.note for r in rows]


def test_empty_masks_by_policy(tmp_path: Path) -> None:
    places = files(tmp_path, {"sub-1": 0 * ball(GRID)})
    run(*places, "--labels", "cord=1", "--empty", "worst", "--out", tmp_path / "worst")
    assert rows_of(tmp_path / "worst")["sub-1", "assd"].value == pytest.approx(math.hypot(20, 22, 24))
    with pytest.raises(DataError, match="the prediction is empty"):
        run(*places, "--labels", "cord=1", "--empty", "error")
    with pytest.raises(DataError, match=r"(?s)--empty cannot be 'zero'.*exclude, worst, error"):
        run(*places, "--empty", "zero")


def test_metrics_with_settings() -> None:
    assert metric_named("hd95:form=pooled").key() == "hd95_pooled"
    assert metric_named("nsd:tolerance_mm=2.5").key() == "nsd_2.5mm"
    assert metric_named("slices:metric=eval.assd").key() == "assd_2d"
    with pytest.raises(
        DataError, match=r"(?s)no setting of the metric eval\.nsd.*tolerance.*its settings: tolerance_mm"
    ):
        metric_named("nsd:tolerance=2")
    with pytest.raises(DataError, match="NAME:FIELD=VALUE"):
        metric_named("nsd:2")


def test_predictions_named_after_scans_find_the_cases_of_a_manifest(tmp_path: Path) -> None:
    """`mriad predict` names its outputs after the files that it read; a table may call the cases otherwise."""
    lines = ["id,person,image:T2w,label:hard"]
    for person, radius in (("a", 7.0), ("b", 6.0)):
        write_like(tmp_path / person / f"sub-{person}_T2w.nii.gz", ball(GRID), GRID)
        write_like(tmp_path / person / "mask.nii.gz", ball(GRID), GRID, "labels")
        named = f"sub-{person}_T2w_label-cord_seg.nii.gz"
        write_like(tmp_path / "predictions" / named, ball(GRID, radius), GRID, "labels")
        lines.append(f"case-{person},{person},{person}/sub-{person}_T2w.nii.gz,{person}/mask.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.yaml").write_text("structures: {cord: 1}\n")
    given = (tmp_path / "predictions", "--manifest", tmp_path / "manifest.csv")
    run(*given, "--metrics", "dice", "--out", tmp_path / "out")
    found = rows_of(tmp_path / "out")
    assert set(found) == {("case-a", "dice"), ("case-b", "dice")}
    assert found["case-a", "dice"].value == 1.0
    assert 0.5 < found["case-b", "dice"].value < 0.95


def test_a_scan_name_that_two_cases_share_stands_for_neither(tmp_path: Path) -> None:
    lines = ["id,person,image:T2w,label:hard"]
    for person in "ab":
        write_like(tmp_path / person / "t2.nii.gz", ball(GRID), GRID)
        write_like(tmp_path / person / "mask.nii.gz", ball(GRID), GRID, "labels")
        lines.append(f"{person},{person},{person}/t2.nii.gz,{person}/mask.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.yaml").write_text("structures: {cord: 1}\n")
    write_like(tmp_path / "predictions" / "t2_label-cord_seg.nii.gz", ball(GRID), GRID, "labels")
    with pytest.raises(DataError, match=r"(?s)no prediction\s+a, b \(2\).*no reference\s+t2 \(1\)"):
        run(tmp_path / "predictions", "--manifest", tmp_path / "manifest.csv")
