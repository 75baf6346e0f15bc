"""The stage on cases: who is averaged, what is written, what is refused, and what its fingerprint covers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError
from mriad.images import FileSource, write_like
from mriad.stages.fingerprints import fingerprints
from mriad.stages.graph import expand
from mriad.testing import check_stage
from mriad.vocabulary import CaseIndex, Label
from tubes_setup import GRID, RADIUS, SHAPE, Disc, Tube, Tubes, ray, voxels


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
