"""The same ablation on Ray Tune: the same numbers, and what one failing trial leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ablation_setup import THIRDS, write
from mriad.ablation.load import load_ablation
from mriad.ablation.plan import make_plan
from mriad.ablation.run import AblationOptions, run_ablation
from mriad.experiment.model import ResourcesSection
from mriad.images import write_like
from mriad.launch.ray_tune import fitting

if TYPE_CHECKING:
    from pathlib import Path


def tables(runs: Path) -> dict[str, str]:
    found = {path.parent: path.read_text() for path in runs.glob("runs/*/cases.csv")}
    return {json.loads((folder / "run.json").read_text())["id"]: table for folder, table in found.items()}


@pytest.mark.ray
def test_tune_gives_the_tables_of_one_process(tmp_path):
    """Small trials in Tune's own processes; one variant fails, one is imported, and the rest finish."""
    (tmp_path / "elsewhere").mkdir()
    theirs = tmp_path / "elsewhere"
    variants: dict[str, Any] = {
        "plain": {},
        "theirs": {"predictions": str(theirs)},
        "broken": {"optimiser.lr": 1e30},
    }
    path = write(tmp_path, folds=THIRDS, variants=variants, base={"budget": {"steps": 6}})
    plan = make_plan(load_ablation(path))
    for case in plan.trials[0].experiment.data.dataset.build():
        label = case.labels["hard"].source.read()
        write_like(theirs / f"{case.id}.nii.gz", label.data, label.grid, "labels")
    inline = run_ablation(plan, AblationOptions("inline", runs=tmp_path / "one", tracking="off"))
    tuned = run_ablation(plan, AblationOptions("ray", runs=tmp_path / "two", tracking="off"))
    assert tables(tmp_path / "two") == tables(tmp_path / "one")
    assert len(tables(tmp_path / "two")) == 6
    assert tuned.verdict == inline.verdict
    assert sorted(end.name for end in tuned.failed) == sorted(end.name for end in inline.failed)
    assert all("finite" in end.reason for end in tuned.failed)


@pytest.mark.ray
def test_trials_of_two_workers_run_on_one_cpu_each(tmp_path):
    """Trials that span workers hold no CPU themselves, or their workers would wait for ever."""
    path = write(
        tmp_path,
        folds=None,
        resources={"workers": 2, "cpus": 1},
        base={"streams": {"labelled": {"batch": 2}}},
    )
    outcome = run_ablation(
        make_plan(load_ablation(path)), AblationOptions("ray", runs=tmp_path / "runs", tracking="off")
    )
    assert outcome.failed == []
    assert len(tables(tmp_path / "runs")) == 2


@pytest.mark.parametrize(
    ("there", "asked", "expected"),
    [
        ({"CPU": 1.0}, {"cpus": 1}, 1),
        ({"CPU": 2.0}, {"cpus": 1}, 2),
        ({"CPU": 4.0}, {"workers": 2, "cpus": 1}, 2),
        ({"CPU": 3.0}, {"workers": 2, "cpus": 1}, 1),
        ({"CPU": 1.0}, {"workers": 2, "cpus": 2}, 1),
        ({"CPU": 16.0, "GPU": 1.0}, {"cpus": 1, "gpus": 0.125}, 8),
        ({"CPU": 16.0, "GPU": 4.0}, {"cpus": 4, "gpus": 1}, 4),
        ({"CPU": 16.0, "GPU": 4.0}, {"workers": 2, "cpus": 1, "gpus": 1}, 2),
    ],
)
def test_no_more_at_once_than_can_run(there, asked, expected):
    assert fitting(there, ResourcesSection(**asked)) == expected
