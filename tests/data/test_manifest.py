"""Manifests: what they say, all faults in one report, and the ones that ship."""

from __future__ import annotations

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.manifest import write_manifest
from mriad.preparation import load_sample
from mriad.testing import check_dataset
from mriad.vocabulary import CaseIndex, LabelSet
from mriad_data.manifest import Manifest
from pydantic import ValidationError

HEADER = (
    "id,person,session,contrast,domain,image:T1w,image:FLAIR,label:hard,label:fuzzy,kind:fuzzy,validity:hard"
)


@pytest.fixture
def folder(tmp_path, write):
    draw = np.random.default_rng(0)
    for name in ("a_t1", "a_fl", "b_t1", "b_fl"):
        write(tmp_path / "img" / f"{name}.nii.gz", draw.normal(size=(4, 5, 6)).astype(np.float32))
    write(tmp_path / "seg" / "a.nii.gz", draw.integers(0, 3, size=(4, 5, 6)).astype(np.uint8))
    write(tmp_path / "seg" / "a_soft.nii.gz", draw.random((4, 5, 6, 2)).astype(np.float32) / 2)
    write(tmp_path / "seg" / "a_valid.nii.gz", np.ones((4, 5, 6), np.uint8))
    (tmp_path / "labels.yaml").write_text("structures: {cord: 1, csf: 2}\nignore: [255]\n")
    return tmp_path


def table(folder, *rows, header=HEADER, name="manifest.csv"):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")
    return folder / name


GOOD = (
    "a,p1,ses-1,T1w,site1,img/a_t1.nii.gz,img/a_fl.nii.gz,seg/a.nii.gz,seg/a_soft.nii.gz,soft,seg/a_valid.nii.gz",
    "b,p2,,T1w,site2,img/b_t1.nii.gz,img/b_fl.nii.gz,,,,",
)


def test_every_column_arrives(folder):
    index = Manifest(path=table(folder, *GOOD)).build()
    first, second = index
    assert (first.id, first.person, first.session, first.contrast, first.domain) == (
        *("a", "p1", "ses-1", "T1w", "site1"),
    )
    assert list(first.channels) == ["T1w", "FLAIR"]
    assert first.channels["FLAIR"].location == str(folder / "img" / "a_fl.nii.gz")
    assert first.labels["hard"].kind == "hard"
    assert first.labels["hard"].validity.location == str(folder / "seg" / "a_valid.nii.gz")
    assert first.labels["fuzzy"].kind == "soft"
    assert second.labels == {}
    assert index.label_set == LabelSet.of({"cord": 1, "csf": 2}, ignore=[255])
    sample = load_sample(first, ["FLAIR", "T1w"], "fuzzy", "soft", index.label_set)
    assert sample.image.shape == (2, 4, 5, 6)
    assert sample.target.shape == (2, 4, 5, 6)
    check_dataset(Manifest(path=folder))


def test_a_yaml_manifest_says_the_same(folder):
    expected = Manifest(path=table(folder, *GOOD)).build()
    keys = HEADER.split(",")
    lines = ["structures: {cord: 1, csf: 2}", "ignore: [255]", "cases:"]
    for row in GOOD:
        cells = ", ".join(f'"{k}": "{v}"' for k, v in zip(keys, row.split(","), strict=True))
        lines.append(f"  - {{{cells}}}")
    (folder / "labels.yaml").unlink()
    (folder / "cases.yaml").write_text("\n".join(lines))
    assert Manifest(path=folder / "cases.yaml").build().fingerprint == expected.fingerprint


def test_numbers_and_tabs(folder):
    header = "id\tperson\timage:T1w\tnumber:area_mm2/C3"
    path = table(folder, "a\tp1\timg/a_t1.nii.gz\t71.5", header=header, name="manifest.tsv")
    assert dict(Manifest(path=path).build()[0].numbers) == {"area_mm2/C3": 71.5}


