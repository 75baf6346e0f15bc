"""The brain phantom as a data set and on disk: cases, labels, seeds, rescans, maps without images, BIDS, command."""

import csv
import json
import pickle

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError, StorageError
from mriad.interfaces import Dataset
from mriad.testing import check_dataset
from mriad_data.label_maps import LabelMaps
from mriad_data.label_table import read_label_table
from mriad_data.manifest import Manifest
from mriad_data.phantom.brain import CONTRASTS, BrainParameters, PhantomBrain
from mriad_data.phantom.brain import scan as scan_module
from mriad_data.phantom.brain.bids import write_brain
from mriad_data.phantom.brain.regions import BRAIN, REGIONS
from mriad_data.phantom.brain.scan import BrainScan
from mriad_data.phantom.brain.volumes import Known
from mriad_data.phantom.parameters import SpineParameters
from mriad_data.phantom.session import sessions
from pydantic import ValidationError
from typer.testing import CliRunner

TINY = {"size_mm": (80, 96, 64), "spacing_mm": 8.0, "volumes": False}


def tiny(**values):
    return PhantomBrain(**{**TINY, "persons": 2, **values})


@pytest.fixture
def quick_volumes(monkeypatch):
    """Known volumes of two structures; counting them takes seconds and has tests of its own."""
    inside, outside = np.zeros((26, 3)), np.full((26, 3), 300.0)
    known = {"left_thalamus": Known(7000.0, inside), "brain-stem": Known(20000.0, outside)}
    monkeypatch.setattr(scan_module, "true_volumes", lambda seed, person: known)


def test_cases():
    index = tiny().build()
    assert len(index) == 10
    assert index.persons == ("sub-001", "sub-002")
    assert index.label_set.names == tuple(r.name for r in BRAIN)
    case = index[1]
    assert case.id == "sub-001_T2w"
    assert (case.person, case.contrast, case.domain, case.session) == ("sub-001", "T2w", "T2w", "")
    image, hard, truth = (
        s.read() for s in (case.channels["image"], case.labels["hard"].source, case.labels["truth"].source)
    )
    assert image.data.shape == hard.data.shape == (10, 12, 8)
    assert truth.data.shape == (32, 10, 12, 8)
    assert image.data.dtype == truth.data.dtype == np.float32
    assert np.isfinite(image.data).all()
    assert (image.data >= 0).all()
    assert image.grid.spacing == pytest.approx((8, 8, 8))
    assert image.grid.orientation == "RAS"
    assert hard.grid.same(image.grid)
    assert truth.grid.same(image.grid)
    assert set(np.unique(hard.data)) <= {0, *(r.value for r in BRAIN)}
    assert truth.data.min() >= 0
    assert truth.data.sum(0).max() <= 1 + 1e-5
    sure = truth.data.max(0) > 0.5
    order = np.array([r.value for r in BRAIN])
    assert np.array_equal(hard.data[sure], order[truth.data.argmax(0)][sure])


def test_it_is_registered_by_name():
    from mriad.registry import registry

    assert registry().get("dataset", "data.phantom_brain") is PhantomBrain
    loaded = Dataset.resolve({"type": "data.phantom_brain", "persons": 3, "spacing_mm": 2})
    assert type(loaded).model_validate(loaded.model_dump(mode="json")) == loaded


def test_it_keeps_the_contract_of_data_sets():
    check_dataset(tiny(persons=1, contrasts=("T1w", "DBS"), rescans=1), cases=4)


def test_same_seed_same_voxels_whatever_else_is_asked():
    one = tiny().build()
    other = tiny(persons=3, contrasts=("FLAIR",), rescans=1).build()
    case = next(c for c in other if c.person == "sub-002" and c.session == "baseline")
    assert one[8].contrast == "FLAIR"
    assert np.array_equal(one[8].channels["image"].read().data, case.channels["image"].read().data)
    assert one[8].channels["image"].fingerprint == case.channels["image"].fingerprint
    scan_module._remembered.cache_clear()
    scan_module._textures.cache_clear()
    again = pickle.loads(pickle.dumps(one[8]))
    assert np.array_equal(again.channels["image"].read().data, case.channels["image"].read().data)
    assert again.labels["hard"].source.fingerprint == one[9].labels["hard"].source.fingerprint  # one map


