"""The stage on cases: who is averaged, what is written, what is refused, and what its fingerprint covers."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError, ExperimentError
from mriad.experiment.model import Experiment
from mriad.geometry import Grid
from mriad.images import FileSource, write_like
from mriad.interfaces import Dataset
from mriad.registry import Registered, registry
from mriad.stages.dataset import open_dataset
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.testing import check_stage
from mriad.vocabulary import Case, CaseIndex, Label, LabelSet, Volume
from mriad_softseg.soft_ground_truth import SoftGroundTruth

RADIUS = {"T2w": 5.0, "T1w": 6.0, "DWI": 7.0}
SHAPE = (25, 25, 12)
GRID = Grid.of(SHAPE, np.diag([1, 1, 2, 1.0]))


@dataclass(frozen=True)
class Tube:
    """A cord mask, or its image, that follows from a few numbers."""

    radius: float
    offset: float = 0.0
    """Whole voxels, so that every person's discs are alike."""
    thing: str = "mask"
    first: int = 0
    last: int = 12

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def location(self) -> str:
        return f"tube {self.radius:g}"

    def read(self) -> Volume:
        x, y = np.meshgrid(np.arange(25) - 12, np.arange(25) - 12 - self.offset, indexing="ij")
        inside = np.repeat((np.hypot(x, y) <= self.radius)[..., None], 12, 2)
        inside[:, :, : self.first], inside[:, :, self.last :] = False, False
        if self.thing == "soft":
            return Volume(inside * np.float32(0.7), GRID)
        if self.thing == "blobs":
            inside[0, 0, 3] = True
        return Volume(inside.astype(np.uint8), GRID)


@dataclass(frozen=True)
class Disc:
    """One point with a value."""

    value: int

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def location(self) -> str:
        return "disc"

    def read(self) -> Volume:
        data = np.zeros(SHAPE, np.uint8)
        data[12, 8, 6] = self.value
        return Volume(data, GRID)


class Tubes(Dataset):
    """Six persons with three contrasts each; `change` puts another source in the place of one mask."""

    type: Literal["tubes.data"] = "tubes.data"
    persons: int = 6
    case: str = ""
    change: dict[str, float | int | str] | Literal["none", "soft_kind", "twice", "absent"] = "none"

    def build(self) -> CaseIndex:
        cases = []
        for n in range(self.persons):
            for contrast, radius in RADIUS.items():
                case = Case(
                    f"p{n}_{contrast}",
                    f"p{n}",
                    {"image": Tube(radius, float(n - 2), "image")},
                    {"hard": Label("hard", Tube(radius, float(n - 2)))},
                    contrast=contrast,
                    domain=contrast,
                )
                if case.id == self.case and self.change == "absent":
                    continue
                cases.append(self._changed(case, n) if case.id == self.case else case)
                if case.id == self.case and self.change == "twice":
                    cases.append(replace(case, id=f"{case.id}_again"))
        return CaseIndex(cases, LabelSet.of({"cord": 1}))

    def _changed(self, case: Case, n: int) -> Case:
        if self.change == "none":
            return replace(case, labels={})
        if self.change == "soft_kind":
            return replace(case, labels={"hard": replace(case.labels["hard"], kind="soft")})
        if isinstance(self.change, dict):
            given = {"radius": RADIUS[case.contrast], "offset": float(n - 2), **self.change}
            return replace(case, labels={"hard": Label("hard", Tube(**given))})
        return case


@pytest.fixture(autouse=True)
def tubes(monkeypatch):
    monkeypatch.setitem(registry().components["dataset"], "tubes.data", Registered(Tubes, "tubes", "tests"))


