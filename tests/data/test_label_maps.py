"""Label maps without images: real ones of three sources, SynthSeg's table of labels, and what can be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from mriad.errors import DataError
from mriad.testing import check_dataset
from mriad_data.freesurfer import NAMES, SIDES
from mriad_data.label_maps import LabelMaps
from mriad_data.label_table import read_label_table
from pydantic import ValidationError

if TYPE_CHECKING:
    from pathlib import Path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def faults(dataset) -> str:
    with pytest.raises(DataError) as found:
        dataset.build()
    return str(found.value)


def test_real_brain_maps_with_synthsegs_table(real_data):
    dataset = LabelMaps(root=real_data / "brain-labels" / "labelmaps", table="../labels.tsv")
    index = dataset.build()
    assert len(index) == len(index.persons) == 14
    assert dict(index[0].channels) == {}
    assert len(index.label_set) == 53
    for case in index[:3]:
        values = set(np.unique(case.labels["hard"].source.read().data).tolist())
        assert values <= {0, *(s.value for s in index.label_set.structures)}
    check_dataset(dataset, cases=1)


def test_the_table_of_labels(real_data):
    """Against the pack's own account: 54 values, 33 segmented with background, 18 a side (4 and 43 are partners)."""
    table = read_label_table(real_data / "brain-labels" / "labels.tsv")
    assert len(table.rows) == 54
    assert len(table.segmented) == 32
    assert [sum(r.side == side for r in table.rows) for side in ("neutral", "left", "right")] == [18, 18, 18]
    assert (table.partner(4), table.partner(43), table.partner(16)) == (43, 4, 16)
    assert table.to_segmented[136] == 4
    assert table.to_segmented[25] == 2
    assert table.to_segmented[507] == 0
    assert table.classes[17] == table.classes[18]
    assert table.segmented.names[0] == "3rd_ventricle"
    assert (
        len(set(table.label_set.names)) == 53
    )  # names that the source does not give are told apart by value
    with pytest.raises(DataError, match="no partner"):
        table.partner(9999)


def test_real_lesion_and_spine_maps(real_data):
    tissue = {"csf": 1, "grey_matter": 2, "white_matter": 3, "lesion": 4}
    brains = LabelMaps(root=real_data / "ms-lesions" / "labelmaps", structures=tissue).build()
    assert brains.persons == ("sub-01", "sub-02", "sub-03", "sub-04", "sub-05", "sub-07")
    assert set(np.unique(brains[0].labels["hard"].source.read().data)) == {0, 1, 2, 3, 4}
    cords = LabelMaps(
        root=real_data / "spine" / "labelmaps", structures={"cord": 1, "csf": 2}, exclude=["sub-unf01"]
    )
    assert len(cords.build()) == 6


def test_arrays_as_synthseg_ships_them(tmp_path):
    np.save(tmp_path / "generation_labels.npy", np.array([0, 14, 2, 41]))
    np.save(tmp_path / "generation_classes.npy", np.array([0, 1, 2, 2]))
    np.save(tmp_path / "segmentation_labels.npy", np.array([0, 14, 2, 0]))
    table = read_label_table(tmp_path)
    assert table.label_set.names == (
        "3rd_ventricle",
        "left_cerebral_white_matter",
        "right_cerebral_white_matter",
    )
    assert table.partner(2) == 41
    assert table.classes == {0: 0, 14: 1, 2: 2, 41: 2}
    assert table.segmented.names == ("3rd_ventricle", "left_cerebral_white_matter")
    np.save(tmp_path / "generation_classes.npy", np.array([0, 1]))
    with pytest.raises(DataError, match="differ in length"):
        read_label_table(tmp_path)
    (tmp_path / "generation_classes.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read"):
        read_label_table(tmp_path)
    (tmp_path / "generation_classes.npy").unlink()
    with pytest.raises(DataError, match="not complete") as found:
        read_label_table(tmp_path)
    assert "generation_classes.npy" in str(found.value)


def test_our_names_are_those_of_the_packs_table(real_data):
    """FreeSurfer's names, written down here, against the table that came with the label maps."""
    table = read_label_table(real_data / "brain-labels" / "labels.tsv")
    ours = {
        row.value: (NAMES[row.value], SIDES.get(row.value, "neutral"))
        for row in table.rows
        if row.value in NAMES
    }
    theirs = {row.value: (row.name, row.side) for row in table.rows if row.value in NAMES}
    assert ours == theirs
    assert len(ours) > 35
    assert {row.value: row.side for row in table.rows if row.side != "neutral"} == {
        value: side for value, side in SIDES.items() if value in {row.value for row in table.rows}
    }


def test_a_bad_table(tmp_path):
    table = tmp_path / "labels.tsv"
    table.write_text(
        "label\tname\tside\n0\tbackground\tneutral\n1\ta\tup\nx\tb\tleft\n3\tc\tleft\n3\td\tleft\n\te\tleft\n"
    )
    with pytest.raises(DataError, match="has 4 faults") as found:
        read_label_table(table)
    for part in ("side is 'up'", "label is 'x'", "label 3 is also in row 4", "label is empty"):
        assert part in str(found.value)
    table.write_text("value\tname\n1\ta\n")
    with pytest.raises(DataError, match="lacks columns") as found:
        read_label_table(table)
    assert "missing  label" in str(found.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_label_table(tmp_path / "none.tsv")


def test_folders_patterns_and_persons(tmp_path):
    touch(tmp_path, "a/p1_seg.nii.gz", "a/p1_img.nii.gz", "b/p2_seg.nii", "notes.txt")
    dataset = LabelMaps(
        root=tmp_path, pattern="*_seg.nii*", structures={"x": 1}, person="(p[0-9])", domain="d"
    )
    index = dataset.build()
    assert index.column("id") == ["p1_seg", "p2_seg"]
    assert index.persons == ("p1", "p2")
    assert index.column("domain") == ["d", "d"]
    assert dataset.model_copy(update={"exclude": ["p2"]}).build().persons == ("p1",)


def test_all_faults_come_in_one_report(tmp_path):
    touch(tmp_path, "a/p1.nii.gz", "b/p1.nii.gz", "b/P1.nii.gz", "c/q.nii.gz")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "loop").symlink_to(tmp_path)
    (tmp_path / "d" / "p4.nii.gz").symlink_to("gone")
    text = faults(LabelMaps(root=tmp_path, structures={"x": 1}, person="([pP][0-9])", exclude=["p9"]))
    for part in (
        "has 6 faults",
        "has the name of a/p1.nii.gz",
        "is one file with P1.nii.gz",
        "does not fit person",
        "a link to nothing",
        "leads back into itself",
        "'p9' names no case or person",
    ):
        assert part in text


def test_empty_folders_and_settings(tmp_path):
    with pytest.raises(DataError, match="holds no label map"):
        LabelMaps(root=tmp_path, structures={"x": 1}).build()
    with pytest.raises(DataError, match="there is no such folder"):
        LabelMaps(root=tmp_path / "none", structures={"x": 1}).build()
    with pytest.raises(ValidationError, match="give one of `table` and `structures`"):
        LabelMaps(root=tmp_path)
    with pytest.raises(DataError, match="distinct"):
        LabelMaps(root=tmp_path, structures={"x": 1, "y": 1}).build()
