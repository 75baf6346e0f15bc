"""`mriad predict` and `mriad.predict`: names, grids, forms, provenance, resuming, and what goes wrong."""

import json
import resource

import nibabel as nib
import numpy as np
import pytest
from inference_fakes import TWO, CopyModel, Reorient, Structure, oblique, save_fake
from mriad.cli.model import app as model_app
from mriad.cli.predict import predict as predict_command
from mriad.errors import CheckpointError, DataError, ExperimentError, StorageError
from mriad.images import read_volume
from mriad.inference.api import predict
from mriad.inference.load import load_predictor
from mriad.inference.scans import find_scans, output_names
from mriad.vocabulary import LabelSet, Volume
from typer import Typer
from typer.testing import CliRunner

app = Typer()
app.command()(predict_command)
SHAPE = (9, 8, 7)


def run(*arguments):
    """The command in this process; errors for people come out as exceptions, which `mriad` prints."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _write(path, seed=0, affine=None, shape=SHAPE, dtype=np.int16, codes=(1, 2)):
    """A scan with 0/1000-ish integers, an oblique affine and given header codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    data.flat[0], data.flat[1] = 0, 1
    image = nib.Nifti1Image(data, None)
    image.set_qform(oblique(1) if affine is None else affine, codes[0])
    image.set_sform(oblique(1) if affine is None else affine, codes[1])
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


@pytest.fixture
def cord(tmp_path):
    """A model that copies its first channel, through a reorientation."""
    return save_fake(tmp_path / "cord", model=CopyModel(), preprocessing=[Reorient(axes="PIR")])


@pytest.fixture
def two(tmp_path):
    return save_fake(tmp_path / "two", model=CopyModel(), channels=("T1w", "FLAIR"))


def _sidecar(path):
    return json.loads(path.with_name(path.name.removesuffix(".nii.gz") + ".json").read_text())


@pytest.mark.parametrize("codes", [(1, 2), (0, 1), (1, 0), (4, 4)])
def test_hard_output_lies_on_the_input_bit_for_bit(tmp_path, cord, codes):
    scan = _write(tmp_path / "in" / "sub-01_T2w.nii.gz", codes=codes)
    result = run(scan, "--model", cord, "--out", tmp_path / "out")
    assert result.exit_code == 0
    out = tmp_path / "out" / "sub-01_T2w_label-cord_seg.nii.gz"
    given, made = nib.load(scan), nib.load(out)
    assert made.shape == given.shape
    np.testing.assert_array_equal(made.affine, given.affine)
    for form in ("get_qform", "get_sform"):
        matrix, code = getattr(given, form)(coded=True)
        found, found_code = getattr(made, form)(coded=True)
        assert code == found_code
        np.testing.assert_array_equal(found, matrix)
    assert made.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(given.dataobj))
    assert "next: itksnap -g" in result.stderr
    assert "1 predicted, 0 done before, 0 failed" in result.stdout


def test_soft_outputs(tmp_path, cord):
    scan = _write(tmp_path / "sub-01_T2w.nii.gz")
    truth = np.asarray(nib.load(scan).dataobj)
    for flag, dtype in (("--soft", np.float32), ("--soft-uint8", np.uint8)):
        assert run(scan, "--model", cord, "--out", tmp_path / flag, flag).exit_code == 0
        made = nib.load(tmp_path / flag / "sub-01_T2w_label-cord_probseg.nii.gz")
        assert made.get_data_dtype() == dtype
        np.testing.assert_allclose(made.get_fdata(), truth, atol=1e-6 if dtype == np.float32 else 1 / 510)
    with pytest.raises(ExperimentError, match="choose one of --hard, --soft and --soft-uint8"):
        run(scan, "--model", cord, "--soft", "--hard")


