"""`mriad synthseg segment`: labels on the scan's grid, volumes in mm³, quality, posteriors at working resolution."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from atlas_phantom import LABELS as HEAD_LABELS
from mriad.cli.app import main
from mriad.errors import DataError, StorageError
from mriad.experiment.model import PredictSection
from mriad.geometry import Grid
from mriad.images import write_like
from mriad.inference.load import load_predictor, save_predictor
from mriad.inference.slab import Slab, slabs_of_array
from mriad.interfaces import PreprocessingStep
from mriad.vocabulary import LabelSet, Task
from mriad_synthseg.inference_steps import STEPS
from mriad_synthseg.measured_predictor import MeasuredPredictor
from mriad_synthseg.measuring import MeasureTable, Tally, groups_of
from mriad_synthseg.models import UNet

LABELS = LabelSet.of({"left a": 1, "right a": 2, "b": 7})


@pytest.fixture
def model(tmp_path):
    """A network with random weights that segments at 1 mm."""
    task = Task(("image",), {"": LABELS}, "softmax")
    network = UNet(features=2, levels=2, norm="batch")
    torch.manual_seed(3)
    return save_predictor(
        tmp_path / "model",
        task=task,
        predict=PredictSection.model_validate({"head": {"type": "synthseg.posteriors"}}),
        model=network,
        preprocessing=[PreprocessingStep.resolve(step) for step in STEPS],
        parameters=[None] * len(STEPS),
        networks={"network": network.build(task).state_dict()},
    )


@pytest.fixture
def scans(tmp_path):
    """Two scans of different resolution and orientation."""
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for name, shape, affine in (
        ("a", (12, 14, 6), np.diag([-1.0, 1, 2.5, 1])),
        ("b", (16, 10, 12), np.diag([0.7, 1.3, 1, 1])),
    ):
        write_like(folder / f"{name}.nii.gz", rng.gamma(2, 50, shape).astype("f4"), Grid.of(shape, affine))
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["synthseg", "segment", *map(str, arguments)])
    return ended.value.code or 0


def rows(path):
    with path.open(newline="") as file:
        return {row.pop("case"): row for row in csv.DictReader(file)}


def test_a_folder_is_segmented_and_measured(model, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(scans, "--model", model, "--out", out, "--posteriors") == 0, capsys.readouterr()
    volumes, quality = rows(out / "volumes.csv"), rows(out / "quality.csv")
    assert set(volumes) == set(quality) == {"a", "b"}
    assert set(quality["a"]) == {"a", "b"}  # left and right are one group
    for name in "ab":
        scan, found = nib.load(scans / f"{name}.nii.gz"), nib.load(out / f"{name}_dseg.nii.gz")
        assert found.shape == scan.shape
        np.testing.assert_allclose(found.affine, scan.affine)
        kept = nib.load(out / f"{name}_space-working_probseg.nii.gz")
        np.testing.assert_allclose(kept.header.get_zooms()[:3], [1, 1, 1], atol=1e-5)
        assert nib.aff2axcodes(kept.affine) == ("R", "A", "S")
        soft = np.asarray(kept.dataobj).sum((0, 1, 2))
        written = [float(volumes[name][s]) for s in LABELS.names]
        np.testing.assert_allclose(soft, written, atol=0.002 * np.prod(kept.shape[:3]))
        assert all(0 <= float(v) <= 1 for v in quality[name].values() if v != "nan")
    assert "2 segmented" in capsys.readouterr().out


def test_it_is_resumed_and_another_model_is_refused(model, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(scans / "a.nii.gz", "--model", model, "--out", out) == 0
    before = (out / "volumes.csv").read_text()
    assert run(scans, "--model", model, "--out", out) == 0
    assert "1 segmented, 1 done before" in capsys.readouterr().out
    assert set(before.splitlines()) < set((out / "volumes.csv").read_text().splitlines())
    (out / "volumes.csv").write_text("case,other\n")
    assert run(scans, "--model", model, "--out", out) == 1
    assert "other columns than this model's" in capsys.readouterr().err


def test_what_is_missing_beside_a_segmentation_is_written(model, scans, tmp_path, capsys):
    """Posteriors that are asked for later, rows that were lost, and posteriors of another model."""
    out = tmp_path / "out"
    kept = out / "a_space-working_probseg.nii.gz"
    assert run(scans / "a.nii.gz", "--model", model, "--out", out) == 0
    before = (out / "a_dseg.nii.gz").read_bytes()
    assert not kept.exists()
    capsys.readouterr()

    def again(expected):
        assert run(scans, "--model", model, "--out", out, "--posteriors") == 0
        assert expected in capsys.readouterr().out
        assert kept.exists()
        assert json.loads((out / "a_space-working_probseg.json").read_text())["Structures"] == [*LABELS.names]

    again("2 segmented, 0 done before")
    assert (out / "a_dseg.nii.gz").read_bytes() == before
    again("0 segmented, 2 done before")
    first = kept.read_bytes()
    kept.write_bytes(b"of another model")
    kept.with_name("a_space-working_probseg.json").write_text('{"Request": "other"}')
    again("1 segmented, 1 done before")
    assert kept.read_bytes() == first
    (out / "quality.csv").unlink()
    again("2 segmented, 0 done before")
    assert set(rows(out / "quality.csv")) == {"a", "b"}
    assert run(scans, "--model", model, "--out", out) == 0  # nothing is missing of what is asked for
    assert "0 segmented, 2 done before" in capsys.readouterr().out


def test_a_bad_scan_ends_nothing_but_itself(model, scans, tmp_path, capsys):
    data = np.full((9, 9, 9), np.nan, np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), scans / "bad.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)), scans / "flat.nii.gz")
    out = tmp_path / "out"
    assert run(scans, "--model", model, "--out", out) == 1
    said = capsys.readouterr()
    assert "2 segmented, 0 done before, 2 failed" in said.out
    assert "NaN" in said.err
    assert "constant" in said.err
    assert set(rows(out / "volumes.csv")) == {"a", "b"}


def test_the_tally_is_plain_sums():
    """Volumes and expected Dice against sums written out; slabs of any thickness add up to the same."""
    p = np.random.default_rng(2).dirichlet([1, 1, 1, 1], (5, 6, 4)).transpose(3, 0, 1, 2).astype(np.float32)
    tally = Tally(LABELS, 2.5, exclusive=True)
    list(tally.watch(slabs_of_array(p[1:])))
    pieces = Tally(LABELS, 2.5, exclusive=True)
    for start in range(5):
        pieces.add(Slab(0, start, torch.from_numpy(p[1:, start : start + 1].copy())))
    found = tally.measured()
    hard = p.argmax(0)
    for s, name in enumerate(LABELS.names, 1):
        assert found.volumes[name] == pytest.approx(p[s].sum(dtype=np.float64) * 2.5, rel=1e-6)
    q, h = (p[1] + p[2]).astype(np.float64), (hard == 1) | (hard == 2)
    assert found.quality["a"] == pytest.approx(2 * q[h].sum() / (q.sum() + h.sum()), rel=1e-6)
    assert pieces.measured().quality == pytest.approx(found.quality)
    assert pieces.measured().volumes == pytest.approx(found.volumes)


def test_quality_of_certainty_is_one_and_of_nothing_nan():
    sure = np.zeros((3, 4, 4, 4), np.float32)
    sure[0, :2] = 1
    tally = Tally(LABELS, 1.0, exclusive=True)
    list(tally.watch(slabs_of_array(sure)))
    found = tally.measured()
    assert found.quality["a"] == 1
    assert np.isnan(found.quality["b"])
    assert found.volumes == {"left a": 32.0, "right a": 0.0, "b": 0.0}


def test_groups_are_freesurfers_where_the_names_are():
    groups = groups_of(HEAD_LABELS)
    names = HEAD_LABELS.names
    assert {k: [names[i] for i in v] for k, v in groups.items()} == {
        "white matter": ["left cerebral white matter", "right cerebral white matter"],
        "cerebral cortex": ["left cerebral cortex", "right cerebral cortex"],
        "CSF and ventricles": ["left lateral ventricle", "CSF", "right lateral ventricle"],
        "brain-stem": ["brain-stem"],
        "thalamus": ["left thalamus", "right thalamus"],
        "putamen and pallidum": ["left putamen", "right putamen"],
    }
    assert groups_of(LABELS) == {"a": [0, 1], "b": [2]}


def test_posteriors_need_a_working_grid(tmp_path):
    class OnItsOwnGrid:
        label_set, channels, exclusive = LABELS, ("image",), True

    with pytest.raises(DataError, match="posteriors on the working grid are a network's"):
        MeasuredPredictor(OnItsOwnGrid(), tmp_path, posteriors=True, overwrite=False)


def test_a_table_keeps_its_rows(tmp_path):
    table = MeasureTable(tmp_path / "v.csv", ["x", "y"])
    table.put("b", {"x": 1, "y": 2}, 1)
    again = MeasureTable(tmp_path / "v.csv", ["x", "y"])
    assert again.has("b")
    again.put("a", {"x": 3, "y": float("nan")}, 1)
    assert (tmp_path / "v.csv").read_text() == "case,x,y\na,3.0,nan\nb,1.0,2.0\n"
    with pytest.raises(StorageError, match="other columns") as caught:
        MeasureTable(tmp_path / "v.csv", ["x"])
    assert "--overwrite" in str(caught.value)
    assert not MeasureTable(tmp_path / "v.csv", ["x"], replace=True).has("a")
    assert MeasureTable(tmp_path / "v.csv", ["x", "y"], replace=True).has("a")  # rows of other scans stay


def test_measuring_changes_no_voxel(model, scans):
    from mriad.images import read_volume

    predictor = load_predictor(model)
    channels = {"image": read_volume(scans / "b.nii.gz")}
    plain = predictor(channels)
    measured = MeasuredPredictor(predictor, model.parent / "t", posteriors=False, overwrite=False)
    np.testing.assert_array_equal(measured(channels).probabilities, plain.probabilities)
    assert json.dumps(measured.channels) == '["image"]'
