"""A publication's figures stand in a table of their own and enter nothing."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from comparison_tables import table as trials
from mriad.errors import DataError
from mriad.launch.files import runs_root
from mriad_eval.comparison.asked import known_question
from mriad_eval.comparison.render import write_files
from mriad_eval.comparison.reported import COLUMNS, read_reported, reported_cells
from mriad_eval.comparison.study import compare
from mriad_eval.comparison_config import CompareVariants
from mriad_eval.report_page import write_report
from mriad_eval.study_report import question_of, told

HEAD = ",".join(COLUMNS)
FIGURES = (
    f"{HEAD}\nTable 2,theirs,their data,all,49,dice,1,.96,.01\nTable 2,theirs,their data,all,49,rve,%,-1.5,\n"
)


def test_cells_are_those_of_the_file(tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text(FIGURES)
    heads, rows = reported_cells(read_reported(path))
    assert heads == ("where", "method", "data", "contrast", "n", "dice", "rve (%)")
    assert rows == [("Table 2", "theirs", "their data", "all", "49", ".96 ± .01", "−1.5")]


def compared(tmp_path, folder, **more):
    """The files of a small comparison, without figures."""
    table = trials({"a": 0.0, "b": 0.02}, n=8, seeds=2)
    result = compare(table, question_of(CompareVariants(**more), table))
    folder.mkdir(parents=True)
    write_files(result, folder)
    write_report(folder / "report.html", table, result, [], title="t", lines=told(result))
    return result


def test_they_are_shown_apart_and_change_no_figure(tmp_path):
    path = tmp_path / "paper.csv"
    path.write_text(FIGURES)
    with_, without = tmp_path / "with", tmp_path / "without"
    compared(tmp_path, with_, reported=path)
    compared(tmp_path, without)
    text = (with_ / "comparison.md").read_text()
    assert "## Reported on other data" in text
    assert "| Table 2 | theirs | their data | all | 49 | .96 ± .01 | −1.5 |" in text
    assert "not to be compared" in text
    assert text.startswith((without / "comparison.md").read_text().rstrip())
    assert (with_ / "comparison.csv").read_text() == (without / "comparison.csv").read_text()
    page = (with_ / "report.html").read_text()
    assert page.index("Reported on other data</h2>") > page.index("Primary metric, differences")
    assert "Reported on other data" not in (without / "report.html").read_text()


def test_a_later_comparison_shows_them_again(tmp_path):
    """The question is read back from what the first one wrote; the file may be gone."""
    path = tmp_path / "paper.csv"
    path.write_text(FIGURES)
    folder = tmp_path / "ablation"
    compared(tmp_path, folder / "comparison", reported=path)
    (folder / "run.json").write_text(json.dumps({"kind": "ablation", "name": "a"}))
    path.unlink()
    known = known_question([str(folder)], runs_root(tmp_path))
    assert reported_cells(known.reported)[1][0][1] == "theirs"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a,b\n", "has other columns"),
        (f"{HEAD}\nTable 1,a,b,c,1,dice,1,high,.1\n", "not whole"),
        (f"{HEAD}\nTable 1,a,b\n", "not whole"),
    ],
)
def test_a_bad_table_is_refused_before_anything_starts(tmp_path, content, said):
    path = tmp_path / "paper.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said):
        CompareVariants(reported=path).check(("a", "b"))


def test_what_ships_can_be_read():
    for package in ("mriad_softseg",):
        folder = resources.files(package).joinpath("reported")
        files = [f for f in folder.iterdir() if f.name.endswith(".csv")]
        assert files
        for file in files:
            with resources.as_file(file) as path:
                assert read_reported(path)