@pytest.fixture
def make():
    """An experiment; p0 and p1 test, p2 validates, the others train, unless another split is given."""

    def made(stage=None, split=None, **data) -> Experiment:
        return Experiment.model_validate(
            {
                "name": "soft",
                "data": {
                    "dataset": {"type": "tubes.data", **data},
                    "labels": {"kind": "soft", "from": "softgt"},
                    "split": split or {"type": "data.random_split", "validation": 1, "test": 2},
                },
                "model": "standard.plain_unet",
                "loss": {"type": "standard.mse"},
                "predict": {"head": "standard.identity"},
                "evaluate": {"metrics": ["eval.dice"]},
                "stages": {
                    "softgt": {"type": "softseg.soft_ground_truth", "trim_mm": 0, **(stage or {})},
                    "train": {"type": "core.train"},
                },
            }
        )

    return made


@pytest.fixture
def run(make, context_of):
    """Run the stage; return the artefact and its cases by id."""

    def ran(stage=None, split=None, folder="softgt", **data):
        experiment = make(stage, split, **data)
        node = next(n for n in expand(experiment) if n.name == "softgt")
        artefact = node.stage.run(context_of(node.experiment, folder))
        return artefact, {case.id: case for case in open_dataset(artefact.folder)}

    return ran


def voxels(case: Case, label: str) -> np.ndarray:
    return case.labels[label].source.read().data


def ray(case: Case, label: str = "soft", k: int = 4) -> list[float]:
    """Values from the centre of the disc to the right."""
    return voxels(case, label)[12:, 12 + int(case.person[1:]) - 2, k].tolist()


def test_contract(make, context_of):
    experiment = make({"gate": {"dice": 0.5}})
    check_stage(expand(experiment).nodes["softgt"].stage, context_of(experiment))


def test_what_is_written(run):
    artefact, cases = run({"gate": {"dice": 0.5}})
    assert set(cases) == {f"p{n}_{c}" for n in range(6) for c in RADIUS}
    case = cases["p4_DWI"]
    assert {n: label.kind for n, label in case.labels.items()} == {"soft": "soft", "shared_hard": "sparse"}
    soft = voxels(case, "soft")
    assert soft.dtype == np.float32
    # inside all, two, one of three, none
    assert [round(ray(case)[i], 4) for i in (0, 5, 6, 7, 9)] == [1, 1, 0.6667, 0.3333, 0]
    assert np.array_equal(voxels(case, "shared_hard"), soft > 0.5)
    assert np.array_equal(case.labels["soft"].validity.read().data, np.ones(SHAPE))
    assert np.allclose(nib.load(case.labels["soft"].source.path).affine, GRID.matrix)
    rows = list(csv.DictReader((artefact.folder / "report.csv").open(newline="")))
    assert [r["case"] for r in rows][:3] == ["p0_T2w", "p0_T1w", "p0_DWI"]
    assert {r["says"] for r in rows} == {"target covers 100 % of this image's slices"}
    area = {r["contrast"]: float(r["mask_area_mm2"]) for r in rows if r["person"] == "p4"}
    assert area == {c: float((Tube(r, 2.0).read().data[:, :, 0] != 0).sum()) for c, r in RADIUS.items()}
    assert {round(float(r["target_area_mm2"]), 2) for r in rows if r["person"] == "p4"} == {
        round(sum(area.values()) / 3, 2)
    }
    report = json.loads((artefact.folder / "report.json").read_text())
    assert [r["person"] for r in report] == [f"p{n}" for n in range(6)]
    assert artefact.summary["persons"] == 6
    assert artefact.summary["least_percent"] == 100
    shared = nib.load(artefact.folder / "shared" / "p4_T2w_soft.nii.gz").get_fdata(dtype=np.float32)
    assert np.array_equal(shared, voxels(cases["p4_T2w"], "soft"))


def test_what_is_not_covered_is_not_annotated(run):
    _, cases = run({"gate": {"dice": 0.5}}, case="p4_DWI", change={"first": 3, "last": 8})
    dwi, t2w = cases["p4_DWI"], cases["p4_T2w"]
    valid = dwi.labels["soft"].validity.read().data
    assert np.array_equal(valid.any(axis=(0, 1)), [3 <= k < 8 for k in range(12)])
    assert np.array_equal(valid.any(axis=(0, 1)), valid.all(axis=(0, 1)))
    assert not voxels(dwi, "soft")[:, :, ~valid.any(axis=(0, 1))].any()
    assert t2w.labels["soft"].validity.read().data.all()
    assert [ray(t2w, k=k)[6] for k in range(12)] == pytest.approx([1 / 2] * 3 + [2 / 3] * 5 + [1 / 2] * 4)


