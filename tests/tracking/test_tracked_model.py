"""A model file in MLflow: logged as it is, loaded from code, and the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from inference_fakes import fake_registry, save_fake
from mriad.inference.api import predict
from mriad.launch import runs_root
from mriad.model_file import export_model
from mriad.registry import using
from mriad.tracking.address import tracking_uri
from mriad.tracking.mlflow_store import MlflowStore
from mriad.tracking.record import RunRecord
from mriad.tracking.sender import send

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_logged_model_segments_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scan = tmp_path / "p1_T2w.nii.gz"
    voxels = np.random.default_rng(0).uniform(0, 1, (8, 9, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), scan)
    with using(fake_registry()):
        file = export_model(save_fake(tmp_path / "predictor"), tmp_path / "cord", licence="MIT")
        record = RunRecord.start(tmp_path / "run", id="ab" * 32, name="cord")
        record.add_model(file)
        record.finish({"test/dice/cord": 0.5})
        uri = tracking_uri(runs_root(tmp_path / "runs"), f"{tmp_path}/mlflow.db")
        store = MlflowStore(uri)
        send(record, store)
        assert not send(record, store)
        model_uri, run = _logged(uri)
        assert run.info.status == "FINISHED"
        import mlflow

        mlflow.set_tracking_uri(uri)
        model = mlflow.pyfunc.load_model(model_uri)
        out = model.predict(pd.DataFrame({"T2w": [str(scan)]}), params={"out": str(tmp_path / "out")})
        expected = predict(file, scan).hard()
    assert np.array_equal(np.asarray(nib.load(out[0]).dataobj), expected)
    artifacts = mlflow.artifacts.download_artifacts(model_uri, dst_path=str(tmp_path / "got"))
    files = {p.relative_to(artifacts).as_posix() for p in (tmp_path / "got").rglob("*") if p.is_file()}
    assert f"artifacts/{file.name}" in files
    assert "model_code.py" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt"))]


def _logged(uri: str) -> tuple[str, Any]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("cord")
    models = client.search_logged_models([experiment.experiment_id])
    assert len(models) == 1
    return models[0].model_uri, client.get_run(models[0].source_run_id)