def test_persons_contrasts_and_seeds_differ():
    index = tiny().build()
    maps = [index[i].labels["hard"].source.read().data for i in (0, 5)]
    assert (maps[0] != maps[1]).mean() > 0.02
    images = [index[i].channels["image"].read().data.ravel() for i in range(5)]
    for i in range(5):
        for j in range(i):
            assert abs(np.corrcoef(images[i], images[j])[0, 1]) < 0.995
    assert not np.array_equal(maps[0], tiny(seed=1).build()[0].labels["hard"].source.read().data)


def test_fingerprints_change_with_what_changes_voxels():
    base = tiny().build()[0]
    prints = {base.channels["image"].fingerprint}
    changes = (
        {"seed": 1},
        {"noise": 0.5},
        {"spacing_mm": 7.0},
        {"head": True},
        {"motion_mm": 1},
        {"texture": 0},
    )
    for change in changes:
        prints.add(tiny(**change).build()[0].channels["image"].fingerprint)
    prints |= {label.source.fingerprint for label in base.labels.values()}
    assert len(prints) == 9
    with pytest.raises(ValidationError):
        BrainParameters().seed = 3


def test_the_parameters_are_frozen():
    """A change of any default, or of VERSION, changes these; results name them (EVIDENCE section 5)."""
    assert SpineParameters().fingerprint == "43c28817eef7551fff008f79feef0e5f2b379e8479b9aec2d560521daf81209d"
    assert BrainParameters().fingerprint == "c27658cfb7d7b85d45fdda4741f354888c7b5fb356c61cdb3c2208dfc699a470"


def test_rescans_keep_the_anatomy_and_change_pose_and_noise():
    parameters = BrainParameters(size_mm=(88, 108, 84), spacing_mm=(4, 4, 4))
    first, second, third = (BrainScan(parameters, 1, s) for s in sessions(2, ()))
    assert np.array_equal(first.pose(), np.eye(4))
    turn = second.pose()[:3, :3]
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-12)
    assert not np.array_equal(second.pose(), third.pose())
    assert first.brain is second.brain
    # A deep structure's centre moves as the pose says.
    centres = []
    for scan in (first, second):
        share = scan.label("T1w", "truth").data[[r.name for r in BRAIN].index("right_putamen")]
        at = np.argwhere(share > 0)
        centres.append(np.average(scan.grid("T1w").world(at), axis=0, weights=share[share > 0]))
    assert second.pose()[:3, :3] @ centres[0] + second.pose()[:3, 3] == pytest.approx(centres[1], abs=0.15)
    assert not np.array_equal(first.image("T1w").data, second.image("T1w").data)


def test_numbers_hold_what_lies_in_the_field(quick_volumes):
    case = tiny(volumes=True).build()[0]
    assert dict(case.numbers) == {"volume_mm3/left_thalamus": 7000.0}


def test_maps_without_images():
    index = tiny(contrasts=(), head=True, persons=2).build()
    assert [c.id for c in index] == ["sub-001_dseg", "sub-002_dseg"]
    case = index[0]
    assert dict(case.channels) == {}
    assert set(case.labels) == {"hard"}
    values = set(np.unique(case.labels["hard"].source.read().data).tolist())
    assert values - {0} <= {s.value for s in index.label_set.structures}
    assert values & {507, 515}
    painted = tiny(contrasts=("T1w",), head=True).build()
    assert set(painted.label_set.background) == {506, 507, 509, 511, 515, 516}
    assert len(painted.label_set) == 32


def test_bad_values_are_refused_with_the_field_named():
    with pytest.raises(ValidationError, match="size_mm I-S is 20; the phantom needs 48 to 400 mm"):
        tiny(size_mm=(96, 96, 20))
    with pytest.raises(
        ValidationError, match=r"spacing_mm must lie between 0\.3 mm and an eighth of size_mm"
    ):
        tiny(spacing_mm=30)
    with pytest.raises(ValidationError, match="listed twice"):
        tiny(contrasts=("T1w", "T1w"))
    with pytest.raises(ValidationError, match="T2star"):
        tiny(contrasts=("T2star",))


