"""Everything that can be wrong with a BIDS folder, read from the messages."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from mriad.errors import DataError
from mriad_data.bids import Bids
from pydantic import ValidationError


def touch(root: Path, *names: str) -> None:
    """Empty files: a reader must not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def faults(dataset) -> str:
    with pytest.raises(DataError) as found:
        dataset.build()
    return str(found.value)


def test_a_sidecar_without_image(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_physio.tsv.gz")
    for name in ("sub-1/anat/sub-1_T1w.json", "sub-1/anat/sub-1_T2w.json", "sub-1/anat/sub-1_physio.json"):
        (tmp_path / name).write_text("{}")
    text = faults(Bids(root=tmp_path))
    assert "has 1 fault\n" in text
    assert "sub-1/anat/sub-1_T2w.json" in text
    assert "a sidecar without its image" in text
    assert Bids(root=tmp_path, contrasts=["T1w"]).build().column("id") == [
        "sub-1_T1w"
    ]  # T2w is not asked for


def test_all_faults_come_in_one_report(tmp_path):
    touch(
        tmp_path,
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/anat/sub-1_T2w.nii.gz",
        "sub-2/anat/sub-2_T1w.nii.gz",
        "derivatives/labels/sub-1/anat/sub-1_T1w_label-cord_seg.nii.gz",
        "derivatives/other/sub-1/anat/sub-1_T1w_label-cord_seg.nii.gz",
    )
    (tmp_path / "sub-2" / "anat" / "sub-2_T2w.json").write_text("{}")
    dataset = Bids(
        root=tmp_path,
        contrasts=["T1w", "T2w"],
        labels={"hard": "label-cord_seg"},
        structures={"cord": 1},
        exclude=["sub-9", "1x"],
        derivatives=["labels", "other", "none"],
    )
    text = faults(dataset)
    assert "has 8 faults" in text
    assert "'sub-9' names no person, case or image" in text
    assert "'1x' names no person, case or image; did you mean '1'?" in text
    assert "no image for contrast T2w (sub-2_T2w)" in text
    assert "sub-2_T2w.json" in text
    assert "no label 'hard' (sub-1_T2w_label-cord_seg)" in text
    assert "is there again as derivatives/other/sub-1" in text
    assert "derivatives/none" in text
    assert "set missing_image: leave_out and missing_label: leave_out or keep" in text
    (tmp_path / "sub-2" / "anat" / "sub-2_T2w.json").unlink()
    good = Bids(
        root=tmp_path,
        contrasts=["T1w", "T2w"],
        labels={"hard": "label-cord_seg"},
        structures={"cord": 1},
        derivatives=["labels"],
        missing_image="leave_out",
        missing_label="leave_out",
    )
    assert good.build().column("id") == ["sub-1_T1w"]
    kept = good.model_copy(update={"missing_label": "keep"}).build()
    assert kept.column("id") == ["sub-1_T1w", "sub-1_T2w", "sub-2_T1w"]
    text = faults(good.model_copy(update={"exclude": ["sub-1"]}))
    assert "no case of a BIDS folder is left" in text


def test_exclusions_by_person_case_and_image(tmp_path):
    for n in (1, 2, 3):
        touch(tmp_path, f"sub-{n}/anat/sub-{n}_flip-1_mt-on_MTS.nii.gz", f"sub-{n}/anat/sub-{n}_T2w.nii.gz")
    index = Bids(root=tmp_path, contrasts=["MTon", "T2w"], exclude=["1", "sub-2_MTon", "sub-3_T2w"]).build()
    assert index.column("id") == ["sub-2_T2w", "sub-3_MTon"]


def test_channels_missing_or_doubled(tmp_path):
    touch(
        tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_FLAIR.nii.gz"
    )
    touch(tmp_path, "sub-2/anat/sub-2_T1w.nii.gz")
    text = faults(Bids(root=tmp_path, channels={"T1w": "T1w", "FLAIR": "FLAIR"}))
    assert "channel T1w: sub-1/anat/sub-1_T1w.nii and sub-1/anat/sub-1_T1w.nii.gz" in text
    assert "no image for channel FLAIR (sub-2_FLAIR)" in text
    text = faults(Bids(root=tmp_path, contrasts=["T1w"]))
    assert "would both be case sub-1_T1w" in text


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        Bids(root=tmp_path / "none").build()
    touch(tmp_path, "file")
    with pytest.raises(DataError, match="a folder is meant"):
        Bids(root=tmp_path / "file").build()
    with pytest.raises(DataError, match="holds no BIDS image") as found:
        Bids(root=tmp_path).build()
    assert "sub-X/[ses-Y/]anat/" in str(found.value)


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"contrasts": ["T1w"], "channels": {"a": "T1w"}}, "not both"),
        ({"labels": {"hard": "seg"}}, "need `structures`"),
        ({"kinds": {"x": "soft"}}, "labels that `labels` does not"),
        ({"domain": "site"}, "none of contrast, participants"),
        (
            {"labels": {"a": "seg"}, "structures": {"x": 1}, "kinds": {"a": "sparse"}},
            "need a mask in `validity`, or `ignore`: a",
        ),
    ],
)
def test_settings_are_checked(settings_, text):
    with pytest.raises(ValidationError, match=text):
        Bids(root=".", **settings_)


