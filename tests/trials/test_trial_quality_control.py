"""Every test run writes a quality-control page; a tracking store gets one file and a zip, under public names."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import pytest
import trial_setup as setup
from mriad.launch.files import runs_root
from mriad.tracking.address import tracking_uri
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from pathlib import Path


def told(folder: Path) -> dict:
    text = (folder / "cases.js").read_text("ascii")
    return json.loads(text.removeprefix("window.QC_PAGE = ").rstrip().removesuffix(";"))


def test_a_run_with_test_cases_has_a_page(tmp_path: Path) -> None:
    log = setup.Log()
    trial = setup.run(setup.written(tmp_path / "data", persons=3, privacy="plain"), tmp_path / "runs", log)
    assert [line for line in log.lines if "not drawn" in line] == []
    figures = trial.folder / "figures"
    page = told(figures / "qc")
    assert (figures / "qc" / "index.html").is_file()
    tested = {row["id"] for row in page["cases"]}
    assert tested
    assert all(case["picture"] for case in page["cases"])
    assert page["structures"] == ["box"]
    assert {"qc.html", "qc.zip"} <= {path.name for path in RunRecord(trial.folder).public_figures()}
    with zipfile.ZipFile(figures / "qc.zip") as archive:
        assert "qc/index.html" in archive.namelist()
    assert all(name in (figures / "qc.html").read_text("utf-8") for name in tested)


def test_a_tracking_store_never_sees_a_true_name(tmp_path: Path) -> None:
    trial = setup.run(setup.written(tmp_path / "data", persons=3), tmp_path / "runs")
    figures = trial.folder / "figures"
    true = {case["id"] for case in told(figures / "qc")["cases"]}
    sent = RunRecord(trial.folder).public_figures()
    assert {"qc.html", "qc.zip"} <= {path.name for path in sent}
    assert not (figures / "qc.html").exists()
    for path in sent:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                seen = b"".join(archive.read(name) for name in archive.namelist() if "/app/" not in name)
        else:
            seen = path.read_bytes()
        if path.name.startswith("qc."):
            assert not [name for name in true if f'"{name}"'.encode() in seen], path


@pytest.mark.parametrize("shape", ["alternating"])
def test_a_run_that_tests_nothing_has_none(shape: str, tmp_path: Path) -> None:
    trial = setup.run(setup.experiment(shape), tmp_path / "runs")
    assert not (trial.folder / "figures" / "qc").exists()


@pytest.mark.slow  # starts an MLflow store
def test_mlflow_has_the_page_and_the_zip(tmp_path: Path) -> None:
    trial = setup.run(
        setup.written(tmp_path / "data", persons=3, privacy="plain"), tmp_path / "runs", tracking=""
    )
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=tracking_uri(runs_root(tmp_path / "runs")))
    (found,) = client.search_runs([client.get_experiment_by_name(trial.experiment.name).experiment_id])
    sent = {item.path: item for item in client.list_artifacts(found.info.run_id, "figures")}
    assert {"figures/qc.html", "figures/qc.zip"} <= sent.keys()
    assert "figures/qc" not in sent  # thousands of small files stay here
    kept = client.download_artifacts(found.info.run_id, "figures/qc.zip", str(tmp_path))
    with zipfile.ZipFile(kept) as archive:
        assert archive.testzip() is None
