"""`mriad compare`: run folders in, tables and a verdict out, and every way in which they do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import typer
from comparison_tables import as_assd, table
from mriad.case_table import write_rows
from mriad.errors import DataError, ExperimentError, MriadError, StorageError
from mriad.interfaces import Comparison
from mriad_eval.compare_command import compare
from mriad_eval.comparison_config import CompareVariants
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
app.command()(compare)
PHANTOM = {"type": "data.phantom_spine", "persons": 12}


def write_run(folder: Path, trial, *, study: str = "", dataset=PHANTOM, **content) -> Path:
    """The record that a run leaves behind."""
    folder.mkdir(parents=True)
    record = {
        "id": folder.name,
        "name": trial.variant,
        "kind": "trial" if study else "run",
        "study": study or trial.variant,
        "parent": {"id": study, "name": study, "kind": "ablation"} if study else None,
        "status": trial.status,
        "error": {"message": trial.error} if trial.error else None,
        "tags": {"variant": trial.variant, "fold": trial.fold, "seed": trial.seed},
        "launch": {"launcher": "inline", "workers": 1, "gpus": 0.0},
        "data": {},
        "compute": {"steps": 100.0, "seconds": 36.0, "peak_memory_bytes": 2**30},
        "experiment": {"data": {"dataset": dataset}},
        **content,
    }
    (folder / "run.json").write_text(json.dumps(record))
    if trial.rows:
        write_rows(folder / "cases.csv", trial.rows)
    return folder


def write_study(root: Path, trials, study: str = "") -> list[Path]:
    return [write_run(root / "runs" / t.name, t, study=study) for t in trials.trials]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mriad-runs"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})
    if result.exception is not None and isinstance(result.exception, MriadError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_prints_and_writes(root: Path, tmp_path: Path) -> None:
    folders = write_study(root, table({"hard": 0.0, "soft": 0.05}, folds=3, also=[as_assd]))
    result = run(
        *folders, "--primary", "dice", "--reference", "hard", "--tests", "paired_t", "--out", tmp_path / "out"
    )
    text = (tmp_path / "out" / "comparison.md").read_text()
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    (verdict,) = content["verdicts"]
    assert verdict["text"] in text
    assert verdict["text"] in result.output
    assert verdict["text"].endswith("12 persons × 3 seeds, phantom (E2)")
    assert "soft" in verdict["text"]
    assert "0.90 h" not in result.output
    assert "0.09 h" in result.output  # nine trials of 36 s each variant
    assert "note: training: hard 0.01 h a trial; soft 0.01 h a trial" in result.output
    assert "budgets" not in result.output
    assert "paired t" in result.output
    assert (tmp_path / "out" / "comparison.tex").read_text().count(r"\\") == 3
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 5
    assert result.output.splitlines()[-1].startswith("next: mriad ui")


def test_an_ablation_by_folder_study_or_name(root: Path) -> None:
    write_study(root, table({"hard": 0.0, "soft": 0.05}), study="mine")
    parent = root / "runs" / "mine-0"
    parent.mkdir()
    (parent / "run.json").write_text(
        json.dumps({"id": "mine", "kind": "ablation", "name": "mine", "study": "mine"})
    )
    outputs = [
        run(*given, "--out", f"out{i}").output
        for i, given in enumerate([(parent,), ("mine",), (root / "runs",)])
    ]
    for output in outputs:
        assert "soft 0.047 higher (better) than hard" in output
        assert "the primary metric was not named, so that the first was taken: dice" in output


def test_names_make_variants(root: Path) -> None:
    folders = write_study(root, table({"run": 0.0, "other": 0.05}))
    pairs = [f"{'new' if 'other' in f.name else 'old'}={f}" for f in folders]
    result = run(*pairs, "--primary", "dice")
    assert "new 0.0" in result.output
    assert "than old [" in result.output
    assert list((root / "comparisons").glob("*/comparison.md"))


def test_two_studies_with_one_variant_name(root: Path) -> None:
    first, second = table({"soft": 0.0}), table({"soft": 0.05})
    for study, trials in (("spring", first), ("autumn", second)):
        for t in trials.trials:
            write_run(root / "runs" / f"{study}-{t.name}", t, study=study)
    result = run("spring", "autumn", "--primary", "dice")
    assert "autumn:soft" in result.output
    assert "spring:soft" in result.output


def test_studies_whose_test_cases_differ(root: Path) -> None:
    folders = write_study(root, table({"a": 0.0}, n=6)) + write_study(root, table({"b": 0.0}, n=8))
    with pytest.raises(DataError, match=r"(?s)test cases differ.*p06_T1w, p07_T1w \(2\)"):
        run(*folders)


def test_the_same_names_for_other_voxels(root: Path) -> None:
    a, b = table({"a": 0.0}, seeds=1), table({"b": 0.0}, seeds=1)
    first = write_run(root / "runs" / "a", a.trials[0], data={"voxels": {"p00_T1w": "1"}})
    second = write_run(root / "runs" / "b", b.trials[0], data={"voxels": {"p00_T1w": "2"}})
    with pytest.raises(DataError, match=r"(?s)same case names stand for other images.*p00_T1w.*same data"):
        run(first, second)


def test_copies_are_flagged_by_their_voxels(root: Path) -> None:
    trials = table({"a": 0.0, "b": 0.05}, n=10)
    voxels = {f"p{i:02d}_T1w": "one" if i < 4 else str(i) for i in range(10)}
    folders = [write_run(root / "runs" / t.name, t, data={"voxels": voxels}) for t in trials.trials]
    result = run(*folders)
    assert "7 persons × 3 seeds" in result.output
    assert "one person stands under 4 names" in result.output
    assert "the same person: p03 = p00" in result.output


def test_failed_runs_are_named(root: Path) -> None:
    trials = table({"a": 0.0, "b": 0.05})
    broken = [
        replace(t, rows=(), status="failed", error="out of memory\nmore") if t.name == "b-0-1" else t
        for t in trials.trials
    ]
    folders = [write_run(root / "runs" / t.name, t) for t in broken]
    result = run(*folders)
    assert "12 persons × 2 seeds, phantom (E2); missing: b fold 0 seed 1 (failed)" in result.output
    assert "next: mriad resume RUN" in result.output
    with pytest.raises(DataError, match=r"(?s)reference 'c' is not among the variants.*a, b"):
        run(*folders, "--reference", "c")
    for folder in folders:
        if folder.name.startswith("a"):
            (folder / "cases.csv").unlink()
    with pytest.raises(DataError, match=r"(?s)reference 'a' has no finished trial.*nothing was evaluated"):
        run(*folders, "--reference", "a")


def test_evaluations_of_predictions_made_elsewhere(root: Path) -> None:
    """What `mriad evaluate` writes: fixed models, without fold and seed."""
    trials = table({"mine": 0.0, "theirs": 0.05}, seeds=1)
    inputs = [{"case": "p00_T1w", "reference": {"a.nii.gz": "f00d"}}]
    folders = [
        write_run(
            root / "evaluations" / t.variant,
            t,
            kind="evaluate",
            tags={},
            name=None,
            inputs=inputs,
            experiment={},
        )
        for t in trials.trials
    ]
    result = run(*folders, "--primary", "dice")
    assert "12 persons, fixed models, data not named (evidence level unknown)" in result.output
    assert "one seed" in result.output
    other = json.loads((folders[1] / "run.json").read_text())
    other["inputs"][0]["reference"] = {"a.nii.gz": "beef"}
    (folders[1] / "run.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match=r"(?s)same case names stand for other references.*same references"):
        run(*folders)


def test_unequal_budgets_are_said(root: Path) -> None:
    folders = [
        write_run(root / "runs" / t.name, t, compute={"steps": 100.0 if t.variant == "a" else 300.0})
        for t in table({"a": 0.0, "b": 0.05}).trials
    ]
    assert "the budgets are not equal, optimiser steps a trial: a 100, b 300" in run(*folders).output


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": "12", "b": "12"}, "tuning trials in each fold: a 12, b 12\n"),
        (
            {"a": "12"},
            "tuning trials in each fold: a 12, b 0; they are not equal, so a difference may come from",
        ),
        ({}, ""),
    ],
)
def test_trainings_of_searches_are_counted(root: Path, counts: dict[str, str], expected: str) -> None:
    """EVIDENCE.md section 4: equal budget means equal numbers of tuning trials too."""
    folders = [
        write_run(
            root / "runs" / t.name,
            t,
            tags={"variant": t.variant, "fold": t.fold, "seed": t.seed}
            | ({"tuning_trials": counts[t.variant]} if t.variant in counts else {}),
        )
        for t in table({"a": 0.0, "b": 0.05}).trials
    ]
    said = run(*folders).output
    assert expected in said
    assert ("tuning trials in each fold" in said) == bool(counts)


def test_gpu_hours_stand_beside_the_quality(root: Path) -> None:
    """Seconds × workers × GPUs of each, in the table of costs and in the verdict's notes."""
    launch = {"launcher": "ray", "workers": 2, "gpus": 0.5}
    trials = table({"a": 0.0, "b": 0.05}, seeds=1).trials
    folders = [
        write_run(root / "runs" / t.name, t, compute={"steps": 100.0, "seconds": 7200.0}, launch=launch)
        for t in trials
    ]
    hours = 2.0 * len([t for t in trials if t.variant == "a"])
    assert f"a 2.00 h a trial, {hours:.2f} GPU hours" in run(*folders).output


