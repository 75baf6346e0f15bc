"""What the soft ground truth stage refuses, with the person, the contrast and the reason."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from mriad.errors import DataError, ExperimentError
from mriad.geometry import Grid
from mriad.images import FileSource, write_like
from mriad.vocabulary import CaseIndex, Label, LabelSet
from mriad_softseg.soft_ground_truth import SoftGroundTruth
from tubes_setup import GRID, SHAPE, Tube, Tubes


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
