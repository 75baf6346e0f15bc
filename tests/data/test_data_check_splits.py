"""`mriad data check` with a split: nobody may be on two sides, under whatever name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mriad.geometry import Grid
from mriad.images import write_like
from mriad_data.checking.run import check_data

YAML = """
name: spine
data:
  dataset: {type: data.manifest, path: manifest.csv}
  labels: none
  channels: [mri]
  split: %s
model: {type: standard.plain_unet, features: [4, 8]}
loss: {type: standard.dice_ce}
"""


@pytest.fixture
def place(tmp_path):
    """Six cases of six persons; `copy` has the voxels of p1."""
    rng = np.random.default_rng(0)
    rows = ["id,person,contrast,image:mri"]
    for i in range(6):
        write_like(tmp_path / f"i{i}.nii.gz", rng.normal(size=(5, 6, 7)), Grid.of((5, 6, 7), np.eye(4)))
        rows.append(f"c{i},p{i},T1w,i{i}.nii.gz")
    rows.append("c9,copy,T1w,i1.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def splits(target, **options):
    report = check_data(str(target), **options).report
    assert "splits" not in report.skipped
    return [(f.level, f.what, f.detail) for f in report.findings if f.check == "splits"]


def test_a_split_file_that_leaks_by_person_and_by_voxels(place):
    file = place / "split.json"
    sides = {"train": ["p0", "p1", "c2"], "val": ["p3"], "test": ["p4", "copy", "p5"]}
    file.write_text(json.dumps(sides))
    rows = splits(place, split=file)
    assert rows == [
        ("error", "a person is in two splits", "p1 (also called copy): train c1, c9; test c1, c9")
    ]


def test_cases_of_one_person_on_two_sides(place):
    text = (place / "manifest.csv").read_text().replace("c2,p2", "c2,p0")
    (place / "manifest.csv").write_text(text)
    file = place / "split.json"
    file.write_text(json.dumps({"train": ["c0", "p1"], "val": ["p3"], "test": ["c2", "p4"]}))
    rows = splits(place, split=file)
    assert rows[0] == ("error", "a person is in two splits", "p0: train c0; test c2")
    assert rows[1] == ("note", "cases are on no side", "c5")


def test_names_that_are_not_there_and_files_that_are_no_splits(place):
    file = place / "split.json"
    file.write_text(json.dumps([{"train": ["p0", "p7"], "val": ["p3"]}]))
    rows = splits(place, split=file)
    assert rows[0][:2] == ("error", "a split names what is not there")
    assert rows[0][2].startswith("p7")
    file.write_text("[1, 2")
    assert splits(place, split=file)[0][:2] == ("error", "a split file cannot be read")


def test_nnunet_folds_without_test_pass(place):
    file = place / "splits_final.json"
    file.write_text(
        json.dumps([{"train": ["c0", "c1", "c9", "c2"], "val": ["c3", "c4", "c5"]}, {"train": ["c3", "c4", "c5"],
                    "val": ["c0", "c1", "c2", "c9"]}])
    )  # fmt: skip
    assert not splits(place, split=file)


def test_an_experiment_is_checked_in_every_fold(place):
    experiment = place / "e.yaml"
    experiment.write_text(YAML % "{type: data.k_fold, k: 3}")
    assert not splits(experiment)
    (place / "split.json").write_text(
        json.dumps({"train": ["c0", "c1"], "validation": ["c3", "c2"], "test": ["c9", "c4", "c5"]})
    )
    experiment.write_text(YAML % "{type: data.file, path: split.json}")
    (row,) = splits(experiment)
    assert row == (
        "error",
        "1 person is on two sides of the split",
        "p1 (also called copy): train: c1; test: c9",
    )


def test_a_channel_that_the_experiment_reads_is_missing(place):
    experiment = place / "e.yaml"
    experiment.write_text(YAML % "{type: data.k_fold, k: 3}")
    report = check_data(str(experiment), ["data.channels=[mri, flair]"]).report
    rows = [f for f in report.findings if f.check == "contrasts"]
    assert {(f.level, f.what) for f in rows} == {
        ("error", "a case lacks a channel that the experiment reads")
    }
    assert len(rows) == 7


def test_the_label_that_the_experiment_trains_on(place):
    experiment = place / "e.yaml"
    experiment.write_text((YAML % "{type: data.k_fold, k: 3}").replace("labels: none", "labels: hard"))
    rows = [f for f in check_data(str(experiment)).report.findings if f.check == "values"]
    assert [(f.level, f.what, f.detail) for f in rows] == [
        ("error", "no case has the label that the experiment trains on", "hard; there are: none")
    ]
    label = np.zeros((5, 6, 7), np.uint8)
    label[1:3, 1:4, 2:5] = 1
    write_like(place / "l.nii.gz", label, Grid.of((5, 6, 7), np.eye(4)), "labels")
    lines = (place / "manifest.csv").read_text().splitlines()
    lines = [lines[0] + ",label:hard", lines[1] + ",l.nii.gz", *(line + "," for line in lines[2:])]
    (place / "manifest.csv").write_text("\n".join(lines) + "\n")
    (place / "labels.yaml").write_text("structures: {cord: 1}\n")
    (row,) = [f for f in check_data(str(experiment)).report.findings if f.check == "values"]
    assert row.level == "note"
    assert row.detail == "6 of 7, taken as unlabelled: c1, c2, c3, c4 and 2 more"
