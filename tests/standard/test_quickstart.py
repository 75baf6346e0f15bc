"""The quickstart on a tiny phantom: variants differ in the target alone, and what is printed is what is tracked."""

from __future__ import annotations

import json
import re

import pytest
from mriad.cli import main
from mriad.evaluation import read_rows, summarise
from mriad.experiment.load import load
from mriad_standard.quickstart import BASE, VARIANTS

TINY = [
    "budget.steps=2",
    "budget.validate_every=1",
    "data.dataset.persons=3",
    "data.dataset.contrasts=[T1w]",
    "data.split.validation=1",
    "data.split.test=1",
]


def test_variants_differ_in_nothing_but_the_target():
    soft, hard = (load(BASE, ["name=x", change]).model_dump(mode="json") for change in VARIANTS.values())
    assert soft["data"].pop("labels")["kind"] == "soft"
    assert hard["data"].pop("labels")["kind"] == "hard"
    assert soft == hard


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    import contextlib
    import io

    root = tmp_path_factory.mktemp("quickstart")
    sets = [word for change in TINY for word in ("--set", change)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        main(["quickstart", "--launcher", "inline", "--runs", str(root), *sets])
    assert ended.value.code == 0
    return root, printed.getvalue()


def record(root, name):
    (folder,) = (root / "runs").glob(f"{name}-*")
    return folder, json.loads((folder / "run.json").read_text())


def test_the_printed_table_is_the_tracked_one(output):
    root, printed = output
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/tracking/mlflow.db")
    (study,) = [e for e in client.search_experiments() if e.name == "quickstart"]
    tracked = {run.info.run_name: run.data.metrics for run in client.search_runs([study.experiment_id])}
    assert sorted(tracked) == ["hard", "quickstart", "soft"]
    for name in VARIANTS:
        folder, known = record(root, name)
        summaries = summarise(read_rows(folder / "cases.csv"))
        assert {s.metric for s in summaries} == {"dice", "soft_dice_squared", "assd", "rve"}
        for s in summaries:
            key = f"test/{s.metric}/{s.structure}"
            assert s.text() in printed
            assert s.reference == "truth"
            assert known["summary"][key] == pytest.approx(s.with_worst)
            assert tracked[name][key] == pytest.approx(s.with_worst)
            assert tracked["quickstart"][f"{key}/{name}"] == pytest.approx(s.with_worst)


def test_it_leaves_pictures_and_names_the_next_step(output):
    root, printed = output
    folder, known = record(root, "quickstart")
    assert known["status"] == "finished"
    drawn = {path.name for path in (folder / "figures").glob("*.png")}
    assert {"curves.png", "comparison_dice.png", "comparison_rve.png"} <= drawn
    soft, _ = record(root, "soft")
    assert len(list((soft / "figures").glob("overlay_*.png"))) == 1  # one test case
    assert "no\nclaim about soft or hard labels in general" in printed
    assert re.search(r"comparison_dice\.png", printed)
