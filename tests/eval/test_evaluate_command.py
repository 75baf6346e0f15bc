"""`mriad evaluate`: what is printed and written, and every way in which two folders do not fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
import typer
from mriad.errors import DataError, MriadError, PluginError, StorageError
from mriad.evaluation import read_rows, summarise
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_eval.evaluate import evaluate, metric_named, person_of
from mriad_eval.maps import parse_labels
from mriad_eval.pairing import case_of, structure_of
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
app.command()(evaluate)
GRID = Grid.of((10, 11, 6), np.diag([1, 1, 2, 1]))


def masks(shift: int = 0) -> np.ndarray:
    """Label values 1 (cord) and 2 (csf)."""
    out = np.zeros(GRID.shape, dtype=np.uint8)
    out[2 + shift : 5 + shift, 3:7, 1:5] = 1
    out[6:8, 3:7, 1:5] = 2
    return out


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases of two persons: perfect, shifted by a voxel, and with csf missed."""
    predictions, references = tmp_path / "predictions", tmp_path / "labels"
    for place in (predictions, references):
        place.mkdir()
    missed = masks()
    missed[missed == 2] = 0
    for name, prediction in {
        "sub-1_T1w": masks(),
        "sub-1_T2w": masks(1),
        "sub-2_T1w": missed,
    }.items():
        write_like(references / f"{name}_label-all_dseg.nii.gz", masks(), GRID, "labels")
        write_like(predictions / f"{name}_dseg.nii.gz", prediction, GRID, "labels")
    return predictions, references


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "120"})
    if result.exception is not None and isinstance(result.exception, MriadError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_scores_and_writes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*folders, "--labels", "cord=1,csf=2", "--out", tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "cases.csv")
    assert len(rows) == 3 * 2 * 3
    assert {row.person for row in rows} == {"sub-1", "sub-2"}
    by = {(r.case, r.structure, r.metric): r for r in rows}
    assert by["sub-1_T1w", "cord", "dice"].value == 1.0
    assert by["sub-1_T2w", "cord", "dice"].value == pytest.approx(2 / 3)
    assert by["sub-2_T1w", "csf", "assd"].note == "miss"
    for summary in summarise(rows):
        assert summary.text().split(" (")[0] in result.output  # what is printed is what is written
    assert "3 cases of 2 persons" in result.output
    assert "worst: sub-2_T1w: dice of csf 0.000 (miss)" in result.output
    assert result.output.splitlines()[-1].startswith("next: fsleyes ")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"]["structures"] == {"cord": 1, "csf": 2}
    assert [m["type"] for m in record["config"]["metrics"]] == ["eval.dice", "eval.assd", "eval.rve"]
    assert len(record["inputs"]) == 3
    assert all(len(digest) == 64 for digest in record["inputs"][0]["prediction"].values())
    assert "mriad" in record["versions"]
    assert [s["misses"] for s in record["summary"]] == [s.misses for s in summarise(rows)]