def test_label_values_that_clash(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T1w_seg.nii.gz")
    with pytest.raises(DataError, match="label values must be distinct"):
        Bids(root=tmp_path, labels={"hard": "seg"}, structures={"a": 1, "b": 1}).build()


def test_links_and_names_that_other_systems_do_not_keep_apart(tmp_path):
    touch(
        tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/Sub-1_t1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz"
    )
    touch(tmp_path, "sub-é/anat/sub-é_T1w.nii.gz", "sub-e\u0301/anat/sub-e\u0301_T1w.nii.gz")
    (tmp_path / "sub-1" / "loop").symlink_to(tmp_path)
    (tmp_path / "sub-3" / "anat").mkdir(parents=True)
    (tmp_path / "sub-3" / "anat" / "sub-3_T1w.nii.gz").symlink_to("../../.git/annex/objects/gone.nii.gz")
    text = faults(Bids(root=tmp_path))
    assert "has 4 faults" in text
    assert "sub-1/loop" in text
    assert "leads back into itself" in text
    assert "is one file with Sub-1_t1w.nii.gz where case is not told apart" in text
    assert "sub-3/anat/sub-3_T1w.nii.gz" in text
    assert "with git-annex or DataLad, get the file's content first" in text
    assert "sub-é" in text


def test_what_git_annex_has_not_fetched_may_be_left_out(tmp_path):
    touch(
        tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T2w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz"
    )
    touch(tmp_path, "derivatives/x/sub-1_T1w_seg.nii.gz", "derivatives/x/sub-1_T2w_seg.nii.gz")
    for gone in ("sub-2/anat/sub-2_T2w.nii.gz", "derivatives/x/sub-2_T1w_seg.nii.gz"):
        (tmp_path / gone).symlink_to("../.git/annex/objects/gone.nii.gz")
    (tmp_path / "sub-2/anat/sub-2_T2w.json").write_text("{}")
    (tmp_path / "sub-3").mkdir()
    (tmp_path / "sub-3/sub-3_T2w.json").write_text("{}")
    dataset = Bids(root=tmp_path, contrasts=["T1w", "T2w"], labels={"hard": "seg"}, structures={"a": 1})
    text = faults(dataset)
    assert "has 4 faults" in text  # two links, T2w's label, a sidecar
    assert "get the file's content first" in text
    some = dataset.model_copy(update={"missing_image": "leave_out", "missing_label": "keep"})
    assert some.build().column("id") == ["sub-1_T1w", "sub-1_T2w", "sub-2_T1w"]
    labelled = some.model_copy(update={"missing_label": "leave_out"})
    assert labelled.build().column("id") == ["sub-1_T1w", "sub-1_T2w"]


def test_two_links_that_lead_to_each_other(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz")
    (tmp_path / "sub-1" / "x").symlink_to(tmp_path / "sub-2")
    (tmp_path / "sub-2" / "y").symlink_to(tmp_path / "sub-1")
    assert "leads back into itself" in faults(Bids(root=tmp_path))
    (tmp_path / "self").symlink_to("self")
    assert faults(Bids(root=tmp_path))


def test_a_linked_folder_is_followed(tmp_path):
    store = tmp_path / "store"
    touch(store, "sub-1/anat/sub-1_T1w.nii.gz")
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "sub-1").symlink_to(store / "sub-1")
    assert Bids(root=tmp_path / "bids").build().column("id") == ["sub-1_T1w"]


def test_names_in_any_script_and_long_paths(tmp_path, write):
    data = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)
    deep = tmp_path / ("x" * 200) / ("ü" * 100)
    write(deep / "sub-名前Ö" / "anat" / "sub-名前Ö_T1w.nii.gz", data)
    index = Bids(root=deep).build()
    assert index.column("person") == ["sub-名前Ö"]
    np.testing.assert_array_equal(index[0].channels["image"].read().data, data)
    assert pickle.loads(pickle.dumps(index)).fingerprint == index.fingerprint


def test_a_path_longer_than_the_system_allows_is_a_fault(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    start = Path.cwd()
    os.chdir(tmp_path / "sub-1")
    try:
        for _ in range(25):  # one step at a time: the whole path could not be named
            os.mkdir("y" * 250)  # noqa: PTH102
            os.chdir("y" * 250)
        Path("sub-1_T2w.nii.gz").touch()
    finally:
        os.chdir(start)
    text = faults(Bids(root=tmp_path))
    assert "the folder cannot be listed" in text
    assert "too long" in text


def test_a_name_that_is_not_utf8_is_a_fault(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/sub-1/anat/sub-1_\xff_T1w.nii.gz")).touch()
    assert "is not UTF-8" in faults(Bids(root=tmp_path))