def test_root_and_structures_may_stand_in_the_experiment(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("tables")
    path = table(elsewhere, "a,p1,img/a_t1.nii.gz,seg/a.nii.gz", header="id,person,image:T1w,label:hard")
    index = Manifest(path=path, root=folder, structures={"one": 1, "two": 2}).build()
    assert index.label_set.names == ("one", "two")
    with pytest.raises(DataError, match="the folder of a data set is missing"):
        Manifest(path=path, root=folder / "none").build()
    with pytest.raises(DataError) as found:
        Manifest(path=path, root=folder).build()
    assert "add labels.yaml beside the table" in str(found.value)


def test_all_faults_come_in_one_report(folder):
    rows = (
        "a,p1,img/a_t1.nii.gz,seg/none.nii.gz,hard,x",
        "a,,img/b_t1.nii.gz,,,",
        "c,p3,,,,",
        "d,p4,img/missing.nii.gz,seg/a.nii.gz,fluffy,",
    )
    header = "id,person,image:T1w,label:hard,kind:hard,number:area"
    with pytest.raises(DataError) as found:
        Manifest(path=table(folder, *rows, header=header)).build()
    text = str(found.value)
    assert "has 7 faults" in text
    assert f"{folder / 'seg' / 'none.nii.gz'} is missing" in text
    assert "number:area is 'x', not a number" in text
    assert "id 'a' was used in line 2" in text
    assert "person is empty" in text
    assert "names neither an image nor a label" in text
    assert f"{folder / 'img' / 'missing.nii.gz'} is missing" in text
    assert "kind:hard is 'fluffy', not one of hard, soft, sparse, pseudo" in text
    for line in ("line 2", "line 3", "line 4", "line 5"):
        assert line in text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("id,persn,image:T1w", "did you mean 'person'?"),
        ("id,person,imge:T1w", "did you mean 'image:T1w'?"),
        ("id,person,image", "did you mean 'image:<name>'?"),
        ("id,subject,image:T1w", "missing (splits never cut a person"),
        ("id,person,validity:hard", "there is no column 'label:hard'"),
    ],
)
def test_columns_are_checked(folder, header, text):
    with pytest.raises(DataError) as found:
        Manifest(path=table(folder, "a,p1,img/a_t1.nii.gz", header=header)).build()
    assert text in str(found.value)


def test_a_hundred_missing_files_do_not_flood_the_report(folder):
    rows = [f"c{i},p{i},img/none{i}.nii.gz" for i in range(100)]
    with pytest.raises(DataError) as found:
        Manifest(path=table(folder, *rows, header="id,person,image:T1w")).build()
    assert "has 100 faults" in str(found.value)
    assert "and 80 more" in str(found.value)


def test_tables_that_are_none(folder, tmp_path_factory):
    with pytest.raises(DataError, match="there is no manifest") as found:
        Manifest(path=tmp_path_factory.mktemp("empty")).build()
    assert "mriad init" in str(found.value)
    with pytest.raises(DataError, match="holds no case"):
        Manifest(path=table(folder)).build()
    (folder / "bad.yaml").write_text("cases: {a: b}\nthings: 1\n")
    with pytest.raises(DataError, match="something else than expected") as found:
        Manifest(path=folder / "bad.yaml").build()
    assert "things" in str(found.value)
    (folder / "labels.yaml").write_text("structurs: {cord: 1}\n")
    with pytest.raises(DataError, match=r"labels\.yaml holds unknown keys"):
        Manifest(path=table(folder, *GOOD)).build()
    (folder / "labels.yaml").write_text("structures: {cord: 1, csf: 1}\n")
    with pytest.raises(DataError, match="distinct"):
        Manifest(path=table(folder, *GOOD)).build()


def test_one_of_path_and_packaged():
    for settings in ({}, {"path": "a.csv", "packaged": "mriad_data:x"}):
        with pytest.raises(ValidationError, match="give one of `path` and `packaged`"):
            Manifest(**settings)
    with pytest.raises(DataError, match="there is no package 'nobody'"):
        Manifest(packaged="nobody:manifest.csv").build()


def test_what_core_writes_is_read_back(folder, tmp_path_factory):
    index = Manifest(path=table(folder, *GOOD)).build()
    for target in (folder / "copy", folder):
        (folder / "manifest.csv").unlink(missing_ok=True)
        written = write_manifest(target, index)
        assert Manifest(path=written).build().fingerprint == index.fingerprint
    assert "img/a_t1.nii.gz" in written.read_text()
    assert str(folder) not in written.read_text()


@pytest.mark.parametrize(("name", "cases", "persons"), [("hippocampus", 80, 80), ("spine", 8, 3)])
def test_the_shipped_manifests_fit_the_real_data(real_data, name, cases, persons):
    index = Manifest(packaged=f"mriad_data:manifests/{name}", root=real_data / name).build()
    assert (len(index), len(index.persons)) == (cases, persons)
    few = CaseIndex(list(index)[:8], index.label_set)
    for case in few:
        sample = load_sample(case, list(case.channels), "hard", "hard", index.label_set)
        assert sample.target.max() == len(index.label_set)