def test_real_data_is_level_3(root: Path) -> None:
    trials = table({"a": 0.0, "b": 0.05})
    real = {"type": "data.manifest", "path": "/data/hippocampus"}
    folders = [write_run(root / "runs" / t.name, t, dataset=real) for t in trials.trials]
    assert "12 persons × 3 seeds, hippocampus (E3)" in run(*folders).output


def test_nothing_there(root: Path, tmp_path: Path) -> None:
    write_study(root, table({"a": 0.0}), study="mine")
    with pytest.raises(
        DataError, match=r"(?s)no run to compare: yours.*studies there\s+mine.*mriad runs list"
    ):
        run("yours")
    with pytest.raises(DataError, match="no run to compare"):
        run(tmp_path)
    with pytest.raises(DataError, match=r"(?s)a run cannot be read.*NAME=RUNFOLDER"):
        run("=runs/x")
    with pytest.raises(DataError, match="two variants with values"):
        run("mine")
    write_study(root, table({"b": 0.0}), study="mine")
    with pytest.raises(DataError, match=r"(?s)no case has the metric 'hd95'"):
        run("mine", "--primary", "hd95")


def test_another_comparison_is_not_replaced(root: Path, tmp_path: Path) -> None:
    folders = write_study(root, table({"a": 0.0, "b": 0.05}, also=[as_assd]))
    run(*folders, "--primary", "dice", "--out", tmp_path / "out")
    run(*folders, "--primary", "dice", "--out", tmp_path / "out")  # the same again
    with pytest.raises(StorageError, match=r"(?s)another comparison.*--out"):
        run(*folders, "--primary", "assd", "--out", tmp_path / "out")