def test_discs_of_the_reference_reach_the_cases_that_have_none(make, context_of, monkeypatch):
    from mriad.stages.train import index_of

    build = Tubes.build

    def with_discs(self):
        index = build(self)
        own = {"discs": Disc(3)}
        return CaseIndex(
            [replace(c, annotations=own) if c.id in ("p4_T2w", "p4_T1w") else c for c in index],
            index.label_set,
        )

    monkeypatch.setattr(Tubes, "build", with_discs)
    experiment = make({"gate": {"dice": 0.5}})
    artefact = expand(experiment).nodes["softgt"].stage.run(context_of(experiment))
    cases = {case.id: case for case in index_of(experiment, labels=str(artefact.folder))}
    found = cases["p4_DWI"].annotations["discs"].read().data
    assert {int(found[tuple(p)]): p.tolist() for p in np.argwhere(found)} == {3: [12, 8, 6]}
    assert isinstance(cases["p4_T1w"].annotations["discs"], Disc)  # its own stays
    assert not cases["p3_DWI"].annotations
    rows = list(csv.DictReader((artefact.folder / "report.csv").open(newline="")))
    assert {r["case"]: r["discs"] for r in rows if r["discs"]} == {"p4_DWI": "1"}


def test_several_processes_give_the_same_and_the_finished_are_not_done_again(make, context_of):
    experiment = make(
        {"gate": {"dice": 0.5}},
    )
    stage = expand(experiment).nodes["softgt"].stage
    alone, several = (
        context_of(experiment, "one"),
        context_of(
            experiment.model_copy(update={"resources": experiment.resources.model_copy(update={"cpus": 2})}),
            "two",
        ),
    )
    # A worker process cannot import this module: its sources must be files there.
    index = Tubes().build()
    for case in index:
        for part, source in (("image", case.channels["image"]), ("hard", case.labels["hard"].source)):
            write_like(alone.folder.parent / f"{case.id}_{part}.nii.gz", source.read().data, GRID, "labels")
    place = alone.folder.parent
    files = CaseIndex(
        [
            replace(
                c,
                channels={"image": FileSource(str(place / f"{c.id}_image.nii.gz"))},
                labels={"hard": Label("hard", FileSource(str(place / f"{c.id}_hard.nii.gz")))},
            )
            for c in index
        ],
        index.label_set,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tubes, "build", lambda self: files)
        stage.run(alone)
        stage.run(several)
        before = {p: p.stat().st_mtime_ns for p in (alone.folder / "soft").iterdir()}
        stage.run(alone)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for path in before:
        assert path.read_bytes() == (several.folder / "soft" / path.name).read_bytes()


LEAVE = {"type": "data.leave_domain_out", "values": ["DWI"], "test": 2, "validation": 1}