def test_several_structures(tmp_path):
    """Hard: one file with the label set's values. Soft: one file a structure."""
    model = save_fake(tmp_path / "m", model=CopyModel(), labels=TWO)  # outputs +x for cord, -x for csf
    scan = _write(tmp_path / "a.nii.gz")
    run(scan, "--model", model, "--out", tmp_path / "out")
    made = np.asarray(nib.load(tmp_path / "out" / "a_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(made, 3 * np.asarray(nib.load(scan).dataobj))
    assert _sidecar(tmp_path / "out" / "a_dseg.nii.gz")["Structures"] == {"cord": 3, "csf": 7}
    run(scan, "--model", model, "--out", tmp_path / "soft", "--soft")
    found = sorted(p.name for p in (tmp_path / "soft").glob("*.nii.gz"))
    assert found == ["a_label-cord_probseg.nii.gz", "a_label-csf_probseg.nii.gz"]
    assert nib.load(tmp_path / "soft" / found[0]).get_fdata().max() == 1
    assert nib.load(tmp_path / "soft" / found[1]).get_fdata().max() == 0


def test_sidecar_and_run_json(tmp_path, cord):
    scan = _write(tmp_path / "sub-01_T2w.nii.gz")
    run(scan, "--model", cord, "--out", tmp_path / "out", "--threads", 1, "--engine", "torch")
    side = _sidecar(tmp_path / "out" / "sub-01_T2w_label-cord_seg.nii.gz")
    assert side["Sources"][0]["Channel"] == "T2w"
    assert side["Sources"][0]["File"] == "sub-01_T2w.nii.gz"
    assert len(side["Sources"][0]["SHA256"]) == 64
    assert side["Model"]["Name"] == "cord"
    assert len(side["Model"]["Fingerprint"]) == 64
    assert side["Structures"] == {"cord": 1}
    assert side["Versions"]["torch"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["kind"] == "predict"
    assert record["config"]["threads"] == 1
    assert record["config"]["engine"] == "torch " + side["Versions"]["torch"]
    assert record["config"]["precision"] == "fp32"
    assert record["config"]["fingerprint"] == side["Model"]["Fingerprint"]
    assert record["inputs"][0]["status"] == "done"
    assert record["inputs"][0]["files"]["T2w"]["sha256"] == side["Sources"][0]["SHA256"]
    assert record["inputs"][0]["outputs"] == ["sub-01_T2w_label-cord_seg.nii.gz"]
    assert str(tmp_path) not in json.dumps(side)


def test_a_prediction_in_bf16_says_so_and_is_not_taken_for_one_in_fp32(tmp_path, cord):
    scan = _write(tmp_path / "a.nii.gz")
    common = (scan, "--model", cord, "--out", tmp_path / "out", "--engine", "torch")
    run(*common, "--precision", "bf16")
    assert _sidecar(tmp_path / "out" / "a_label-cord_seg.nii.gz")["Settings"] == {"precision": "bf16"}
    assert "1 done before" in run(*common, "--precision", "bf16").output
    assert "not of this model, form and input" in run(*common).output
    with pytest.raises(ExperimentError, match="there is no precision of this name"):
        run(*common, "--precision", "half")


def test_channels_by_name(tmp_path, two):
    a, b = _write(tmp_path / "a_T1w.nii.gz", 1), _write(tmp_path / "b.nii.gz", 2)
    result = run(
        "--channel", f"FLAIR={b}", "--channel", f"T1w={a}", "--model", two, "--out", tmp_path / "out"
    )
    assert result.exit_code == 0
    made = nib.load(tmp_path / "out" / "a_T1w_label-cord_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(nib.load(a).dataobj))
    with pytest.raises(DataError, match=r"model's channels  T1w, FLAIR(.|\n)*missing           FLAIR"):
        run("--channel", f"T1w={a}", "--model", two)
    with pytest.raises(
        DataError, match=r"missing           FLAIR(.|\n)*--channel T1w=FILE --channel FLAIR=FILE"
    ):
        run(a, "--model", two)
    with pytest.raises(DataError, match="NAME=FILE, once"):
        run("--channel", a, "--model", two)
    with pytest.raises(DataError, match="either a scan or folder, or channels"):
        run(a, "--channel", f"T1w={a}", "--model", two)
    with pytest.raises(DataError, match="no such file or folder"):
        run(tmp_path / "absent.nii.gz", "--model", two)


def test_a_folder_is_resumed_and_a_broken_file_does_not_end_it(tmp_path, cord):
    folder, out = tmp_path / "in", tmp_path / "out"
    for n in (1, 3):
        _write(folder / f"sub-0{n}" / "anat" / f"sub-0{n}_T2w.nii.gz", n)
    broken = folder / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    whole = _write(broken, 2, shape=(40, 40, 40)).read_bytes()
    broken.write_bytes(whole[:500])
    first = run(folder, "--model", cord, "--out", out)
    assert first.exit_code == 1
    assert "2 predicted, 0 done before, 1 failed" in first.stdout
    assert "failed: sub-02/anat/sub-02_T2w" in first.stderr
    assert "truncated" in first.stderr
    assert "next: the same command again" in first.stderr
    made = out / "sub-01" / "anat" / "sub-01_T2w_label-cord_seg.nii.gz"
    before = made.stat().st_mtime_ns
    broken.write_bytes(whole)
    second = run(folder, "--model", cord, "--out", out)
    assert second.exit_code == 0
    assert "1 predicted, 2 done before, 0 failed" in second.stdout
    assert made.stat().st_mtime_ns == before
    status = [row["status"] for row in json.loads((out / "run.json").read_text())["inputs"]]
    assert status == ["skipped", "done", "skipped"]


def test_nothing_is_overwritten(tmp_path, cord):
    scan, out = _write(tmp_path / "a.nii.gz"), tmp_path / "out"
    other = save_fake(tmp_path / "other")
    run(scan, "--model", cord, "--out", out)
    made = out / "a_label-cord_seg.nii.gz"
    before = made.read_bytes()
    for again in (("--model", other),):
        result = run(scan, *again, "--out", out)
        assert result.exit_code == 1
        assert "not of this model, form and input" in result.stderr
        assert "--overwrite" in result.stderr
        assert made.read_bytes() == before
    _write(scan, seed=9)  # the input changed
    assert run(scan, "--model", cord, "--out", out).exit_code == 1
    assert run(scan, "--model", cord, "--out", out, "--overwrite").exit_code == 0
    assert made.read_bytes() != before
    _sidecar(made)
    made.with_name("a_label-cord_seg.json").unlink()  # a stranger's file, as far as we know
    assert run(scan, "--model", cord, "--out", out).exit_code == 1


def test_a_sidecar_without_an_image_is_redone(tmp_path, cord):
    scan, out = _write(tmp_path / "a.nii.gz"), tmp_path / "out"
    run(scan, "--model", cord, "--out", out)
    (out / "a_label-cord_seg.nii.gz").unlink()  # as a kill between the two leaves it
    assert "1 predicted" in run(scan, "--model", cord, "--out", out).stdout


def test_default_place_and_model_by_name(tmp_path, cord, runs):
    scan = _write(tmp_path / "a.nii.gz")
    result = CliRunner().invoke(
        model_app, ["export", str(cord), "--out", str(tmp_path / "mine"), "--licence", "MIT"]
    )
    assert result.exit_code == 0, result.output
    assert "next: mriad model import" in result.stderr
    result = CliRunner().invoke(model_app, ["import", str(tmp_path / "mine.mriad.safetensors")])
    assert "next: mriad predict SCAN --model mine" in result.stderr
    listed = CliRunner().invoke(model_app, ["list"]).stdout
    assert "mine  T2w → cord  1 network, MIT" in listed
    assert json.loads(CliRunner().invoke(model_app, ["list", "--json"]).stdout)[0]["structures"] == ["cord"]
    assert run(scan, "--model", "mine").exit_code == 0
    assert (runs / "predictions" / "mine" / "a_label-cord_seg.nii.gz").is_file()


def test_a_model_that_is_not_there_gets_the_lines(tmp_path, runs):
    with pytest.raises(CheckpointError, match=r"no model 'cord'(.|\n)*mriad model import(.|\n)*mriad train"):
        run(tmp_path, "--model", "cord")
    assert "next: mriad model import FILE" in CliRunner().invoke(model_app, ["list"]).stderr


def test_a_full_disk_ends_the_call(tmp_path, cord):
    scan = _write(tmp_path / "a.nii.gz", shape=(40, 40, 40))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            run(scan, "--model", cord, "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        run(scan, "--model", cord, "--out", tmp_path / "file" / "out")


def test_python_api(tmp_path, cord, two, runs):
    scan = _write(tmp_path / "a.nii.gz")
    truth = np.asarray(nib.load(scan).dataobj)
    for image in (scan, str(scan), read_volume(scan), {"T2w": scan}):
        found = predict(cord, image)
        np.testing.assert_allclose(found.probabilities[0], truth, atol=1e-6)
    assert found.label_set.names == ("cord",)
    np.testing.assert_array_equal(found.hard(), truth)
    loaded = load_predictor(two)
    seen = []
    other = _write(tmp_path / "b.nii.gz", 2)
    found = predict(loaded, {"T1w": scan, "FLAIR": other}, on_window=lambda *a: seen.append(a))
    np.testing.assert_allclose(found.probabilities[0], truth, atol=1e-6)
    assert seen == [(1, 1)]
    with pytest.raises(DataError, match="missing           FLAIR"):
        predict(loaded, scan)
    volume = read_volume(scan)
    with pytest.raises(DataError, match="3D"):
        predict(cord, Volume(np.stack([volume.data] * 2), volume.grid))


def test_scans_of_a_folder(tmp_path):
    for name in (
        "sub-01/sub-01_T1w.nii.gz",
        "sub-01/sub-01_FLAIR.nii",
        "sub-02/sub-02_T1w.nii.gz",
        "sub-01/sub-01_T1w_label-cord_seg.nii.gz",
        "sub-01/sub-01_T1w_dseg.nii.gz",
        "sub-01/.hidden.nii.gz",
        "derivatives/x/sub-01_T1w.nii.gz",
        "sub-01/notes.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    one, faults = find_scans(tmp_path, ("T1w",))
    assert [s.name for s in one] == ["sub-01_FLAIR", "sub-01_T1w", "sub-02_T1w"]
    assert faults == []
    two, faults = find_scans(tmp_path, ("T1w", "FLAIR"))
    assert [(s.name, str(s.folder)) for s in two] == [("sub-01_T1w", "sub-01")]
    assert list(two[0].files) == ["T1w", "FLAIR"]
    assert [name for name, _ in faults] == ["sub-02"]
    assert "missing  FLAIR" in str(faults[0][1])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no scan in this folder"):
        find_scans(empty, ("T1w",))


def test_output_names_are_bids():
    label_set = LabelSet((Structure("left hippocampus", 1), Structure("grey_matter", 2)))
    assert list(output_names("sub-01_T1w", label_set, "soft")) == [
        "sub-01_T1w_label-lefthippocampus_probseg.nii.gz",
        "sub-01_T1w_label-greymatter_probseg.nii.gz",
    ]
    assert output_names("s", label_set, "hard") == {"s_dseg.nii.gz": label_set.names}
    twins = LabelSet((Structure("a b", 1), Structure("ab", 2)))
    with pytest.raises(DataError, match="two structures would be written to one file"):
        output_names("s", twins, "soft")


def test_two_scans_of_one_name(tmp_path, cord):
    _write(tmp_path / "in" / "a.nii.gz")
    _write(tmp_path / "in" / "a.nii")
    result = run(tmp_path / "in", "--model", cord, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "two scans would be written to one file" in result.stderr


def test_help_is_light(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, mriad.cli.predict, mriad.cli.model; "
        "print([m for m in ('torch', 'nibabel', 'ray', 'mlflow', 'scipy', 'monai') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
