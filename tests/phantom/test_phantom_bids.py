"""The phantom on disk: BIDS names, geometry, manifest, and what is refused."""

import csv
import json
import resource
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError, StorageError
from mriad_data.manifest import Manifest
from mriad_data.phantom import CONTRASTS, PhantomSpine
from mriad_data.phantom.bids import RAW, write_bids
from typer.testing import CliRunner

SMALL = {"size_mm": (40, 56, 48), "spacing_mm": 2.0}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    dataset = PhantomSpine(persons=2, **SMALL)
    folder = tmp_path_factory.mktemp("bids") / "phantom"
    ticks = []
    return dataset, write_bids(dataset, folder, lambda: ticks.append(1)), ticks


def test_round_trip(written):
    dataset, made, ticks = written
    assert (made.persons, made.images, len(ticks)) == (2, 12, 12)
    index, back = dataset.build(), Manifest(path=made.folder).build()
    assert [c.id for c in back] == [c.id for c in index]
    assert back.label_set == index.label_set
    for case, read in zip(index, back, strict=True):
        assert (read.person, read.contrast, read.domain) == (case.person, case.contrast, case.domain)
        assert dict(read.numbers) == pytest.approx(dict(case.numbers))
        assert {n: label.kind for n, label in read.labels.items()} == {
            n: label.kind for n, label in case.labels.items()
        }
    for case, read in zip(index[:3], back[:3], strict=True):
        made_here, stored = case.channels["image"].read(), read.channels["image"].read()
        assert np.array_equal(made_here.data, stored.data)
        assert made_here.grid.same(stored.grid)
        assert set(read.annotations) == {"levels", "discs"}
        for name, source in case.annotations.items():
            assert np.array_equal(read.annotations[name].read().data, source.read().data)
        for name, label in case.labels.items():
            data = read.labels[name].source.read().data
            assert np.array_equal(np.squeeze(data), label.source.read().data)


def test_files_and_geometry(written):
    dataset, made, _ = written
    for contrast in CONTRASTS:
        kind, ending = RAW[contrast]
        image = nib.load(made.folder / "sub-001" / kind / f"sub-001_{ending}.nii.gz")
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        assert np.allclose(image.get_qform(), image.affine, atol=1e-4)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header.get_xyzt_units()[0] == "mm"
        sidecar = json.loads((made.folder / "sub-001" / kind / f"sub-001_{ending}.json").read_text())
        assert sidecar["RepetitionTime"] > 0
        assert sidecar["Simulated"] is True
        labels = made.folder / "derivatives" / "labels" / "sub-001" / kind
        for end in ("label-cord_seg", "label-cord_desc-soft_probseg", "label-discs_dlabel"):
            label = nib.load(labels / f"sub-001_{ending}_{end}.nii.gz")
            assert np.allclose(label.affine, image.affine)
            assert label.shape == image.shape
    description = json.loads((made.folder / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw"
    run = json.loads((made.folder / "run.json").read_text())
    assert run["fingerprint"] == made.fingerprint == dataset.parameters().fingerprint
    assert PhantomSpine.model_validate(run["dataset"]).parameters() == dataset.parameters()
    with (made.folder / "participants.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [r["participant_id"] for r in rows] == ["sub-001", "sub-002"]
    with (made.folder / "manifest.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first["image:image"] == "sub-001/anat/sub-001_T1w.nii.gz"
    assert first["kind:truth"] == "soft"
    assert not list(made.folder.parent.glob(".*"))


def test_sessions_have_folders(tmp_path):
    dataset = PhantomSpine(persons=1, contrasts=("T2w",), rescans=1, atrophy_percent=(2,), **SMALL)
    made = write_bids(dataset, tmp_path / "out")
    for session in ("baseline", "rescan1", "atrophy2"):
        assert (made.folder / f"sub-001/ses-{session}/anat/sub-001_ses-{session}_T2w.nii.gz").is_file()
    index = Manifest(path=made.folder).build()
    assert [c.session for c in index] == ["baseline", "rescan1", "atrophy2"]
    assert index.persons == ("sub-001",)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds something already") as caught:
        write_bids(PhantomSpine(persons=1, **SMALL), tmp_path)
    assert "--out" in caught.value.remedy
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    out = tmp_path / "empty"
    out.mkdir()
    assert write_bids(PhantomSpine(persons=1, contrasts=("DWI",), **SMALL), out).images == 1
    assert (out / "sub-001" / "dwi" / "sub-001_rec-average_dwi.bval").read_text() == "800\n"


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_bids(PhantomSpine(persons=1, contrasts=("T1w",), **SMALL), tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing(tmp_path):
    """A file-size limit stands for the full disk: it holds for every user."""
    program = (
        "import sys; from pathlib import Path; from mriad.errors import StorageError\n"
        "from mriad_data.phantom import PhantomSpine; from mriad_data.phantom.bids import write_bids\n"
        "try:\n    write_bids(PhantomSpine(persons=1, contrasts=('T1w',), size_mm=(40, 56, 48)), Path(sys.argv[1]))\n"
        "except StorageError as error:\n    print(error)\n"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write" in done.stdout
    assert not list(tmp_path.iterdir())


def run_cli(*arguments):
    from mriad_data.commands import app

    return CliRunner().invoke(app, ["phantom", "spine", *map(str, arguments)])


def test_command(tmp_path):
    small = ("--size", "40,56,48", "--spacing", "2", "--contrasts", "T1w,T2w")
    done = run_cli("--persons", 2, "--out", tmp_path / "p", "--seed", 3, "--mode", "none", "--json", *small)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["persons"], summary["images"], summary["mode"]) == (2, 4, "none")
    assert "next: mriad init" in done.stderr
    assert len(Manifest(path=tmp_path / "p").build()) == 4
    text = run_cli("--persons", 1, "--out", tmp_path / "q", "--rescans", 1, "--atrophy", "1,5", *small)
    assert "8 images of 1 persons" in text.stdout


def test_command_names_what_is_wrong(tmp_path):
    done = run_cli("--out", tmp_path / "p", "--mode", "biased", "--size", "10,10,10")
    assert isinstance(done.exception, DataError)
    message = str(done.exception)
    assert "mode" in message
    assert "labels_zero_mean" in message
    bad = run_cli("--out", tmp_path / "p", "--size", "a,b")
    assert bad.exit_code == 2
    assert "is not a list of numbers" in bad.output
    assert not (tmp_path / "p").exists()


def test_help_is_there():
    done = run_cli("--help")
    assert done.exit_code == 0
    assert "mriad data phantom spine --persons 12" in done.stdout