@pytest.fixture
def written(tmp_path, quick_volumes):
    dataset = tiny(rescans=1, contrasts=("T1w", "PD", "DBS"), volumes=True)
    ticks = []
    return dataset, write_brain(dataset, tmp_path / "brain", lambda: ticks.append(1)), ticks


def test_round_trip_on_disk(written):
    dataset, made, ticks = written
    assert (made.persons, made.images, len(ticks)) == (2, 12, 12)
    index, back = dataset.build(), Manifest(path=made.folder).build()
    assert [c.id for c in back] == [c.id for c in index]
    assert back.label_set == index.label_set
    for case, read in zip(index[:4], back[:4], strict=True):
        assert dict(read.numbers) == pytest.approx(dict(case.numbers))
        for ours, theirs in (
            (case.channels["image"], read.channels["image"]),
            (case.labels["hard"].source, read.labels["hard"].source),
        ):
            assert np.array_equal(ours.read().data, theirs.read().data)
            assert ours.read().grid.same(theirs.read().grid)
    names = {p.name for p in (made.folder / "sub-002/ses-rescan1/anat").glob("*.nii.gz")}
    assert names == {f"sub-002_ses-rescan1_{end}.nii.gz" for end in ("T1w", "PDw", "acq-dbs_T1w")}
    image = nib.load(made.folder / "sub-001/ses-baseline/anat/sub-001_ses-baseline_T1w.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    sidecar = json.loads(
        (made.folder / "sub-001/ses-baseline/anat/sub-001_ses-baseline_acq-dbs_T1w.json").read_text()
    )
    assert sidecar["InversionTime"] == 0.5
    assert sidecar["Simulated"] is True
    run = json.loads((made.folder / "run.json").read_text())
    assert run["fingerprint"] == made.fingerprint == dataset.parameters().fingerprint
    with (made.folder / "participants.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [r["participant_id"] for r in rows] == ["sub-001", "sub-002"]
    assert float(rows[0]["volume_mm3_left_thalamus"]) == 7000


def test_the_folder_feeds_a_generator(written):
    """The maps and their table, as data.label_maps reads SynthSeg's own."""
    _, made, _ = written
    labels = made.folder / "derivatives" / "labels"
    index = LabelMaps(root=labels, pattern="*_dseg.nii.gz", table="labels.tsv").build()
    assert len(index) == 4
    assert index.persons == ("sub-001", "sub-002")
    table = read_label_table(labels / "labels.tsv")
    assert {row.value for row in table.rows} == {0, *(r.value for r in BRAIN)}
    assert table.partner(10) == 49
    assert table.partner(41) == 2
    assert table.partner(16) == 16
    assert table.classes[17] == table.classes[18] == 27
    values = np.unique(index[0].labels["hard"].source.read().data)
    assert set(values.tolist()) <= set(table.to_segmented)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds something already"):
        write_brain(tiny(persons=1), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def run_cli(*arguments):
    from mriad_data.commands import app

    return CliRunner().invoke(app, ["phantom", "brain", *map(str, arguments)])


def test_command(tmp_path, quick_volumes):
    small = ("--size", "80,96,64", "--spacing", "8")
    done = run_cli("--persons", 2, "--out", tmp_path / "p", "--contrasts", "T1w,FLAIR", "--json", *small)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["persons"], summary["images"]) == (2, 4)
    maps = run_cli("--persons", 1, "--out", tmp_path / "m", "--contrasts", "none", "--head", *small)
    assert maps.exit_code == 0, maps.output
    assert "0 images of 1 persons" in maps.stdout
    table = read_label_table(tmp_path / "m" / "derivatives" / "labels" / "labels.tsv")
    assert len(table.rows) == len(REGIONS)
    assert len(list((tmp_path / "m").rglob("*_dseg.nii.gz"))) == 1
    assert set(CONTRASTS) == {"T1w", "T2w", "PD", "FLAIR", "DBS"}


def test_command_names_what_is_wrong(tmp_path):
    done = run_cli("--out", tmp_path / "p", "--contrasts", "T1w,T9w", "--size", "10,10,10")
    assert isinstance(done.exception, DataError)
    assert "contrasts" in str(done.exception)
    assert "mriad data phantom brain --help" in done.exception.remedy
    assert not (tmp_path / "p").exists()
