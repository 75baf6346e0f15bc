"""The end of an ablation: tables, figures and report.html, and the same words everywhere."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from figure_tables import phantom_table
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import make_plan
from mriad.ablation.run import AblationOptions, run_ablation
from mriad.ablation.study import Study, StudyTrial
from mriad.case_table import write_rows
from mriad.errors import DataError, ExperimentError
from mriad_eval.comparison_config import CompareVariants
from mriad_eval.study_report import conclude
from page_browser import Browser, executable

if TYPE_CHECKING:
    from mriad_eval.comparison import TrialTable

TESTS = Path(__file__).parent.parent
FILES = {"comparison.md", "comparison.csv", "comparison.tex", "comparison.json", "report.html"}


class _Page(HTMLParser):
    """Every address that a page names, its scripts, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def study(folder: Path, table: TrialTable, absent: str = "", **over: object) -> Study:
    """A finished study whose trials have this table."""
    planned = []
    for t in table.trials:
        place = folder / "runs" / t.name
        planned.append(StudyTrial(t.name, t.variant, int(t.fold), int(t.seed), place))
        if t.name == absent:
            continue
        place.mkdir(parents=True)
        record = {"id": t.name, "kind": "trial", "status": t.status, "compute": dict(t.compute)}
        record["tags"] = {"variant": t.variant, "fold": t.fold, "seed": t.seed}
        if t.error:
            record["error"] = {"message": t.error}
        (place / "run.json").write_text(json.dumps(record))
        if t.rows:
            write_rows(place / "cases.csv", t.rows)
    return Study("labels", planned, generated=True, **over)  # type: ignore[arg-type]


def test_an_ablation_ends_with_tables_figures_and_a_page(tmp_path, monkeypatch) -> None:
    for folder in ("trials", "ablation"):
        monkeypatch.syspath_prepend(TESTS / folder)
    from ablation_setup import write

    path = write(
        tmp_path,
        folds=None,
        compare={"type": "eval.comparison", "primary": "overlap", "reference": "plain"},
    )
    plan = make_plan(load_ablation(path))
    assert isinstance(plan.ablation.compare, CompareVariants)
    outcome = run_ablation(plan, AblationOptions("inline", runs=tmp_path / "runs", tracking="off"))
    assert outcome.failed == []
    folder = outcome.folder / "comparison"
    made = {p.name for p in folder.iterdir()}
    assert made >= FILES
    pictures = {p.stem for p in folder.glob("*.png")}
    assert pictures == {p.stem for p in folder.glob("*.svg")}
    assert {"violin_overlap", "paired_overlap", "agreement_overlap", "learning_curves"} <= pictures
    assert {
        p.stem for p in (outcome.folder / "figures").glob("*.png")
    } == pictures  # what a tracking store shows
    assert outcome.verdict
    page = _Page((folder / "report.html").read_text())
    for line in outcome.verdict:
        assert line in (folder / "comparison.md").read_text()
        assert line.removeprefix("note: ") in page.text
    assert "overlap" in outcome.verdict[0]
    assert "n too small for any claim" in outcome.verdict[0]


