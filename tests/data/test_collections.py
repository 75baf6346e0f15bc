"""Named collections on synthetic trees in their published layouts: all cases, labels and domains; what is missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.preparation import load_sample
from mriad.registry import registry
from mriad_data.collections import (
    COLLECTIONS,
    Brats2021,
    CrossModa,
    Hippocampus,
    Isbi2015,
    Ixi,
    Joint,
    Ms7t,
    Msseg2016,
    SpineExternal,
    SynthSegMaps,
    UmclMs,
)
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from published_trees import drop, faults, touch

DOCS = Path(__file__).parents[2] / "docs" / "data"


def test_every_collection_is_registered_and_has_a_page_and_a_licence():
    for collection in COLLECTIONS:
        assert registry().get("dataset", collection.type_name()) is collection
        assert collection.licence
        (page,) = re.findall(r"docs/data/([\w-]+\.md)", collection.__doc__)
        text = (DOCS / page).read_text()
        assert collection.type_name() in text
        for heading in ("## Licence", "## How to get it", "## Expected layout"):
            assert heading in text, f"{page} has no '{heading}'"


def test_umcl(tmp_path):
    for n in (1, 2):
        prefix = "" if n == 1 else "patient02_"  # the mirror mixes both
        for name in ("FLAIR", "T1W", "T2W", "T1WKS", "brainmask", "consensus_gt"):
            touch(tmp_path, f"coregistered/patient{n:02d}/{prefix}{name}.nii.gz")
        touch(tmp_path, f"coregistered/patient{n:02d}/T1W_to_FLAIR.txt")
    index = UmclMs(root=tmp_path).build()
    assert index.column("id") == ["patient01", "patient02"]
    assert list(index[0].channels) == ["T1w", "T2w", "FLAIR"]
    assert index[1].labels["hard"].source.location.endswith("patient02_consensus_gt.nii.gz")
    assert list(index[1].annotations) == ["brain_mask"]
    assert list(UmclMs(root=tmp_path, channels=["T1w-Gd"]).build()[0].channels) == ["T1w-Gd"]
    drop(
        tmp_path,
        "coregistered/patient01/FLAIR.nii.gz",
        "coregistered/patient02/patient02_consensus_gt.nii.gz",
    )
    text = faults(UmclMs(root=tmp_path, complete=True))
    assert "has 3 faults" in text
    assert "image FLAIR" in text
    assert "missing for patient01" in text
    assert "missing for patient02" in text
    assert "2 are here, 30 were published" in text
    touch(tmp_path, "other/patient02/FLAIR.nii.gz")
    assert "is FLAIR of patient02, but so is coregistered" in faults(UmclMs(root=tmp_path))


def test_umcls_reader_reads_the_real_pack(real_data):
    index = UmclMs(root=real_data / "ms-lesions" / "cross-sectional").build()
    assert index.persons == ("sub-07", "sub-19")
    sizes = []
    for case in index:
        sample = load_sample(case, ["T1w", "T2w", "FLAIR"], "hard", "hard", index.label_set)
        assert sample.image.shape[0] == 3
        sizes.append(int(sample.target.sum()))
    assert sizes == [1300, 49769]  # the pack's own counts


def test_isbi(tmp_path):
    for person, visits in (("training01", 4), ("training02", 2), ("test01", 2)):
        for n in range(1, visits + 1):
            scan = f"{person}_{n:02d}"
            for word in ("flair", "mprage", "pd", "t2"):
                touch(
                    tmp_path,
                    f"{person}/preprocessed/{scan}_{word}_pp.nii",
                    f"{person}/orig/{scan}_{word}.nii.gz",
                )
            if person.startswith("training"):
                touch(tmp_path, f"{person}/masks/{scan}_mask1.nii", f"{person}/masks/{scan}_mask2.nii")
    index = Isbi2015(root=tmp_path, rater=2).build()
    assert len(index) == 6
    assert index.persons == ("training01", "training02")
    assert index[0].id == "training01_01"
    assert index[0].session == "01"
    assert index[0].labels["hard"] == index[0].labels["rater2"]
    assert index[0].labels["rater1"].source.location.endswith("training01_01_mask1.nii")
    every = Isbi2015(root=tmp_path, part="all", channels=["T1w", "T2w", "PDw", "FLAIR"]).build()
    assert len(every) == 8
    assert len(every.where(has=["label:hard"])) == 6
    assert len(Isbi2015(root=tmp_path, part="test").build()) == 2
    drop(
        tmp_path,
        "training01/masks/training01_03_mask2.nii",
        "training02/preprocessed/training02_01_mprage_pp.nii",
    )
    text = faults(Isbi2015(root=tmp_path, complete=True))
    assert "label rater2" in text
    assert "missing for training01_03" in text
    assert "missing for training02_01" in text
    assert "2 are here, 5 were published" in text


def test_msseg(tmp_path):
    for place in ("Center_01/Patient_01", "Center_01/Patient_02", "Center_07/Patient_01"):
        for word in ("DP", "FLAIR", "GADO", "T1", "T2"):
            touch(
                tmp_path,
                f"{place}/Preprocessed_Data/{word}_preprocessed.nii.gz",
                f"{place}/Raw_Data/{word}.nii.gz",
            )
        touch(tmp_path, f"{place}/Masks/Consensus.nii.gz", f"{place}/Masks/Brain_Mask.nii.gz")
        for n in range(1, 8):
            touch(tmp_path, f"{place}/Masks/ManualSegmentation_{n}.nii.gz")
    index = Msseg2016(root=tmp_path).build()
    assert index.persons == ("Center_01_Patient_01", "Center_01_Patient_02", "Center_07_Patient_01")
    assert index.column("domain") == ["Center_01", "Center_01", "Center_07"]
    assert list(index[0].channels) == ["T1w", "FLAIR"]
    raw = Msseg2016(root=tmp_path, images="raw", channels=["FLAIR"]).build()
    assert raw[0].channels["FLAIR"].location.endswith("Raw_Data/FLAIR.nii.gz")
    drop(tmp_path, "Center_07/Patient_01/Masks/Consensus.nii.gz")
    assert "missing for Center_07_Patient_01" in faults(Msseg2016(root=tmp_path))
    assert len(Msseg2016(root=tmp_path, exclude=["Center_07_Patient_01"]).build()) == 2


def test_seven_tesla(tmp_path):
    touch(
        tmp_path,
        "sub-1/anat/sub-1_UNIT1.nii.gz",
        "sub-1/anat/sub-1_FLAIR.nii.gz",
        "sub-2/ses-a/anat/sub-2_ses-a_T1w.nii.gz",
        "sub-2/ses-a/anat/sub-2_ses-a_FLAIR.nii.gz",
        "derivatives/labels/sub-1/anat/sub-1_FLAIR_label-lesion_seg.nii.gz",
    )
    index = Ms7t(root=tmp_path).build()
    assert index.column("id") == ["sub-1", "sub-2_ses-a"]
    assert index.column("domain") == ["7T", "7T"]
    assert index.where(has=["label:hard"]).persons == ("sub-1",)
    assert "no label 'hard'" in faults(Ms7t(root=tmp_path, missing_label="refuse"))
    drop(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz")
    assert "no image for channel FLAIR (sub-1_FLAIR)" in faults(Ms7t(root=tmp_path))


def test_brats(tmp_path):
    for n in (0, 2, 3):
        for word in ("flair", "t1", "t1ce", "t2", "seg"):
            touch(tmp_path, f"BraTS2021_{n:05d}/BraTS2021_{n:05d}_{word}.nii.gz")
    index = Brats2021(root=tmp_path).build()
    assert index.column("id") == ["BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"]
    assert list(index[0].channels) == ["T1w", "FLAIR"]
    assert index[0].channels["T1w"].location.endswith("_t1.nii.gz")
    assert dict(index[0].labels) == {}
    assert len(index.label_set) == 0
    labelled = Brats2021(root=tmp_path, labelled=True).build()
    assert {s.name: s.value for s in labelled.label_set.structures} == {
        "necrotic_core": 1,
        "oedema": 2,
        "enhancing": 4,
    }
    drop(tmp_path, "BraTS2021_00002/BraTS2021_00002_t1.nii.gz", "BraTS2021_00003/BraTS2021_00003_seg.nii.gz")
    text = faults(Brats2021(root=tmp_path, labelled=True))
    assert "image T1w" in text
    assert "label hard" in text
    assert len(Brats2021(root=tmp_path, missing_image="leave_out").build()) == 2


def test_ixi(tmp_path):
    for name in ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI035-IOP-0873"):
        touch(tmp_path, f"IXI-T1/{name}-T1.nii.gz", f"IXI-T2/{name}-T2.nii.gz")
    index = Ixi(root=tmp_path).build()
    assert index.column("id") == ["IXI002_T1w", "IXI012_T1w", "IXI035_T1w"]
    assert index.column("domain") == ["Guys", "HH", "IOP"]
    assert len(Ixi(root=tmp_path, contrasts=["T1w", "T2w"]).build()) == 6
    assert "does not hold IXI" in faults(Ixi(root=tmp_path, contrasts=["MRA"]))
    with pytest.raises(ValidationError, match="the number of persons is not stated"):
        Ixi(root=tmp_path, complete=True)


def test_synthseg_maps(tmp_path):
    for n in (1, 2):
        touch(tmp_path, f"training_label_maps/training_seg_{n:02d}.nii.gz")
    lists = tmp_path / "labels_classes_priors"
    lists.mkdir()
    np.save(lists / "generation_labels.npy", np.array([0, 14, 2, 41]))
    np.save(lists / "generation_classes.npy", np.array([0, 1, 2, 2]))
    index = SynthSegMaps(root=tmp_path / "training_label_maps").build()
    assert index.column("id") == ["training_seg_01", "training_seg_02"]
    assert index.label_set.names == (
        "3rd_ventricle",
        "left_cerebral_white_matter",
        "right_cerebral_white_matter",
    )
    assert "published  20" in faults(SynthSegMaps(root=tmp_path / "training_label_maps", complete=True))
    (lists / "generation_classes.npy").unlink()
    assert "not complete" in faults(SynthSegMaps(root=tmp_path / "training_label_maps"))


def test_synthsegs_reader_reads_the_real_pack(real_data):
    index = SynthSegMaps(root=real_data / "brain-labels" / "labelmaps", table="../labels.tsv").build()
    assert (len(index), len(index.label_set)) == (14, 53)


def test_crossmoda(tmp_path):
    for n in (1, 2):
        touch(
            tmp_path,
            f"source_training/crossmoda_{n}_ceT1.nii.gz",
            f"source_training/crossmoda_{n}_Label.nii.gz",
        )
    touch(
        tmp_path, "target_training/crossmoda_106_hrT2.nii.gz", "target_validation/crossmoda_211_hrT2.nii.gz"
    )
    index = CrossModa(root=tmp_path).build()
    assert index.column("id") == ["crossmoda_1_ceT1", "crossmoda_106_hrT2", "crossmoda_2_ceT1"]
    assert index.column("domain") == ["ceT1", "hrT2", "ceT1"]
    assert [list(case.labels) for case in index] == [["hard"], [], ["hard"]]
    assert {s.name: s.value for s in index.label_set.structures} == {"vs": 1, "cochlea": 2}
    target = CrossModa(root=tmp_path, parts=["target_training", "target_validation"]).build()
    assert set(target.column("contrast")) == {"hrT2"}
    drop(tmp_path, "source_training/crossmoda_1_Label.nii.gz", "source_training/crossmoda_2_ceT1.nii.gz")
    text = faults(CrossModa(root=tmp_path, complete=True))
    assert "has 3 faults" in text
    assert "missing for crossmoda_1_ceT1" in text
    assert "missing for crossmoda_2" in text
    assert "210 were published" in text


def test_crossmoda_as_later_years_name_it(tmp_path):
    place = "training_source/crossmoda2021_ldn_1"
    touch(
        tmp_path,
        f"{place}_ceT1.nii.gz",
        f"{place}_Label.nii.gz",
        "training_target/crossmoda2021_ldn_106_hrT2.nii.gz",
    )
    index = CrossModa(root=tmp_path).build()
    assert index.persons == ("crossmoda2021_ldn_1", "crossmoda2021_ldn_106")


def test_joints_side_by_side(tmp_path):
    for joint, names in (("ankle", ("a1", "a2")), ("shoulder", ("s1",))):
        for name in names:
            touch(tmp_path, f"{joint}/images/{name}.nii.gz", f"{joint}/labels/{name}.nii.gz")
    ankle = Joint(root=tmp_path / "ankle", joint="ankle").build()
    shoulder = Joint(root=tmp_path / "shoulder", joint="shoulder").build()
    assert ankle.label_set.names == ("calcaneus", "talus", "tibia")
    assert shoulder.label_set.names == ("scapula", "humerus")
    assert ankle.column("domain") == ["ankle", "ankle"]
    drop(tmp_path, "ankle/labels/a2.nii.gz", "ankle/images/a1.nii.gz")
    text = faults(Joint(root=tmp_path / "ankle", joint="ankle", complete=True))
    assert "has 3 faults" in text
    assert "missing for a1" in text
    assert "missing for a2" in text
    assert "2 are here, 17 were published" in text
    knee = Joint(root=tmp_path / "shoulder", joint="other", structures={"femur": 1}).build()
    assert knee.label_set.names == ("femur",)


def test_hippocampus(tmp_path):
    for n in (1, 3):
        touch(tmp_path, f"imagesTr/hippocampus_{n:03d}.nii.gz", f"labelsTr/hippocampus_{n:03d}.nii.gz")
    touch(tmp_path, "imagesTr/._hippocampus_001.nii.gz", "imagesTs/hippocampus_002.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}})
    )
    index = Hippocampus(root=tmp_path).build()
    assert index.column("id") == ["hippocampus_001", "hippocampus_003"]
    assert index.label_set.names == ("anterior", "posterior")
    assert Hippocampus(root=tmp_path, part="test").build().column("id") == ["hippocampus_002"]
    drop(tmp_path, "labelsTr/hippocampus_003.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "Posterior"}}))
    text = faults(Hippocampus(root=tmp_path, complete=True))
    assert "has 3 faults" in text
    assert "not Anterior 1 and Posterior 2" in text
    assert "missing for hippocampus_003" in text
    assert "260 were published" in text


def test_hippocampus_reader_reads_the_real_pack(real_data):
    index = Hippocampus(root=real_data / "hippocampus").build()
    assert len(index) == 80
    domains = index.column("domain")
    assert {d: domains.count(d) for d in "ABC"} == {"A": 26, "B": 34, "C": 20}  # the pack's own counts
    for case in index[:4]:
        assert load_sample(case, ["MRI"], "hard", "hard", index.label_set).target.max() == 2


@pytest.mark.parametrize("collection", [c for c in COLLECTIONS if c is not SynthSegMaps])
def test_empty_and_absent_folders(tmp_path, collection):
    more = {Joint: {"joint": "ankle"}, SpineExternal: {"dataset": "sci-t2w"}}.get(collection, {})
    text = faults(collection(root=tmp_path, **more))
    assert "expected" in text
    assert str(tmp_path) in text
    with pytest.raises(DataError, match="there is no such folder"):
        collection(root=tmp_path / "none", **more).build()


def test_links_and_clashes_are_reported_with_the_rest(tmp_path):
    for word in ("flair", "t1"):
        touch(tmp_path, f"BraTS2021_00001/BraTS2021_00001_{word}.nii.gz")
    touch(tmp_path, "bRATS2021_00001/x.nii.gz")
    (tmp_path / "BraTS2021_00002").mkdir()
    for word in ("flair", "t1"):
        (tmp_path / "BraTS2021_00002" / f"BraTS2021_00002_{word}.nii.gz").symlink_to("gone")
    (tmp_path / "loop").symlink_to(tmp_path)
    text = faults(Brats2021(root=tmp_path, exclude=["nobody"]))
    for part in (
        "has 5 faults",
        "a link to nothing",
        "leads back into itself",
        "is one file with",
        "'nobody' names no",
    ):
        assert part in text
