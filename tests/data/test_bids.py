"""BIDS folders: the phantom's, the real pack's, and made ones in every shape."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.preparation import load_sample
from mriad.testing import check_dataset
from mriad.vocabulary import CaseIndex
from mriad_data.bids import Bids
from mriad_data.bids_names import Pattern, parse_name
from mriad_data.manifest import Manifest
from mriad_data.phantom.bids import write_bids
from mriad_data.phantom.dataset import PhantomSpine

if TYPE_CHECKING:
    from pathlib import Path


SIX = ["T1w", "T2w", "T2star", "MTon", "GRE-T1w", "DWI"]
PHANTOM = {
    "contrasts": SIX,
    "labels": {"hard": "label-cord_seg", "soft": "label-cord_desc-soft_probseg"},
    "structures": {"cord": 1},
    "annotations": {"discs": "label-discs_dlabel"},
}


def touch(root: Path, *names: str) -> None:
    """Empty files: a reader must not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def faults(dataset) -> str:
    with pytest.raises(DataError) as found:
        dataset.build()
    return str(found.value)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "spine"
    write_bids(PhantomSpine(persons=2, size_mm=(40, 40, 40), spacing_mm=4, rescans=1), out)
    return out


def test_the_phantom_is_read_as_its_manifest_says(phantom):
    index = Bids(root=phantom, **PHANTOM).build()
    listed = Manifest(path=phantom).build()
    assert index.column("id") == listed.column("id")
    assert index.column("person") == listed.column("person")
    assert index.column("session") == listed.column("session")
    assert index.column("domain") == listed.column("domain")
    for case, other in zip(index, listed, strict=True):
        assert case.channels["image"].fingerprint == other.channels["image"].fingerprint
        for name in ("hard", "soft"):
            assert case.labels[name].kind == name
            assert case.labels[name].source.fingerprint == other.labels[name].source.fingerprint
        assert case.annotations["discs"].read().data.max() > 0
    sample = load_sample(index[0], ["image"], "soft", "soft", index.label_set)
    assert sample.target.dtype == np.float32
    check_dataset(Bids(root=phantom, **PHANTOM))


def test_the_index_is_columnar_and_pickles(phantom):
    index = Bids(root=phantom, **PHANTOM).build()
    plain = CaseIndex(list(index), index.label_set)
    assert index.fingerprint == plain.fingerprint
    assert pickle.loads(pickle.dumps(index)).fingerprint == plain.fingerprint
    assert index.where(contrast="DWI").column("id") == [i for i in index.column("id") if i.endswith("DWI")]


def test_the_real_spine_pack(real_data):
    dataset = Bids(
        root=real_data / "spine",
        labels={"hard": "label-cord_seg", "gm": "label-gm_seg"},
        structures={"cord": 1},
        annotations={"levels": "label-levels_seg", "discs": ["label-discs_dlabel", "label-discs_points"]},
        missing_label="keep",
        exclude=["sub-lumbar", "sub-errsm30_DWImean"],
    )
    index = dataset.build()
    # Counted by hand in the pack's table: 21 images, of which 2 are left out.
    assert len(index) == 19
    assert len(index.persons) == 7
    cases = {case.id: case for case in index}
    assert index.where(has=["label:hard"]).column("id") == [
        "sub-errsm30_MToff",
        "sub-errsm30_MTon",
        "sub-errsm30_T1w",
        "sub-errsm30_T2star",
        "sub-errsm30_T2w",
        "sub-fakelesion_T2w",
        "sub-unf01_T1w",
        "sub-unf01_T2w",
    ]
    assert list(cases["sub-errsm30_T2w"].annotations) == ["levels", "discs"]
    assert set(np.unique(cases["sub-errsm30_T2w"].annotations["discs"].read().data)) == {0, 3, 5}
    assert cases["sub-ms_acq-ax_T2w"].contrast == "acq-ax_T2w"
    labelled = index.where(has=["label:hard"])
    for case in labelled:
        assert load_sample(case, ["image"], "hard", "hard", index.label_set).target.max() == 1
    six = Bids(
        root=real_data / "spine", contrasts={"T2w": ["T2w", "acq-ax_T2w"]}, missing_image="leave_out"
    ).build()
    assert six.column("id") == [
        "sub-errsm30_T2w",
        "sub-fakelesion_T2w",
        "sub-lumbar_T2w",
        "sub-ms_T2w",
        "sub-unf01_T2w",
    ]