@pytest.fixture(scope="module")
def concluded(tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("concluded")
    found = study(folder, phantom_table(contrasts=("T1w", "T2w")), description="Soft <b>labels</b> & more")
    (folder / "out").mkdir()
    (folder / "out" / "violin_old.png").write_text("of an earlier comparison")
    asked = CompareVariants(primary="dice/cord", reference="hard_all", metrics=["assd", "rve"])
    return folder / "out", conclude(asked, found, folder / "out")


class TestConclude:
    def test_what_is_printed_is_what_is_in_the_files(self, concluded) -> None:
        folder, lines = concluded
        content = json.loads((folder / "comparison.json").read_text())
        document = (folder / "comparison.md").read_text()
        page = _Page((folder / "report.html").read_text())
        assert [v["text"] for v in content["verdicts"]] == lines[:2]
        assert [f"note: {n}" for n in content["notes"]] == lines[2:]
        for line in lines:
            assert f"- {line}" in document
            assert " ".join(line.removeprefix("note: ").split()) in page.text
        # Every cell of the Markdown tables is a cell of the page.
        cells = {
            c.strip() for row in document.splitlines() if row.startswith("| ") for c in row[1:-1].split(" | ")
        }
        missing = [c for c in cells if c.replace(r"\|", "|") not in page.text and "---" not in c]
        assert missing == []
        means = {
            r["variant"]: r["mean"]
            for r in csv.DictReader((folder / "comparison.csv").open())
            if r["role"] == "primary"
        }
        for variant, mean in means.items():
            assert f"| dice/cord | {variant} | {float(mean):.3f} ± " in document

    def test_the_page_needs_nothing_else(self, concluded) -> None:
        folder, _ = concluded
        text = (folder / "report.html").read_text()
        page = _Page(text)
        assert page.scripts == 0
        assert all(a.startswith(("#", "data:image/svg+xml;base64,")) for a in page.addresses)
        assert "default-src 'none'" in text
        assert not re.search(r"https?://", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
        assert "Soft <b>labels</b> & more" in page.text  # shown as written, not as markup
        assert "<b>labels</b>" not in text

    def test_all_figures(self, concluded) -> None:
        folder, _ = concluded
        names = {p.stem for p in folder.glob("*.svg")}
        assert names == {p.stem for p in folder.glob("*.png")}
        assert names == {
            "violin_dice_cord",
            "paired_dice_cord",
            "violin_dice_cord_by_contrast",
            "domains_dice_cord",
            "contrasts_dice_cord",
            "agreement_csa_cord",
            "bland_altman_csa_cord",
            "contrasts_csa_cord_soft_all",
            "contrasts_csa_cord_hard_all",
            "contrasts_csa_cord_dice_ce",
            "plane_dice_assd",
            "calibration",
        }
        assert (folder / "report.html").read_text().count("<figure") == len(names)

    def test_cases_with_their_misses(self, concluded) -> None:
        text = unescape((concluded[0] / "report.html").read_text())
        assert "(2 of 2: miss)" in text
        assert "(1 of 2: miss)" in text
        assert "dice of 24 cases and structures, mean over seeds" in text

    @pytest.mark.skipif(executable() is None, reason="no Chromium")
    def test_in_a_browser(self, concluded, tmp_path) -> None:
        folder, _ = concluded
        with Browser(tmp_path, size=(1280, 1000)) as browser:
            browser.call("Page.navigate", url=(folder / "report.html").as_uri())
            browser.wait("document.readyState === 'complete' && document.images.length > 5")
            browser.wait("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
            wide = browser.do("document.documentElement.scrollWidth <= window.innerWidth")
            assert wide, "the page scrolls sideways"
            assert browser.complaints == []
            asked = [u for u in browser.requests if not u.startswith("data:")]
            assert [u.partition(":")[0] for u in asked] == ["file"]


def test_missing_and_failed_trials_are_named(tmp_path) -> None:
    table = phantom_table(contrasts=("T1w",), structures=("cord",), misses=False, seeds=3)
    trials = tuple(
        replace(t, rows=(), status="failed", error="the loss is not finite") if t.name == "dice_ce-2" else t
        for t in table.trials
    )
    found = study(tmp_path, replace(table, trials=trials), absent="soft_all-1")
    lines = conclude(CompareVariants(primary="dice", reference="hard_all"), found, tmp_path)
    text = _Page((tmp_path / "report.html").read_text()).text
    assert "missing: soft_all fold 0 seed 1 (absent)" in lines[0]
    assert "dice_ce fold 0 seed 2 failed the loss is not finite" in text
    assert "7 finished, 2 missing" in text


def test_a_figure_that_cannot_be_made_says_why(tmp_path) -> None:
    table = phantom_table(persons=2, contrasts=("T1w",), structures=("cord",), misses=False)
    lines = conclude(CompareVariants(primary="dice", reference="hard_all"), study(tmp_path, table), tmp_path)
    assert "n too small for any claim" in lines[0]
    assert "Not drawn: Bland–Altman limits" in _Page((tmp_path / "report.html").read_text()).text
    assert not (tmp_path / "bland_altman_csa.svg").exists()


class TestRefused:
    table = phantom_table(persons=4, contrasts=("T1w",), structures=("cord",), misses=False)

    def test_a_reference_that_is_no_variant(self, tmp_path) -> None:
        asked = CompareVariants(primary="dice", reference="soft")
        with pytest.raises(ExperimentError, match=r"(?s)reference is no variant.*soft.*hard_all"):
            asked.check(["soft_all", "hard_all"])
        with pytest.raises(
            DataError, match=r"(?s)reference 'soft' is not among the variants.*soft_all, hard_all"
        ):
            conclude(asked, study(tmp_path, self.table), tmp_path)

    def test_a_reference_that_failed(self, tmp_path) -> None:
        trials = tuple(
            replace(t, rows=(), status="failed", error="the loss is not finite")
            if t.variant == "hard_all"
            else t
            for t in self.table.trials
        )
        found = study(tmp_path, replace(self.table, trials=trials))
        with pytest.raises(
            DataError,
            match=r"(?s)'hard_all' has no finished trial.*hard_all fold 0 seed 0.*the loss is not finite",
        ):
            conclude(CompareVariants(primary="dice", reference="hard_all"), found, tmp_path)

    def test_a_metric_that_no_case_has(self, tmp_path) -> None:
        found = study(tmp_path, self.table)
        with pytest.raises(DataError, match=r"(?s)no case has the metric 'hd95'.*assd.*dice"):
            conclude(CompareVariants(primary="hd95"), found, tmp_path)
        assert not (tmp_path / "report.html").exists()
