"""run_samseg as a predictor, with a program that the test writes in its place."""

import os
import stat
import sys
import time

import numpy as np
import pytest
from mriad.errors import DataError, LaunchError
from mriad.geometry import Grid
from mriad.inference.load import load_predictor
from mriad.testing import check_predictor
from mriad.vocabulary import Volume
from mriad_synthseg.samseg import Samseg

FAKE = """#!{python}
import sys, time
from pathlib import Path
import nibabel as nib
import numpy as np
arguments = sys.argv[1:]
print("arguments:", *arguments)
image = nib.load(arguments[arguments.index("--input") + 1])
out = Path(arguments[arguments.index("--output") + 1])
out.mkdir()
data = np.asarray(image.dataobj)
labels = np.where(data > 500, 10, np.where(data > 200, 99, 0)).astype(np.int32)
{extra}
nib.save(nib.MGHImage(labels, image.affine), out / "seg.mgz")
"""
STRUCTURES = {"left thalamus": 10, "lesion": 25}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Writes a run_samseg that thresholds, and puts it on PATH."""

    def write(extra=""):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        file = folder / "run_samseg"
        file.write_text(FAKE.format(python=sys.executable, extra=extra))
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        return file

    return write


def scan():
    data = np.full((9, 8, 7), 10.0, np.float32)
    data[2:5, 2:5, 2:5], data[6:8, 5:7, 1:3] = 900, 300
    matrix = np.array([[-1.0, 0.1, 0, 30], [0.1, 1.2, 0, -4], [0, 0, 2, 7], [0, 0, 0, 1]])
    return Volume(data, Grid.of(data.shape, matrix))


def config(**more):
    return Samseg(channels=["T1w"], structures=STRUCTURES, mapping={99: 25}, **more)


def test_labels_are_mapped_and_lie_on_the_scan(program, tmp_path):
    program()
    predictor = config().build(tmp_path)
    volume = scan()
    check_predictor(predictor, {"T1w": volume})
    found = predictor({"T1w": volume})
    np.testing.assert_array_equal(found.probabilities[0], volume.data == 900)
    np.testing.assert_array_equal(found.probabilities[1], volume.data == 300)
    np.testing.assert_array_equal(found.hard(), 10 * (volume.data == 900) + 25 * (volume.data == 300))
    assert not list(tmp_path.glob("mriad-samseg-*"))


def test_an_output_on_another_grid_is_laid_back(program, tmp_path):
    """Axes in another order and direction, as FreeSurfer's conformed space has."""
    program(
        "flipped = labels[::-1].transpose(2, 0, 1)\n"
        "turn = np.zeros((4, 4)); turn[3, 3] = 1\n"
        "turn[0, 1] = -1; turn[0, 3] = labels.shape[0] - 1; turn[1, 2] = 1; turn[2, 0] = 1\n"
        "nib.save(nib.MGHImage(np.ascontiguousarray(flipped), image.affine @ turn), out / 'seg.mgz'); sys.exit()"
    )
    volume = scan()
    found = config().build(tmp_path)({"T1w": volume})
    np.testing.assert_array_equal(found.probabilities[0], volume.data == 900)
    assert found.grid.same(volume.grid)


def test_it_is_said_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="'run_samseg' is not installed, or not on PATH") as caught:
        config().build(tmp_path)
    assert "install FreeSurfer" in str(caught.value)
    assert "synthseg.fit_atlas" in str(caught.value)


def test_a_failure_shows_the_last_lines(program, tmp_path):
    program("print('cannot find the atlas'); sys.exit(3)")
    with pytest.raises(LaunchError, match="failed with exit status 3") as caught:
        config().build(tmp_path)({"T1w": scan()})
    assert "cannot find the atlas" in str(caught.value)
    program("sys.exit(0)")
    with pytest.raises(DataError, match="ended well but wrote no segmentation"):
        config().build(tmp_path)({"T1w": scan()})
    program("(out / 'seg.mgz').write_bytes(b'nothing'); sys.exit(0)")
    with pytest.raises(DataError, match="cannot be read"):
        config().build(tmp_path)({"T1w": scan()})


def test_labels_that_nobody_knows_are_named(program, tmp_path):
    program("labels[0, 0, 0] = 77")
    with pytest.raises(DataError, match="neither in the label set nor mapped") as caught:
        config().build(tmp_path)({"T1w": scan()})
    assert "77: 0" in str(caught.value)
    predictor = Samseg(channels=["T1w"], structures=STRUCTURES, mapping={99: 25, 77: 0}).build(tmp_path)
    assert predictor({"T1w": scan()}).hard()[0, 0, 0] == 0


def test_it_ends_with_all_that_it_started(program, tmp_path):
    """A child of the program outlives neither a timeout nor a good end."""
    started, mark = tmp_path / "started", tmp_path / "mark"
    child = tmp_path / "child.py"
    child.write_text(
        "import time, pathlib\n"
        f"pathlib.Path({str(started)!r}).touch()\ntime.sleep(6)\npathlib.Path({str(mark)!r}).touch()\n"
    )
    program(f"import subprocess; subprocess.Popen([sys.executable, {str(child)!r}]); time.sleep(60)")
    begun = time.monotonic()
    with pytest.raises(LaunchError, match="took longer than 4 s and was ended"):
        config(timeout_s=4).build(tmp_path)({"T1w": scan()})
    assert time.monotonic() - begun < 30
    if not started.exists():
        pytest.skip("the child did not begin in time: the machine is too busy")
    time.sleep(4)
    assert not mark.exists()


def test_bad_scans_are_refused_before_it_is_started(program, tmp_path):
    file = program("sys.exit(9)")
    assert file.exists()
    volume = scan()
    with pytest.raises(DataError, match="NaN or infinite"):
        config().build(tmp_path)({"T1w": Volume(np.full_like(volume.data, np.nan), volume.grid)})
    with pytest.raises(DataError, match="not the model's"):
        config().build(tmp_path)({"T2w": volume})


def test_the_stage_writes_a_predictor_that_loads(program, tmp_path):
    from mriad.experiment.model import Experiment
    from mriad.images import FileSource, write_like
    from mriad.manifest import write_manifest
    from mriad.stages.artefact import StageContext
    from mriad.testing import check_stage
    from mriad.vocabulary import Case, CaseIndex, LabelSet
    from mriad_synthseg.samseg import SamsegStage

    program()
    volume = scan()
    file = write_like(tmp_path / "data" / "a.nii.gz", volume.data, volume.grid)
    index = CaseIndex([Case("a", "a", {"T1w": FileSource(str(file))})], LabelSet.of(STRUCTURES))
    write_manifest(tmp_path / "data", index)
    experiment = Experiment.model_validate(
        {
            "name": "samseg",
            "data": {
                "dataset": {"type": "data.manifest", "path": str(tmp_path / "data" / "manifest.csv")},
                "labels": "none",
            },
            "stages": {"samseg": {"type": "synthseg.samseg"}},
        }
    )
    folder = tmp_path / "stage"
    folder.mkdir()
    context = StageContext("samseg", folder, experiment, {}, 0, 0, "f" * 64, None, None)
    stage = SamsegStage(mapping={99: 25})
    check_stage(stage, context)
    assert load_predictor(folder)({"T1w": volume}).hard().max() == 25
    assert len(stage.contents()["program"]) == 12
    with pytest.raises(DataError, match="`mapping` leads to values") as caught:
        SamsegStage(mapping={99: 26}).run(context)
    assert "26" in str(caught.value)
