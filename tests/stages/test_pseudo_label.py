"""Pseudo-labels: which cases, what is written, what is kept; the data set is read back with nibabel alone."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError
from mriad.experiment.model import ResourcesSection
from mriad.stages.artefact import Artefact, StageContext
from mriad.stages.dataset import write_dataset
from mriad.stages.pseudo_label import PseudoLabel
from mriad.vocabulary import Case, Label, LabelSet


@dataclass(frozen=True)
class Found:
    probabilities: np.ndarray
    grid: object
    label_set: LabelSet
    exclusive: bool = True


class FakePredictor:
    """Says what the image says: cord where it is above 1, csf where below −1; the order of structures is turned."""

    channels = ("image",)
    label_set = LabelSet.of({"csf": 1, "cord": 2})

    def __init__(self, log, domain):
        self.log, self.domain = log, domain

    def __call__(self, channels):
        volume = channels["image"]
        self.log.append((self.domain, float(volume.data.flat[0])))
        p = np.zeros((2, *volume.data.shape), np.float32)
        p[0][volume.data < -1] = 0.9
        p[1][volume.data > 1] = 0.7
        return Found(p, volume.grid, self.label_set)


@pytest.fixture
def label(make, tmp_path, talk, monkeypatch):
    """Run `core.pseudo_label` with a fake predictor; return artefact, rows and the log of calls."""
    import mriad.inference.load as load

    log: list = []
    monkeypatch.setattr(load, "load_predictor", lambda folder, device, domain="": FakePredictor(log, domain))

    def labelled(data=None, inputs=None, **fields):
        log.clear()
        stage = PseudoLabel.model_validate({"with": "teacher", **fields})
        folder = tmp_path / "stage"
        folder.mkdir(exist_ok=True)
        experiment = make(data={"dataset": "toy.data", **(data or {})})
        made = {"teacher": Artefact("predictor", tmp_path, "t"), **(inputs or {})}
        context = StageContext("labels", folder, experiment, made, 0, 0, "f" * 64, talk, None)
        artefact = stage.run(context)
        with (folder / "manifest.csv").open(newline="") as file:
            return artefact, list(csv.DictReader(file)), log

    return labelled


class TestWhichCases:
    def test_training_persons_without_a_target_by_default(self, label):
        # toy split: case0, case1 test; case2 validation; odd cases have no label
        artefact, rows, _ = label()
        assert [row["id"] for row in rows] == ["case3", "case5", "case7"]
        assert [row["person"] for row in rows] == ["person3", "person5", "person7"]
        assert artefact.summary == {"cases": 3, "kept": 3, "dropped": []}
        assert artefact.kind == "dataset"

    @pytest.mark.parametrize(
        ("word", "ids"),
        [("labelled", "46"), ("all", "34567"), ("T1w", "46"), ("target", "357")],
    )
    def test_words(self, label, word, ids):
        _, rows, log = label(data={"domains": {"source": "T1w", "target": "T2w"}}, cases=word)
        assert [row["id"] for row in rows] == [f"case{i}" for i in ids]
        domains = {"source" if int(i) % 2 == 0 else "target" for i in ids}
        assert {domain for domain, _ in log} == domains
        # the data set keeps the values of the data, so that `data.domains` fits it again
        assert {row["contrast"] for row in rows} <= {"T1w", "T2w"}
        assert {row["domain"] for row in rows} == {""}

    def test_nothing_is_meant(self, label):
        with pytest.raises(DataError, match="no training case is meant by `cases: flair`") as caught:
            label(cases="flair")
        assert "T1w, T2w" in str(caught.value.where["known"])

    def test_a_data_set_of_a_stage(self, label, tmp_path, monkeypatch, grid, ramp):
        from mriad.stages import dataset
        from mriad.vocabulary import CaseIndex

        made = CaseIndex(
            [Case(f"new{i}", f"person{i}", {"image": ramp(i)}) for i in (1, 2, 5)],
            LabelSet.of({"cord": 7, "csf": 3}),
        )
        monkeypatch.setattr(dataset, "open_dataset", lambda folder: made)
        _, rows, _ = label(cases="translated", inputs={"translated": Artefact("dataset", tmp_path, "d")})
        # persons 1 (test) and 2 (validation) stay out, whatever a stage made of them
        assert [row["id"] for row in rows] == ["new5"]


class TestWhatIsWritten:
    def test_hard_labels_lie_in_the_scan_with_the_data_sets_values(self, label, tmp_path, grid, ramp):
        _, rows, _ = label()
        row = rows[0]
        assert row["kind:hard"] == "pseudo"
        image = nib.load(tmp_path / "stage" / row["label:hard"])
        voxels = ramp(3).read().data
        assert np.array_equal(
            np.asanyarray(image.dataobj), np.where(voxels > 1, 7, np.where(voxels < -1, 3, 0))
        )
        assert np.allclose(image.affine, grid.matrix)
        assert row["number:area_mm2/C3"] == "73.5"
        # the image came from a generator and is a file now
        stored = nib.load(tmp_path / "stage" / row["image:image"])
        assert np.array_equal(stored.get_fdata(dtype=np.float32), voxels)
        structures = json.loads((tmp_path / "stage" / "labels.yaml").read_text())
        assert structures == {"structures": {"cord": 7, "csf": 3}, "ignore": []}

    def test_soft_labels_are_in_the_order_of_the_data_set(self, label, tmp_path, ramp):
        _, rows, _ = label(kind="soft", name="dream")
        image = nib.load(tmp_path / "stage" / rows[0]["label:dream"])
        voxels = ramp(3).read().data
        assert image.shape == (4, 5, 6, 2)
        assert rows[0]["kind:dream"] == "soft"
        cord, csf = np.moveaxis(image.get_fdata(), 3, 0)
        assert np.allclose(cord, 0.7 * (voxels > 1))
        assert np.allclose(csf, 0.9 * (voxels < -1))

    def test_voxels_below_the_confidence_are_invalid_not_background(self, label, tmp_path, ramp):
        _, rows, _ = label(confidence=0.8)
        mask = np.asanyarray(nib.load(tmp_path / "stage" / rows[0]["validity:hard"]).dataobj)
        assert np.array_equal(mask, ~(ramp(3).read().data > 1))

    def test_the_confidence_of_each_voxel_may_weigh_it(self, label, tmp_path, ramp):
        _, rows, _ = label(weigh=True)
        image = nib.load(tmp_path / "stage" / rows[0]["confidence:hard"])
        voxels = ramp(3).read().data
        expected = np.where(voxels > 1, 0.7, np.where(voxels < -1, 0.9, 1.0))
        assert np.allclose(image.get_fdata(), expected, atol=1 / 500)
        assert "validity:hard" not in rows[0]

    def test_structures_that_the_predictor_does_not_know_are_not_annotated(self, label, monkeypatch):
        monkeypatch.setattr(FakePredictor, "label_set", LabelSet.of({"cord": 2}))
        real = FakePredictor.__call__

        def one(self, channels):
            found = real(self, channels)
            return Found(found.probabilities[1:], found.grid, self.label_set)

        monkeypatch.setattr(FakePredictor, "__call__", one)
        _, rows, _ = label()
        assert rows[0]["annotated:hard"] == "cord"

    def test_the_name_of_the_target(self, label):
        _, rows, _ = label(data={"labels": {"kind": "hard", "name": "manual"}})
        assert "label:manual" in rows[0]


class TestKeep:
    def test_cases_without_a_structure_are_dropped_and_counted(self, label, talk, monkeypatch):
        real = FakePredictor.__call__

        def blind(self, channels):
            found = real(self, channels)
            if len(self.log) == 1:
                found.probabilities[0] = 0
            if len(self.log) == 2:
                found.probabilities[:] = 0
            return found

        monkeypatch.setattr(FakePredictor, "__call__", blind)
        # {csf missing}, {none}, {both}: one is kept
        artefact, rows, _ = label(keep={"all_present": ["cord", "csf"]})
        assert [row["id"] for row in rows] == ["case7"]
        assert artefact.summary == {"cases": 3, "kept": 1, "dropped": ["case3", "case5"]}
        assert "kept 1 of 3 pseudo-labelled cases" in talk.messages

    def test_nothing_kept(self, label, monkeypatch):
        empty = lambda self, c: Found(np.zeros((2, 4, 5, 6), np.float32), c["image"].grid, self.label_set)  # noqa: E731
        monkeypatch.setattr(FakePredictor, "__call__", empty)
        with pytest.raises(DataError, match="no pseudo-labelled case passes `keep`"):
            label(keep={"all_present": ["cord"]})

    def test_a_misspelt_structure(self, label):
        with pytest.raises(
            DataError, match=r"'cords', which the predictor does not segment; did you mean 'cord'\?"
        ):
            label(keep={"all_present": ["cords"]})

    def test_a_structure_that_the_data_set_lacks(self, label, monkeypatch):
        monkeypatch.setattr(FakePredictor, "label_set", LabelSet.of({"csf": 1, "tumour": 2}))
        with pytest.raises(DataError, match="segments structures that the data set does not have") as caught:
            label()
        assert caught.value.where["structures"] == "tumour"


class TestResume:
    def test_finished_cases_are_not_done_again(self, label, monkeypatch):
        real = FakePredictor.__call__

        def dies(self, channels):
            if len(self.log) == 2:
                raise KeyboardInterrupt
            return real(self, channels)

        with monkeypatch.context() as patch:
            patch.setattr(FakePredictor, "__call__", dies)
            with pytest.raises(KeyboardInterrupt):
                label()
        _, rows, log = label()
        assert len(rows) == 3
        assert len(log) == 1

    def test_a_case_that_fails_is_named(self, label, monkeypatch):
        def fails(self, channels):
            raise RuntimeError("no memory")

        monkeypatch.setattr(FakePredictor, "__call__", fails)
        with pytest.raises(DataError, match="a case failed") as caught:
            label()
        assert caught.value.where["case"] == "case3"

    def test_with_gpus_a_worker_of_the_launcher_does_it(self, make, tmp_path, talk):
        asked = {}

        class Launcher:
            def run(self, function, payload, *, resources, name, folder, reporter):
                asked.update(resources=resources, payload=payload, name=name)
                return {"cases": 1}

        experiment = make(resources=ResourcesSection(gpus=1, workers=2))
        stage = PseudoLabel.model_validate({"with": "teacher"})
        inputs = {"teacher": Artefact("predictor", tmp_path, "t")}
        context = StageContext("labels", tmp_path, experiment, inputs, 0, 0, "f" * 64, talk, Launcher())
        assert stage.run(context).summary == {"cases": 1}
        assert (asked["resources"].workers, asked["resources"].gpus) == (1, 1)


class TestDatasetFolder:
    def test_a_source_that_is_no_file(self, tmp_path, ramp):
        case = Case("a", "a", {"image": ramp(1)}, {"hard": Label("hard", ramp(2))})
        with pytest.raises(TypeError, match="make it one with `as_file`"):
            write_dataset(tmp_path, [case], LabelSet.of({"cord": 1}))
        assert not (tmp_path / "manifest.csv").exists()

    def test_read_back_by_data_manifest(self, label, tmp_path):
        manifest = pytest.importorskip("mriad_data.manifest").Manifest
        label(confidence=0.8, kind="soft")
        index = manifest(path=str(tmp_path / "stage" / "manifest.csv")).build()
        assert index.label_set == LabelSet.of({"cord": 7, "csf": 3})
        case = index[0]
        assert (case.id, case.person, case.contrast) == ("case3", "person3", "T2w")
        assert case.labels["hard"].kind == "soft"
        assert case.labels["hard"].source.read().data.shape == (2, 4, 5, 6)
        assert case.labels["hard"].validity.read().data.shape == (4, 5, 6)
        assert dict(case.numbers) == {"area_mm2/C3": 73.5}