def test_the_section_of_an_ablation() -> None:
    written = {
        "type": "eval.comparison",
        "primary": "csa_abs_error",
        "reference": "soft_all/loss.loss.omega=8",
        "metrics": ["csa_std", "dice", "dice/cord"],
        "unit": "person",
        "tests": [
            "wilcoxon_bonferroni",
            {"anova_rm": {"factor": "contrast", "within": "variant", "greenhouse_geisser": True}},
        ],
    }
    asked = Comparison.resolve(written)
    assert isinstance(asked, CompareVariants)
    assert asked.tests == ["wilcoxon_bonferroni", "anova_rm"]
    assert asked.needs() == ("csa_abs_error", "csa_std", "dice")
    asked.check(["soft_all/loss.loss.omega=8", "hard_all"])
    with pytest.raises(
        ExperimentError, match=r"(?s)reference is no variant.*soft_all/loss\.loss\.omega=8.*hard_all"
    ):
        asked.check(["soft_all", "hard_all"])
    with pytest.raises(ExperimentError, match="one variant cannot be compared"):
        CompareVariants().check(["alone"])
    for tests in (["wilcoxon_holm", "wilcoxon_bonferroni"], [{"anova_rm": {"factor": "seed"}}], ["t"]):
        with pytest.raises(ValueError, match=r"one correction|one form|Input should be"):
            CompareVariants(tests=tests)


def test_the_conclusion_of_an_ablation(root: Path, tmp_path: Path) -> None:
    from mriad.ablation.study import Study, StudyTrial

    trials = table({"hard": 0.0, "soft": 0.05}, folds=2)
    folders = {
        t.name: write_run(root / "runs" / t.name, t, study="mine")
        for t in trials.trials
        if t.name != "soft-1-2"
    }
    planned = [
        StudyTrial(
            t.name, t.variant, int(t.fold), int(t.seed), folders.get(t.name, root / "runs" / "nothing")
        )
        for t in trials.trials
    ]
    lines = CompareVariants(primary="dice", reference="hard").conclude(
        Study("mine", planned, generated=True), tmp_path
    )
    assert lines[0].startswith("dice against truth: soft 0.0")
    assert lines[0].endswith("12 persons × 2 seeds, phantom (E2); missing: soft fold 1 seed 2 (absent)")
    assert any(line.startswith("note: two seeds say little") for line in lines)
    assert (tmp_path / "comparison.json").exists()