def test_real_lesions_as_channels(real_data):
    index = Bids(
        root=real_data / "ms-lesions" / "cross-sectional",
        channels={"T1w": "T1w", "FLAIR": "FLAIR"},
        labels={"hard": "label-lesion_seg"},
        structures={"lesion": 1},
        annotations={"brain_mask": "label-brain_mask"},
        domain="name:ljubljana",
    ).build()
    assert index.column("id") == ["sub-07", "sub-19"]
    assert list(index[0].channels) == ["T1w", "FLAIR"]
    sample = load_sample(index[0], ["T1w", "FLAIR"], "hard", "hard", index.label_set)
    assert int(sample.target.sum()) == 1300  # the pack's table
    assert list(index[0].annotations) == ["brain_mask"]
    visits = Bids(root=real_data / "ms-lesions" / "longitudinal", channels={"FLAIR": "FLAIR"}).build()
    assert visits.column("session") == ["1", "2", "1", "2", "1", "2", "2"]
    assert len(visits.persons) == 5


def test_sessions_entities_runs_and_channels(tmp_path):
    for ses in ("a", "b"):
        anat = f"sub-1/ses-{ses}/anat/sub-1_ses-{ses}"
        touch(
            tmp_path,
            f"{anat}_T1w.nii.gz",
            f"{anat}_FLAIR.nii",
            f"{anat}_run-1_T2w.nii.gz",
            f"{anat}_run-2_T2w.nii.gz",
        )
        touch(tmp_path, f"derivatives/manual/sub-1/ses-{ses}/sub-1_ses-{ses}_label-lesion_seg.nii.gz")
    both = Bids(
        root=tmp_path,
        channels={"FLAIR": "FLAIR", "T1w": ["acq-mprage_T1w", "T1w"]},
        labels={"hard": "label-lesion_seg"},
        structures={"lesion": 1},
        domain="entity:ses",
    ).build()
    assert both.column("id") == ["sub-1_ses-a", "sub-1_ses-b"]
    assert both.column("session") == both.column("domain") == ["a", "b"]
    assert both.persons == ("sub-1",)
    assert list(both[0].channels) == ["FLAIR", "T1w"]
    assert (
        both[1]
        .labels["hard"]
        .source.location.endswith("manual/sub-1/ses-b/sub-1_ses-b_label-lesion_seg.nii.gz")
    )
    runs = Bids(root=tmp_path, contrasts={"T2w": "run-*_T2w"}).build()
    assert runs.column("id")[:2] == ["sub-1_ses-a_run-1_T2w", "sub-1_ses-a_run-2_T2w"]
    assert set(runs.column("contrast")) == {"T2w"}
    every = Bids(root=tmp_path).build()
    assert len(every) == 8
    assert "run-1_T2w" in every.column("contrast")


def test_sparse_labels_bring_their_mask(tmp_path):
    for n in (1, 2):
        touch(
            tmp_path, f"sub-{n}/anat/sub-{n}_T1w.nii.gz", f"derivatives/x/sub-{n}_T1w_label-cord_seg.nii.gz"
        )
    touch(tmp_path, "derivatives/x/sub-1_T1w_desc-annotated_mask.nii.gz")
    dataset = Bids(
        root=tmp_path,
        labels={"hard": "label-cord_seg"},
        kinds={"hard": "sparse"},
        validity={"hard": "desc-annotated_mask"},
        structures={"cord": 1},
    )
    with pytest.raises(DataError, match="has 1 fault") as found:
        dataset.build()
    assert "sub-2/anat/sub-2_T1w.nii.gz  no mask of what is annotated in 'hard'" in str(found.value)
    (case,) = dataset.model_copy(update={"exclude": ["sub-2"]}).build()
    assert case.labels["hard"].kind == "sparse"
    assert case.labels["hard"].validity.location.endswith("sub-1_T1w_desc-annotated_mask.nii.gz")
    soft = dataset.model_copy(update={"kinds": {}}).build()  # a mask may come with any kind, or not at all
    assert [case.labels["hard"].validity is None for case in soft] == [False, True]