def test_default_place_and_names(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(*folders, "--metrics", "dice")
    (table,) = (tmp_path / "mriad-runs" / "evaluations").glob("predictions-*/cases.csv")
    assert {row.structure for row in read_rows(table)} == {"label-1", "label-2"}
    run(*folders, "--metrics", "dice")  # the same again is the same folder
    assert len(list((tmp_path / "mriad-runs" / "evaluations").iterdir())) == 1


def test_processes_give_the_same_rows(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(*folders, "--out", tmp_path / "a")
    run(*folders, "--out", tmp_path / "b", "--workers", 1)
    assert (tmp_path / "a" / "cases.csv").read_bytes() == (tmp_path / "b" / "cases.csv").read_bytes()


def test_another_evaluation_is_not_replaced(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(*folders, "--out", tmp_path / "out")
    with pytest.raises(StorageError, match=r"(?s)another evaluation.*--out"):
        run(*folders, "--metrics", "dice", "--out", tmp_path / "out")


def test_missing_and_extra_cases_are_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, _ = folders
    (predictions / "sub-2_T1w_dseg.nii.gz").rename(predictions / "sub-9_T1w_dseg.nii.gz")
    with pytest.raises(
        DataError, match=r"(?s)no prediction\s+sub-2_T1w \(1\).*no reference\s+sub-9_T1w \(1\)"
    ):
        run(*folders)
    with pytest.raises(DataError, match=r"(?s)sub-2_T1w.*--count-missing"):
        run(*folders, "--skip-extra")
    result = run(*folders, "--skip-extra", "--count-missing", "--out", tmp_path / "out")
    rows = [r for r in read_rows(tmp_path / "out" / "cases.csv") if r.case == "sub-2_T1w"]
    assert {row.note for row in rows} == {"miss"}
    assert "3 cases" in result.output


def test_faults_of_all_cases_are_one_report(folders: tuple[Path, Path]) -> None:
    predictions, _ = folders
    moved = Grid.of(GRID.shape, GRID.matrix + np.eye(4, k=3) * 0.5)
    write_like(predictions / "sub-1_T1w_dseg.nii.gz", masks(), moved, "labels", overwrite=True)
    odd = masks()
    odd[0, 0, 0] = 7
    write_like(predictions / "sub-1_T2w_dseg.nii.gz", odd, GRID, "labels", overwrite=True)
    with pytest.raises(DataError) as caught:
        run(*folders)
    message = str(caught.value)
    assert "2 of 3 cases cannot be scored" in message
    assert "different grids" in message
    assert "+0.5 mm along world x" in message
    assert "values outside the label set" in message
    assert "values 7" in message
    (predictions / "sub-1_T2w_dseg.nii.gz").write_bytes(b"no image")
    (predictions / "sub-1_T1w_dseg.nii.gz").unlink()
    with pytest.raises(DataError, match=r"(?s)truncated or not a NIfTI.*case\s+sub-1_T2w"):
        run(*folders, "--count-missing")


def test_one_file_against_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    p = folders[0] / "sub-1_T2w_dseg.nii.gz"
    p.rename(tmp_path / "mine.nii.gz")
    result = run(tmp_path / "mine.nii.gz", folders[1] / "sub-1_T1w_label-all_dseg.nii.gz")
    assert "1 case of 1 person" in result.output


def test_soft_maps_one_a_structure(folders: tuple[Path, Path], tmp_path: Path) -> None:
    soft = tmp_path / "soft"
    soft.mkdir()
    for case in ("sub-1_T1w", "sub-1_T2w", "sub-2_T1w"):
        for value, name in [(1, "cord"), (2, "csf")]:
            half = 0.75 * (masks() == value)
            write_like(soft / f"{case}_label-{name}_probseg.nii.gz", half, GRID, "float32")
    run(
        soft, folders[1], "--labels", "cord=1,csf=2", "--metrics", "dice,soft_dice", "--out", tmp_path / "out"
    )
    values = {row.metric: row.value for row in read_rows(tmp_path / "out" / "cases.csv")}
    assert values == {"dice": 1.0, "soft_dice": pytest.approx(2 * 0.75 / 1.75)}
    write_like(soft / "sub-1_T1w_label-cord_seg.nii.gz", masks() == 1, GRID, "labels")
    with pytest.raises(DataError, match=r"(?s)several files stand for one case.*--pattern"):
        run(soft, folders[1], "--labels", "cord=1,csf=2")
    run(soft, folders[1], "--labels", "cord=1,csf=2", "--pattern", "*probseg*")


def test_stacked_soft_maps(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """As `core.evaluate` keeps its predictions: one 4D file, 1/255 steps."""
    kept = tmp_path / "kept"
    kept.mkdir()
    for case in ("sub-1_T1w", "sub-1_T2w", "sub-2_T1w"):
        channels = np.stack([masks() == 1, masks() == 2]).astype(np.float32)
        write_like(kept / f"{case}.nii.gz", channels, GRID, "uint8_scaled")
    run(kept, folders[1], "--metrics", "dice", "--out", tmp_path / "out")
    assert {row.value for row in read_rows(tmp_path / "out" / "cases.csv")} == {1.0}


def test_references_of_a_manifest(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, references = folders
    lines = ["id,person,contrast,label:hard,label:other"]
    for person, contrast in [("1", "T1w"), ("1", "T2w"), ("2", "T1w")]:
        name = f"sub-{person}_{contrast}"
        file = references / f"{name}_label-all_dseg.nii.gz"
        lines.append(f"{name},p{person},{contrast},{file},{file}")
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join(lines) + "\n")
    (tmp_path / "labels.yaml").write_text("structures:\n  cord: 1\n  csf: 2\n")
    with pytest.raises(DataError, match=r"(?s)which label.*hard, other.*--reference hard"):
        run(predictions, "--manifest", table)
    with pytest.raises(DataError, match="no case of the manifest has the label 'soft'"):
        run(predictions, "--manifest", table, "--reference", "soft")
    run(predictions, "--manifest", table, "--reference", "hard", "--out", tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "cases.csv")
    assert {(r.person, r.contrast) for r in rows} == {("p1", "T1w"), ("p1", "T2w"), ("p2", "T1w")}
    assert {(r.structure, r.reference) for r in rows} == {("cord", "hard"), ("csf", "hard")}


def test_nothing_there(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no predictions here.*absent"):
        run(tmp_path / "absent", folders[1])
    with pytest.raises(DataError, match=r"(?s)no references here.*\*probseg\*"):
        run(*folders, "--reference-pattern", "*probseg*")
    with pytest.raises(DataError, match="either as a folder or as a manifest"):
        run(folders[0])
    empty = tmp_path / "empty"
    empty.mkdir()
    write_like(empty / "a.nii.gz", np.zeros(GRID.shape), GRID, "labels")
    with pytest.raises(DataError, match=r"(?s)no reference holds a structure.*--labels"):
        run(folders[0], empty)
    write_like(empty / "b.nii.gz", np.full(GRID.shape, 0.5), GRID, "float32")
    with pytest.raises(DataError, match=r"(?s)do not name their structures.*--labels"):
        run(folders[0], empty)


def test_names_of_metrics() -> None:
    assert metric_named("dice") == metric_named("eval.dice")
    with pytest.raises(PluginError, match=r"did you mean 'eval\.dice'"):
        metric_named("dyce")


@pytest.mark.parametrize("text", ["cord", "cord=", "=1", "cord=x", "cord=1,cord=2", "cord=1,"])
def test_structures_that_cannot_be_read(text: str) -> None:
    with pytest.raises(DataError, match=r"(?s)structures cannot be read.*NAME=VALUE"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("sub-1_T2w_label-cord_seg.nii.gz", "sub-1_T2w"),
        ("sub-1_T2w_space-orig_desc-x_dseg.nii", "sub-1_T2w"),
        ("hippocampus_003.nii.gz", "hippocampus_003"),
        ("scan_pred.nii.gz", "scan"),
        ("seg.nii.gz", "seg"),
    ],
)
def test_case_in_a_file_name(name: str, case: str, tmp_path: Path) -> None:
    assert case_of(name) == case
    assert structure_of(tmp_path / name) == ("cord" if "cord" in name else "")


def test_person_in_a_case_name() -> None:
    assert (person_of("sub-1_ses-2_T1w"), person_of("scan_1")) == ("sub-1", "scan_1")


def test_summary_is_the_table_that_is_tracked(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(*folders, "--out", tmp_path / "out", "--metrics", "rve")
    rows = read_rows(tmp_path / "out" / "cases.csv")
    kept = json.loads((tmp_path / "out" / "run.json").read_text())["summary"]
    assert kept == [{k: None if v != v else v for k, v in asdict(s).items()} for s in summarise(rows)]
