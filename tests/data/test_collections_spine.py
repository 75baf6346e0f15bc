"""spine-generic and the external cord folders on synthetic trees in their published layouts; the real pack."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from mriad.errors import SplitError
from mriad.experiment.load import load
from mriad.preparation import load_sample
from mriad_data.collections import SpineExternal, SpineGeneric
from mriad_data.collections.spines import read_persons
from mriad_data.manifest import read_yaml
from mriad_data.splits import PublishedSplit
from mriad_data.splits.published import SPINE_GENERIC

sys.path.insert(0, str(Path(__file__).parent))
from published_trees import drop, faults, touch

RAW = {
    "T1w": "anat/{}_T1w",
    "T2w": "anat/{}_T2w",
    "T2star": "anat/{}_T2star",
    "MTon": "anat/{}_flip-1_mt-on_MTS",
    "GRE-T1w": "anat/{}_flip-2_mt-off_MTS",
    "DWI": "dwi/{}_rec-average_dwi",
}


@pytest.fixture
def spine(tmp_path):
    """Three persons of two sites; one with the names of the first release."""
    for person in ("sub-amu01", "sub-unf02", "sub-ucl03"):
        for path in RAW.values():
            name = path.format(person)
            if person == "sub-ucl03":
                name = name.replace("flip-1_mt-on_MTS", "acq-MTon_MTS").replace(
                    "flip-2_mt-off_MTS", "acq-T1w_MTS"
                )
            ending = "seg-manual" if person == "sub-ucl03" else "label-SC_seg"
            touch(
                tmp_path,
                f"{person}/{name}.nii.gz",
                f"{person}/{name}.json",
                f"derivatives/labels/{person}/{name}_{ending}.nii.gz",
                f"derivatives/labels_softseg/{person}/{name}_softseg.nii.gz",
            )
        touch(tmp_path, f"derivatives/labels/{person}/anat/{person}_T2w_label-discs_dlabel.nii.gz")
        # Present in the published set, and none of the six: the 4D diffusion series, the third MTS image.
        touch(
            tmp_path, f"{person}/dwi/{person}_dwi.nii.gz", f"{person}/anat/{person}_flip-1_mt-off_MTS.nii.gz"
        )
    rows = "participant_id\tmanufacturer\nsub-amu01\tSiemens\nsub-unf02\tGE\nsub-ucl03\tPhilips\n"
    (tmp_path / "participants.tsv").write_text(rows)
    return tmp_path


def test_spine_generic(spine):
    index = SpineGeneric(root=spine, soft=True).build()
    assert len(index) == 18
    assert set(index.column("contrast")) == set(RAW)
    assert index.column("domain") == index.column("contrast")
    assert index.column("id")[:6] == [f"sub-amu01_{c}" for c in RAW]
    for case in index:
        assert set(case.labels) == {"hard", "soft"}
        assert case.labels["soft"].source.stacked
    assert index.where(contrast="T2w", has=["annotation:discs"]).persons == (
        "sub-amu01",
        "sub-ucl03",
        "sub-unf02",
    )
    vendors = SpineGeneric(root=spine, domain="participants:manufacturer", contrasts=["T2w"]).build()
    assert vendors.column("domain") == ["Siemens", "Philips", "GE"]


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_spine_generic_takes_the_persons_of_a_published_list(spine, ending):
    lists = {"train": ["sub-amu01"], "val": [], "test": [{"image": "x/sub-unf02/anat/sub-unf02_T2w.nii.gz"}]}
    path = spine / f"split.{ending}"
    path.write_text(json.dumps(lists))
    assert SpineGeneric(root=spine, persons_of=path).build().persons == ("sub-amu01", "sub-unf02")
    path.write_text(json.dumps({"train": ["sub-amu01", "sub-x9", "sub-x8"]}))
    text = faults(SpineGeneric(root=spine, persons_of=path))
    assert "2 of 3 listed persons are not in spine-generic" in text
    assert "sub-x8, sub-x9" in text
    path.write_text(json.dumps({"train": []}))
    assert "names nobody" in faults(SpineGeneric(root=spine, persons_of=path))


def test_the_papers_persons_are_243_of_267_and_24_are_left_out_for_a_reason():
    content = read_yaml(SPINE_GENERIC)
    sides = {side: set(content[side]) for side in ("train", "val", "test")}
    assert {side: len(names) for side, names in sides.items()} == {"train": 145, "val": 49, "test": 49}
    assert len(set.union(*sides.values())) == 243
    assert len(content["excluded"]) == 267 - 243
    assert not set(content["excluded"]) & set.union(*sides.values())
    assert all(content["excluded"].values())
    # The reasons name whole sites without one of the contrasts.
    assert {f"sub-beijingVerio0{n}" for n in range(1, 5)} <= set(content["excluded"])
    assert read_persons(SPINE_GENERIC) == set.union(*sides.values())


@pytest.fixture
def whole_spine(tmp_path):
    """All 267 persons, T2w alone."""
    content = read_yaml(SPINE_GENERIC)
    persons = [*content["train"], *content["val"], *content["test"], *content["excluded"]]
    for person in persons:
        name = f"anat/{person}_T2w"
        touch(
            tmp_path,
            f"{person}/{name}.nii.gz",
            f"derivatives/labels/{person}/{name}_label-SC_seg.nii.gz",
        )
    return tmp_path


def test_the_papers_split_is_there_by_name(whole_spine):
    dataset = SpineGeneric(root=whole_spine, contrasts=["T2w"], persons_of="paper", complete=True)
    index = dataset.build()
    assert len(index.persons) == 243
    split = PublishedSplit(of="spine_generic")
    sides = split.build(index, 0, 0)
    assert {side: len(ids) for side, ids in sides.items()} == {"train": 145, "validation": 49, "test": 49}
    assert "sub-amu02_T2w" in sides["test"]
    assert split.folds_of(index) == 1

    everybody = SpineGeneric(root=whole_spine, contrasts=["T2w"], complete=True).build()
    assert len(everybody.persons) == 267
    with pytest.raises(SplitError, match="does not name every case"):
        split.build(everybody, 0, 0)
    assert PublishedSplit(of="spine_generic", others="leave_out").build(everybody, 0, 0) == sides

    shutil.rmtree(whole_spine / "sub-amu02")
    text = faults(dataset)
    assert "1 of 243 listed persons are not in spine-generic" in text
    assert "sub-amu02" in text


@pytest.mark.parametrize(
    ("text", "meant"), [("paper", "paper"), ("./paper", "paper"), ("own.yaml", "own.yaml")]
)
def test_in_an_experiment_paper_is_a_word_and_anything_else_a_file(tmp_path, text, meant):
    raw = {
        "name": "spine",
        "data": {
            "dataset": {"type": "data.spine_generic", "root": "spine", "persons_of": text},
            "labels": "hard",
            "split": {"type": "data.published_split", "of": "spine_generic"},
        },
        "model": {"type": "standard.plain_unet", "features": [2, 4]},
        "loss": {"type": "standard.dice_ce"},
        "stages": {"train": {"type": "core.train"}},
    }
    (tmp_path / "experiment.yaml").write_text(json.dumps(raw))
    dataset = load(str(tmp_path / "experiment.yaml")).data.dataset
    assert dataset.persons_of == ("paper" if text == "paper" else tmp_path / meant)
    assert dataset.root == tmp_path / "spine"


def test_spine_generic_names_all_that_is_missing(spine):
    drop(
        spine,
        "sub-amu01/anat/sub-amu01_T2star.nii.gz",
        "derivatives/labels/sub-unf02/dwi/sub-unf02_rec-average_dwi_label-SC_seg.nii.gz",
        "derivatives/labels/sub-unf02/anat/sub-unf02_T1w_label-SC_seg.nii.gz",
    )
    text = faults(SpineGeneric(root=spine))
    assert "has 4 faults" in text  # the fourth: T2star's sidecar is left without its image
    assert "no image for contrast T2star (sub-amu01_T2star or sub-amu01_T2starw)" in text
    assert "sub-unf02/dwi/sub-unf02_rec-average_dwi.nii.gz" in text
    assert "no label 'hard' (sub-unf02_T1w_label-SC_seg or" in text
    drop(spine, "sub-amu01/anat/sub-amu01_T2star.json")
    rest = SpineGeneric(root=spine, missing_image="leave_out", missing_label="leave_out").build()
    assert len(rest) == 15
    assert len(SpineGeneric(root=spine, exclude=["sub-amu01", "sub-unf02"]).build()) == 6
    text = faults(SpineGeneric(root=spine, exclude=["sub-amu01", "sub-unf02"], complete=True))
    assert "published  267" in text


def test_spine_generics_reader_reads_the_real_pack(real_data):
    index = SpineGeneric(
        root=real_data / "spine", missing_image="leave_out", missing_label="leave_out", exclude=["sub-lumbar"]
    ).build()
    assert index.column("id") == [
        "sub-errsm30_T1w",
        "sub-errsm30_T2w",
        "sub-errsm30_T2star",
        "sub-errsm30_MTon",
        "sub-fakelesion_T2w",
        "sub-unf01_T1w",
        "sub-unf01_T2w",
    ]
    cases = {case.id: case for case in index}
    assert list(cases["sub-errsm30_T2w"].annotations) == ["discs", "levels"]
    for case in index:
        assert load_sample(case, ["image"], "hard", "hard", index.label_set).target.max() == 1


@pytest.mark.parametrize(
    ("dataset", "image"),
    [
        ("sci-t2w", "anat/sub-zh01_acq-sag_T2w"),
        ("ms-mp2rage", "anat/sub-zh01_UNIT1"),
        ("radiculopathy-epi", "func/sub-zh01_task-rest_desc-mocomean_bold"),
    ],
)
def test_external_spine_folders(tmp_path, dataset, image):
    touch(tmp_path, f"sub-zh01/{image}.nii.gz", f"derivatives/labels/sub-zh01/{image}_label-SC_seg.nii.gz")
    touch(tmp_path, "sub-zh02/anat/sub-zh02_PDw.nii.gz")
    index = SpineExternal(root=tmp_path, dataset=dataset).build()
    assert index.column("domain") == [dataset]
    assert index.persons == ("sub-zh01",)
    assert list(index[0].labels) == ["hard"]
    assert "no image for contrast" in faults(
        SpineExternal(root=tmp_path, dataset=dataset, missing_image="refuse")
    )
    assert "is not complete" in faults(SpineExternal(root=tmp_path, dataset=dataset, complete=True))
    own = SpineExternal(root=tmp_path, dataset=dataset, images=["PDw"], missing_label="keep").build()
    assert own.persons == ("sub-zh02",)