def test_names_are_parsed():
    name = parse_name("sub-01_ses-2_acq-gre_run-1_T1w")
    assert (name.person, name.session, name.suffix, name.ending) == (
        "sub-01",
        "2",
        "T1w",
        "acq-gre_run-1_T1w",
    )
    for text in (
        "T1w",
        "sub-01",
        "sub-01_T2w_label-cord_seg",
        "sub-01_acq-_T1w",
        "sub-_T1w",
        "sub-01_label-x",
    ):
        assert parse_name(text) is None, text
    assert Pattern.of("mt-on_flip-1_MTS").fits(parse_name("sub-1_flip-1_mt-on_MTS"))
    assert not Pattern.of("T1w").fits(parse_name("sub-1_acq-gre_T1w"))
    assert not Pattern.of("acq-*_T1w").fits(parse_name("sub-1_T1w"))
    with pytest.raises(DataError, match="ending of an image's name"):
        Bids(root=".", contrasts={"T1w": "sub-01/T1w-"}).build()


def test_the_domain_comes_from_participants(tmp_path):
    for n in (1, 2, 3):
        touch(tmp_path, f"sub-{n}/anat/sub-{n}_T1w.nii.gz")
    rows = "participant_id\tsite\tage\nsub-1\tA\t30\nsub-2\tB\tn/a\n3\tA\t5\n"
    (tmp_path / "participants.tsv").write_text(rows)
    assert Bids(root=tmp_path, domain="participants:site").build().column("domain") == ["A", "B", "A"]
    text = faults(Bids(root=tmp_path, domain="participants:age"))
    assert "sub-2/anat/sub-2_T1w.nii.gz" in text
    assert "participants.tsv gives sub-2 no 'age'" in text
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-1\tA\nsub-1\tB\n")
    text = faults(Bids(root=tmp_path, domain="participants:site"))
    assert "has 3 faults" in text
    assert "sub-1 is listed twice" in text
    assert "gives sub-3 no 'site'" in text
    (tmp_path / "participants.tsv").write_text("name\tsite\n")
    assert "no column participant_id" in faults(Bids(root=tmp_path, domain="participants:site"))
    (tmp_path / "participants.tsv").unlink()
    assert "the table of persons is missing" in faults(Bids(root=tmp_path, domain="participants:site"))


def test_sidecars_are_inherited(tmp_path):
    for n in (1, 2):
        for ending in ("T1w", "acq-gre_T1w", "T2w"):
            touch(tmp_path, f"sub-{n}/anat/sub-{n}_{ending}.nii.gz")

    def sidecar(name, **content):
        (tmp_path / name).write_text(json.dumps(content))

    sidecar("T1w.json", Manufacturer="A", MagneticFieldStrength=3)
    sidecar("acq-gre_T1w.json", Manufacturer="B")
    sidecar("T2w.json", MagneticFieldStrength=1.5)
    sidecar("sub-2/sub-2_T1w.json", Manufacturer="C")
    sidecar("sub-1/anat/sub-1_T2w.json", Manufacturer="D")
    sidecar("sub-2/anat/sub-2_T2w.json", Manufacturer="E", MagneticFieldStrength=7)
    index = Bids(root=tmp_path, domain="sidecar:Manufacturer").build()
    domains = dict(zip(index.column("id"), index.column("domain"), strict=True))
    assert domains == {
        "sub-1_T1w": "A",
        "sub-1_acq-gre_T1w": "B",  # more entities win at one depth
        "sub-1_T2w": "D",
        "sub-2_T1w": "C",  # deeper wins
        "sub-2_acq-gre_T1w": "C",
        "sub-2_T2w": "E",
    }
    fields = Bids(root=tmp_path, domain="sidecar:MagneticFieldStrength").build().column("domain")
    assert sorted(fields) == ["1.5", "3", "3", "3", "3", "7"]
    text = faults(Bids(root=tmp_path, domain="sidecar:Vendor"))
    assert "has 6 faults" in text
    assert "no JSON sidecar gives 'Vendor'" in text
    (tmp_path / "T1w.json").write_text("{")
    assert "T1w.json" in faults(Bids(root=tmp_path, domain="sidecar:Manufacturer"))
