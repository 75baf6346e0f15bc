"""What a newcomer types after the quickstart, one after the other on files, and the same from Python."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import mriad
import nibabel as nib
import numpy as np
import pytest
import trial_setup as setup
from mriad.cli import main
from mriad.experiment.dump import to_yaml
from mriad.tracking.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path, runs: Path) -> Path:
    """An experiment on nine cases in files."""
    data = tmp_path / "data"
    data.mkdir()
    path = tmp_path / "boxes.yaml"
    path.write_text(to_yaml(setup.written(data, steps=4, name="boxes")))
    return path


def voxels(place: Path) -> np.ndarray:
    (path,) = place.glob("*.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def test_overfit_train_resume_predict_export_import(
    file: Path, runs: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = call("train", file, "--overfit", 1, "--tracking", "off")
    assert code == 0
    assert "boxes.overfit-" in out
    assert "test cases" not in out  # it tests nothing

    code, out, err = call("train", file, "--tracking", "off")
    assert (code, "test cases" in out) == (0, True)
    (folder,) = (runs / "runs").glob("boxes-*")
    assert f"next: mriad predict SCAN.nii.gz --model {folder}" in err
    before = RunRecord(folder).read()

    code, out, _ = call("resume", folder, "--tracking", "off")  # all is done: only read
    assert (code, "test cases" in out) == (0, True)
    after = RunRecord(folder).read()
    assert after["id"] == before["id"]
    assert after["starts"] == before["starts"] + 1
    assert list((runs / "runs").glob("boxes-*")) == [folder]
    code, _, err = call("resume", tmp_path)
    assert code == 1
    assert "this is no run's folder" in err

    scan = tmp_path / "data" / "p07.nii.gz"
    code, _, err = call("predict", scan, "--model", folder.name, "--out", tmp_path / "by-run")
    assert code == 0, err
    exported = tmp_path / "boxes"
    code, _, err = call("model", "export", folder, "--out", exported, "--licence", "MIT")
    assert code == 0, err
    whole = exported.with_name("boxes.mriad.safetensors")
    code, _, err = call("model", "import", whole)
    assert (code, "next: mriad predict SCAN --model boxes" in err) == (0, True)
    code, out, _ = call("model", "list")
    assert (code, "boxes" in out) == (0, True)
    code, _, err = call("predict", scan, "--model", "boxes", "--out", tmp_path / "by-name")
    assert code == 0, err
    assert np.array_equal(voxels(tmp_path / "by-run"), voxels(tmp_path / "by-name"))


def test_the_same_from_python(file: Path, runs: Path, tmp_path: Path) -> None:
    trained = mriad.train(mriad.Experiment.load(file))
    scan = nib.load(tmp_path / "data" / "p07.nii.gz")
    found = mriad.predict(trained.predictor, str(tmp_path / "data" / "p07.nii.gz"))
    assert found.probabilities.shape == (1, *scan.shape)
    assert np.allclose(found.grid.matrix, scan.affine)
    assert found.label_set.names == ("box",)
    by_name = mriad.predict(trained.folder.name, str(tmp_path / "data" / "p07.nii.gz"), runs=runs)
    assert np.array_equal(found.probabilities, by_name.probabilities)
    assert trained.summary[0].total == 3


def test_neither_needs_ray_or_mlflow(file: Path, tmp_path: Path) -> None:
    code = (
        "import sys, mriad\n"
        f"run = mriad.train(mriad.Experiment.load({str(file)!r}), runs={str(tmp_path / 'r')!r})\n"
        f"mriad.predict(run.predictor, {str(tmp_path / 'data' / 'p07.nii.gz')!r})\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'ray', 'mlflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
