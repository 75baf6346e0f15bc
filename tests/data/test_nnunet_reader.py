"""nnU-Net raw data (both versions) and the Decathlon: what dataset.json says, and everything that does not fit it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.preparation import load_sample
from mriad.testing import check_dataset
from mriad_data.nnunet import NnunetRaw
from pydantic import ValidationError

if TYPE_CHECKING:
    from pathlib import Path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def facts(root: Path, **content) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))


def faults(dataset) -> str:
    with pytest.raises(DataError) as found:
        dataset.build()
    return str(found.value)


V2 = {
    "channel_names": {"0": "T1w", "1": "FLAIR"},
    "labels": {"background": 0, "lesion": 1, "brain stem": 2, "ignore": 3},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def two(tmp_path, write):
    """nnU-Net 2 with two channels, voxels included."""
    draw = np.random.default_rng(0)
    facts(tmp_path, **V2)
    for case in ("p1_v1", "p1_v2"):
        for n in range(2):
            write(
                tmp_path / "imagesTr" / f"{case}_{n:04d}.nii.gz",
                draw.normal(size=(4, 5, 6)).astype(np.float32),
            )
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", draw.integers(0, 4, (4, 5, 6)).astype(np.uint8))
    return tmp_path


def test_version_2(two):
    index = NnunetRaw(root=two, person="(p[0-9]+)_").build()
    assert index.column("id") == ["p1_v1", "p1_v2"]
    assert index.persons == ("p1",)
    assert list(index[0].channels) == ["T1w", "FLAIR"]
    assert index[0].channels["FLAIR"].location == str(two / "imagesTr" / "p1_v1_0001.nii.gz")
    assert {s.name: s.value for s in index.label_set.structures} == {"lesion": 1, "brain_stem": 2}
    assert index.label_set.ignore == (3,)
    sample = load_sample(index[0], ["T1w", "FLAIR"], "hard", "hard", index.label_set)
    assert sample.image.shape == (2, 4, 5, 6)
    assert sample.validity.min() == 0  # the label "ignore" is not annotated
    check_dataset(NnunetRaw(root=two))


def test_version_2_with_a_list_of_files(two):
    names = {
        "a": {
            "images": ["imagesTr/p1_v1_0000.nii.gz", "imagesTr/p1_v1_0001.nii.gz"],
            "label": "labelsTr/p1_v1.nii.gz",
        }
    }
    facts(two, **{**V2, "numTraining": 1, "dataset": names})
    text = faults(NnunetRaw(root=two))
    assert "imagesTr/p1_v2_0000.nii.gz" in text
    assert "is not listed in dataset.json" in text
    for path in [*two.glob("*/p1_v2*")]:
        path.unlink()
    (two / "labelsTr" / "p1_v1.nii.gz").rename(two / "labelsTr" / "a.nii.gz")
    names["a"]["label"] = "labelsTr/a.nii.gz"
    facts(two, **{**V2, "numTraining": 1, "dataset": names})
    assert NnunetRaw(root=two).build().column("id") == ["a"]


@pytest.mark.parametrize("split", [True, False])
def test_version_1_and_the_decathlon(tmp_path, write, split):
    """Two modalities: as CASE_0000.nii.gz (nnU-Net 1), or as one 4D file (Decathlon)."""
    draw = np.random.default_rng(0)
    voxels = draw.normal(size=(4, 5, 6, 2)).astype(np.float32)
    for case in ("BRATS_001", "BRATS_002"):
        if split:
            for n in range(2):
                write(tmp_path / "imagesTr" / f"{case}_{n:04d}.nii.gz", voxels[..., n])
        else:
            write(tmp_path / "imagesTr" / f"{case}.nii.gz", voxels)
        write(tmp_path / "labelsTr" / f"{case}.nii.gz", draw.integers(0, 2, (4, 5, 6)).astype(np.uint8))
    write(tmp_path / "imagesTs" / ("BRATS_003_0000.nii.gz" if split else "BRATS_003.nii.gz"), voxels[..., 0])
    if split:
        write(tmp_path / "imagesTs" / "BRATS_003_0001.nii.gz", voxels[..., 1])
    touch(tmp_path, "imagesTr/._BRATS_001.nii.gz")  # the Decathlon's archives hold such files
    pairs = [
        {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"}
        for c in ("BRATS_001", "BRATS_002")
    ]
    facts(
        tmp_path,
        modality={"0": "FLAIR", "1": "T1w"},
        labels={"0": "background", "1": "edema"},
        numTraining=2,
        training=pairs,
        test=["./imagesTs/BRATS_003.nii.gz"],
    )
    index = NnunetRaw(root=tmp_path).build()
    assert index.column("id") == ["BRATS_001", "BRATS_002"]
    assert list(index[0].channels) == ["FLAIR", "T1w"]
    for n, name in enumerate(("FLAIR", "T1w")):
        np.testing.assert_array_equal(index[1].channels[name].read().data, voxels[..., n])
    assert index.label_set.names == ("edema",)
    check_dataset(NnunetRaw(root=tmp_path))
    test = NnunetRaw(root=tmp_path, part="test").build()
    assert test.column("id") == ["BRATS_003"]
    assert dict(test[0].labels) == {}
    assert NnunetRaw(root=tmp_path, part="all", domain="msd").build().column("domain") == ["msd"] * 3


def test_a_wrong_dataset_json(tmp_path):
    with pytest.raises(DataError, match=r"has no dataset\.json") as found:
        NnunetRaw(root=tmp_path).build()
    assert "mriad init" in str(found.value)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json cannot be read"):
        NnunetRaw(root=tmp_path).build()
    for content in ([], {"labels": [1]}, {"channel_names": {"0": "x"}}):
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match="not that of nnU-Net or of the Decathlon"):
            NnunetRaw(root=tmp_path).build()
    with pytest.raises(DataError, match="there is no such folder"):
        NnunetRaw(root=tmp_path / "none").build()


def test_all_faults_of_dataset_json_come_in_one_report(tmp_path):
    facts(
        tmp_path,
        channel_names={"1": "T1w"},
        labels={"a": 1, "b": 1, "whole": [1, 2], "c": "x", "a!": 4, "a?": 5},
        file_ending=".png",
        numTraining=3,
        training=[{"image": 3}],
    )
    text = faults(NnunetRaw(root=tmp_path))
    for part in (
        "channels count 0, 1, 2 …, not 1",
        "labels 'a' and 'b' have one value, 1",
        "label 'whole' is a region of several values",
        "label 'c' has the value 'x'",
        "two labels are called 'a!'",
        "no label has the value 0, which is background",
        "file_ending is .png",
        "a list of files is not understood",
        "numTraining is 3, but there are 0 cases",
        "imagesTr",
    ):
        assert part in text


def test_all_faults_of_the_files_come_in_one_report(tmp_path):
    facts(tmp_path, **{**V2, "numTraining": 9})
    touch(
        tmp_path,
        "imagesTr/a_0000.nii.gz",
        "imagesTr/a_0001.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTr/c_0000.nii.gz",
        "imagesTr/c_0001.nii.gz",
        "imagesTr/c_0002.nii.gz",
        "imagesTr/d.nii.gz",
        "imagesTr/A_0000.nii.gz",
        "imagesTr/e_0000.nii",
        "imagesTr/e_0001.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
        "labelsTr/e.nii.gz",
        "labelsTr/z.nii.gz",
    )
    (tmp_path / "labelsTr" / "c.nii.gz").symlink_to("gone")
    text = faults(NnunetRaw(root=tmp_path))
    for part in (
        "channel FLAIR is missing (_0001)",
        "channel _0002 is more than dataset.json names",
        "the name does not end in the channel's number",
        "does not end in .nii.gz, as dataset.json says",
        "labelsTr/z.nii.gz",
        "a label without image",
        "is one file with A_0000.nii.gz",
        "the label is missing (labelsTr/A)",
        "the label is missing (labelsTr/c.nii.gz)",
        "a link to nothing",
        "numTraining is 9, but there are 5 cases",
    ):
        assert part in text


def test_files_that_are_listed_but_not_there(tmp_path):
    facts(
        tmp_path,
        modality={"0": "T1"},
        labels={"0": "background", "1": "x"},
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        numTraining=1,
    )
    touch(tmp_path, "imagesTr/b.nii.gz", "labelsTr/b.nii.gz")
    text = faults(NnunetRaw(root=tmp_path))
    assert "has 4 faults" in text
    assert "imagesTr/a.nii.gz is missing" in text
    assert "the label is missing (labelsTr/a.nii.gz)" in text
    assert "is not listed in dataset.json" in text
    assert "a label without image" in text


def test_an_empty_data_set_and_persons_that_do_not_fit(tmp_path):
    facts(tmp_path, **{**V2, "numTraining": 0})
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataError, match="holds no case"):
        NnunetRaw(root=tmp_path).build()
    facts(tmp_path, **{**V2, "channel_names": {"0": "T1w"}, "numTraining": 1})
    touch(tmp_path, "imagesTr/größe_0000.nii.gz", "labelsTr/größe.nii.gz")
    assert NnunetRaw(root=tmp_path).build().column("id") == ["größe"]
    assert "does not fit person" in faults(NnunetRaw(root=tmp_path, person="(sub-.*)"))
    with pytest.raises(ValidationError, match="needs a group"):
        NnunetRaw(root=tmp_path, person="sub-.*")


def test_the_real_hippocampus_pack_without_its_description(real_data):
    """The pack has no dataset.json: the reader says so, and reads it once there is one."""
    with pytest.raises(DataError, match=r"has no dataset\.json"):
        NnunetRaw(root=real_data / "hippocampus").build()


def test_the_real_hippocampus_with_a_description(real_data, tmp_path):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).symlink_to(real_data / "hippocampus" / name)
    pairs = [
        {"image": f"./imagesTr/{p.name}", "label": f"./labelsTr/{p.name}"}
        for p in sorted((real_data / "hippocampus" / "imagesTr").iterdir())
    ]
    facts(
        tmp_path,
        modality={"0": "MRI"},
        labels={"0": "background", "1": "Anterior", "2": "Posterior"},
        numTraining=80,
        training=pairs,
    )
    index = NnunetRaw(root=tmp_path).build()
    assert (len(index), index.label_set.names) == (80, ("Anterior", "Posterior"))
    for case in index[:5]:
        assert load_sample(case, ["MRI"], "hard", "hard", index.label_set).target.max() == 2
