"""`mriad report`: one HTML file of a study or of runs."""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING

import pytest
import typer
from figure_tables import phantom_table
from mriad.case_table import write_rows
from mriad.errors import DataError, MriadError, StorageError
from mriad_eval.report_command import report
from typer.testing import CliRunner

if TYPE_CHECKING:
    from pathlib import Path

    from mriad_eval.comparison import TrialTable

app = typer.Typer()
app.command()(report)
TABLE = phantom_table(persons=6, contrasts=("T1w",), structures=("cord",), misses=False)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MRIAD_RUNS", raising=False)
    return tmp_path / "mriad-runs"


def leave(root: Path, table: TrialTable, question: dict | None = None) -> list[Path]:
    """An ablation's folder and its trials' beside it; returns the trials'."""
    folders = []
    for t in table.trials:
        folder = root / "runs" / t.name
        folder.mkdir(parents=True)
        record = {
            "id": t.name,
            "name": t.variant,
            "kind": "trial",
            "study": "labels",
            "parent": {"id": "parent", "kind": "ablation"},
            "status": t.status,
            "tags": {"variant": t.variant, "fold": t.fold, "seed": t.seed},
        }
        (folder / "run.json").write_text(json.dumps(record))
        if t.rows:
            write_rows(folder / "cases.csv", t.rows)
        folders.append(folder)
    parent = root / "runs" / "labels-1a2b"
    (parent / "comparison").mkdir(parents=True)
    content = {"id": "parent", "name": "labels", "kind": "ablation", "study": "labels"}
    (parent / "run.json").write_text(json.dumps(content))
    if question is not None:
        (parent / "comparison" / "comparison.json").write_text(json.dumps({"question": question}))
    return folders


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, MriadError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_study_keeps_its_question(root: Path, tmp_path: Path) -> None:
    question = {
        "primary": "assd",
        "reference": "hard_all",
        "metrics": ["dice"],
        "against": "",
        "correction": "bonferroni",
        "alpha": 0.05,
        "tests": [],
    }
    leave(root, TABLE, question)
    output = run("labels", "--out", tmp_path / "labels.html")
    text = unescape((tmp_path / "labels.html").read_text())
    first = output.splitlines()[0]
    assert first.startswith("assd against truth: ")
    assert "about dice_ce and hard_all" in first
    for line in output.splitlines():
        if line.startswith(("written", "next")):
            break
        assert line.removeprefix("note: ") in text
    assert "Bonferroni" in text or "m = 2" in text
    assert text.count("data:image/svg+xml") >= 4
    assert "next: xdg-open" in output
    again = run("labels", "--out", tmp_path / "labels.html", "--primary", "dice")  # a report may be replaced
    assert again.startswith("dice against truth")


def test_run_folders_get_a_page_below_the_runs(root: Path) -> None:
    folders = leave(root, TABLE)
    output = run(*folders, "--primary", "dice", "--reference", "hard_all")
    (page,) = (root / "reports").glob("*.html")
    assert f"written: {page}" in output
    assert page.stem == f"{folders[0].name} and 5 more"
    assert "soft_all" in page.read_text()


def test_one_variant_alone_has_values_and_no_verdict(root: Path, tmp_path: Path) -> None:
    alone = replace(TABLE, trials=TABLE.trials[:2])
    folders = leave(root, alone)
    output = run(*folders, "--out", tmp_path / "alone.html")
    text = unescape((tmp_path / "alone.html").read_text())
    assert "Verdict" not in text
    mean = sum(r.value for t in alone.trials for r in t.rows if r.metric == "dice") / 12
    assert f"<td>{mean:.3f} ± " in text
    assert "12/12" in text
    assert "dice by variant" in text
    assert "written" in output.splitlines()[0]


def test_refused(root: Path, tmp_path: Path) -> None:
    folders = leave(root, TABLE)
    with pytest.raises(DataError, match="no run to compare: nobody"):
        run("nobody")
    with pytest.raises(DataError, match=r"(?s)reference 'soft' is not among the variants.*soft_all"):
        run(*folders, "--reference", "soft")
    with pytest.raises(DataError, match=r"(?s)no case has the metric 'hd95'.*dice"):
        run(*folders, "--primary", "hd95")
    mine = tmp_path / "notes.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(StorageError, match=r"(?s)nothing is overwritten.*notes\.html.*--out"):
        run(*folders, "--out", mine)
    assert mine.read_text() == "<p>mine</p>"
    for folder in folders:
        (folder / "cases.csv").unlink()
    with pytest.raises(DataError, match=r"(?s)none of these runs has a table.*failed.*mriad resume RUN"):
        run(*folders)


def test_names_are_shown_as_they_are_written(root: Path, tmp_path: Path) -> None:
    odd = replace(TABLE, trials=tuple(replace(t, variant=f"<i>{t.variant}") for t in TABLE.trials))
    run(*leave(root, odd), "--primary", "dice", "--out", tmp_path / "odd.html")
    text = (tmp_path / "odd.html").read_text()
    assert "<i>" not in text
    assert "&lt;i&gt;soft_all" in text