class TestSplits:
    def test_a_held_out_contrast_stays_out_of_training_targets(self, run, make):
        from mriad.flow import gather_cases

        experiment = make(split=LEAVE)
        cases = gather_cases(experiment, experiment.data.dataset.build(), 0, 0, made_later=True)
        tested = {case.person for case in cases.side("test")}
        _, made = run({"gate": {"dice": 0.5}}, split=LEAVE)
        for case in made.values():
            soft = ray(case)
            if case.person in tested:
                assert soft[6] == pytest.approx(2 / 3)
            else:
                assert case.contrast != "DWI"
                assert soft[6] == pytest.approx(1 / 2)
                assert soft[7] == 0
        assert len(made) == 2 * 3 + 4 * 2

    def test_two_contrasts_shrink_target_and_training_set(self, run, make):
        from mriad.flow import gather_cases

        experiment = make()
        cases = gather_cases(experiment, experiment.data.dataset.build(), 0, 0, made_later=True)
        tested = {case.person for case in cases.side("test")}
        _, made = run({"contrasts": ["T1w", "T2w"], "gate": {"dice": 0.5}})
        assert {c.contrast for c in made.values() if c.person not in tested} == {"T1w", "T2w"}
        assert {c.contrast for c in made.values() if c.person in tested} == set(RADIUS)
        one = next(c for c in made.values() if c.person not in tested)
        other = next(c for c in made.values() if c.person in tested)
        assert ray(one)[6] == pytest.approx(1 / 2)
        assert ray(other)[6] == pytest.approx(2 / 3)

    def test_the_fingerprint_covers_split_test_masks_and_fields(self, make):
        def of(*args, **data):
            return fingerprints(expand(make(*args, **data)))["softgt"]

        plain = of()
        assert of() == plain
        assert of({"gaps": "zero"}) != plain
        assert of({"contrasts": ["T1w", "T2w"]}) != plain
        assert of(split={"type": "data.random_split", "validation": 2, "test": 2}) != plain
        changed = [of(case=f"p{n}_DWI", change={"radius": 6.9}) for n in range(6)]
        # those of persons who test, too: their targets are what is tested against
        assert len({plain, *changed}) == 7
        left = of(split=LEAVE)
        # also of a scan that is on no side: training persons' masks of the contrast that is held out
        assert of(split=LEAVE, case="p5_DWI", change={"radius": 6.9}) != left

    def test_a_reference_that_is_held_out(self, run):
        leave = {**LEAVE, "values": ["T2w"]}
        with pytest.raises(DataError) as caught:
            run({"gate": {"dice": 0.5}}, split=leave)
        assert "the reference is missing or held out; there are T1w, DWI" in str(caught.value).replace(
            "DWI, T1w", "T1w, DWI"
        )
        artefact, made = run(
            {"reference": ["T2w", "T1w"], "gate": {"dice": 0.5}}, split=leave, folder="other"
        )
        used = {r["reference"] for r in json.loads((artefact.folder / "report.json").read_text())}
        assert used == {"T1w", "T2w"}
        assert {c.contrast for c in made.values()} == set(RADIUS)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("none", ["p4 DWI", "no mask", "no label 'hard'"]),
            ("twice", ["p4 DWI", "two cases of one contrast in a session"]),
            ("soft_kind", ["p4 DWI", "a soft mask stands where a hard one is meant", "tube 7"]),
            ({"thing": "soft"}, ["p4 DWI", "a soft mask stands where a hard one is meant"]),
            ({"thing": "blobs"}, ["p4 DWI", "several blobs on one slice", "3 (2 blobs)"]),
            ({"first": 12}, ["p4 DWI", "the mask is empty"]),
            (
                {"offset": -4.0, "radius": 6.0},
                ["p4 DWI", "shifted by 6.0 mm (at most 5)", "before alignment 0."],
            ),
            ({"radius": 12}, ["p4", "Dice with the shared target", "at least 0.8"]),
        ],
    )
    def test_is_refused_with_its_person_and_contrast(self, run, change, words):
        with pytest.raises(DataError, match="1 of 6 persons have masks that make no shared target") as caught:
            run({"gate": {"dice": 0.8}}, case="p4_DWI", change=change)
        for word in words:
            assert word in str(caught.value)
        assert "faulty: leave_out" in str(caught.value)

    def test_masks_that_cover_no_slice_in_common(self, run, monkeypatch):
        build = Tubes.build

        def shifted(self):
            index = build(self)
            low = Label("hard", Tube(5, last=4))
            high = Label("hard", Tube(7, first=8))
            cases = [
                replace(c, labels={"hard": low if c.contrast == "T2w" else high})
                if c.person == "p4" and c.contrast != "T1w"
                else c
                for c in index
            ]
            return CaseIndex(cases, index.label_set)

        monkeypatch.setattr(Tubes, "build", shifted)
        with pytest.raises(DataError) as caught:
            run({"gate": {"dice": 0.5}})
        assert "the masks of DWI and of the reference T2w cover no slice in common" in str(caught.value)
        assert "S 0 to 6 mm" in str(caught.value)
        assert "S 16 to 22 mm" in str(caught.value)

    def test_a_listed_contrast_that_a_person_lacks(self, run):
        with pytest.raises(DataError) as caught:
            run({"contrasts": ["T2w", "DWI"], "gate": {"dice": 0.5}}, case="p4_DWI", change="absent")
        assert "the person has no such scan" in str(caught.value)

    def test_a_faulty_person_is_left_out_where_asked(self, run):
        artefact, cases = run(
            {"gate": {"dice": 0.5}, "faulty": "leave_out"}, case="p4_DWI", change={"first": 12}
        )
        assert {c.person for c in cases.values()} == {f"p{n}" for n in (0, 1, 2, 3, 5)}
        assert artefact.summary["left_out"] == 1
        report = json.loads((artefact.folder / "report.json").read_text())
        assert "the mask is empty" in report[4]["faults"]["DWI"]

    def test_no_masks_at_all(self, run):
        with pytest.raises(DataError, match="no case has a label 'manual' to average") as caught:
            run({"masks": "manual"})
        assert "labels found  hard" in str(caught.value)

    def test_the_trim_leaves_nothing(self, run):
        with pytest.raises(DataError, match="make no shared target") as caught:
            run({"gate": {"dice": 0.5}, "trim_mm": 12})
        assert "p0 DWI" in str(caught.value)
        assert "nothing of the mask is left after the trim" in str(caught.value)

    def test_several_structures(self, run, monkeypatch):
        build = Tubes.build
        monkeypatch.setattr(
            Tubes, "build", lambda self: CaseIndex(list(build(self)), LabelSet.of({"cord": 1, "csf": 2}))
        )
        with pytest.raises(DataError, match="made of one structure") as caught:
            run()
        assert "cord, csf" in str(caught.value)

    def test_mask_and_image_on_different_grids(self, run, monkeypatch, tmp_path):
        build = Tubes.build
        for name, off in (("near", 0.02), ("far", 0.3)):
            matrix = GRID.matrix
            matrix[0, 3] += off
            grid = Grid.of(SHAPE, matrix)
            write_like(tmp_path / f"{name}.nii.gz", np.ones(SHAPE, np.uint8), grid, "labels")

        def on(name):
            def changed(self):
                index = build(self)
                image = {"image": FileSource(str(tmp_path / f"{name}.nii.gz"))}
                return CaseIndex(
                    [replace(c, channels=image) if c.id == "p4_T1w" else c for c in index], index.label_set
                )

            return changed

        monkeypatch.setattr(Tubes, "build", on("far"))
        with pytest.raises(DataError) as caught:
            run({"gate": {"dice": 0.5}})
        assert "p4 T1w" in str(caught.value)
        assert "mask and image do not share a voxel grid" in str(caught.value)
        assert "0.3 mm" in str(caught.value)
        monkeypatch.setattr(Tubes, "build", on("near"))
        _, cases = run({"gate": {"dice": 0.5}}, folder="near")
        affine = nib.load(cases["p4_T1w"].labels["soft"].source.path).affine
        assert affine[0, 3] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"trim_mm_of": {"DWI": -1}}, "trim_mm_of must hold lengths of 0 mm or more, not DWI: -1"),
        ({"contrasts": ["T1w", "DWI"]}, "the reference T2w is not one of the contrasts T1w, DWI"),
        ({"reference": []}, "reference must name a contrast"),
        ({"program": "sct"}, "set rotation: none and gaps: zero"),
    ],
)
def test_settings_that_cannot_be_meant(fields, words):
    with pytest.raises(ValueError, match=words):
        SoftGroundTruth.model_validate(fields)


def test_where_sct_is_not_installed(run, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ExperimentError, match="Spinal Cord Toolbox is not installed") as caught:
        run({"program": "sct", "gaps": "zero"})
    assert "sct_register_multimodal" in str(caught.value)
    assert "program: mriad" in str(caught.value)
