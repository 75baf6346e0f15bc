"""Split files that others publish: the papers', nnU-Net's, decathlon-like lists, joblib; and their faults."""

from __future__ import annotations

import gzip
import json
import pickle
import zlib

import pytest
from mriad.errors import SplitError
from mriad.vocabulary import Case, CaseIndex, LabelSet
from mriad_data.splits import FileSplit

LABELS = LabelSet(())
SPINE = CaseIndex(
    [
        Case(f"sub-{p}_{c}", f"sub-{p}", {}, contrast=c)
        for p in ("a01", "b02", "c03", "d04")
        for c in ("T1w", "T2w")
    ],
    LABELS,
)
FOLD = {"train": ["sub-a01", "sub-b02"], "val": ["sub-c03"], "test": ["sub-d04"]}
SIDES = {
    "train": ("sub-a01_T1w", "sub-a01_T2w", "sub-b02_T1w", "sub-b02_T2w"),
    "validation": ("sub-c03_T1w", "sub-c03_T2w"),
    "test": ("sub-d04_T1w", "sub-d04_T2w"),
}


def split(tmp_path, content, name="s.json", **fields) -> FileSplit:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return FileSplit(path=path, **fields)


def test_the_spinal_cord_papers_yaml(tmp_path):
    text = "test:\n- sub-d04\ntrain:\n- sub-a01\n- sub-b02\nval:\n- sub-c03\n"
    assert split(tmp_path, text.encode(), "datasplit.yaml").build(SPINE, 0, 0) == SIDES


@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress])
def test_ivadomeds_joblib_is_read_without_running_code(tmp_path, pack):
    names = {"train": FOLD["train"], "valid": FOLD["val"], "test": FOLD["test"]}
    assert split(tmp_path, pack(pickle.dumps(names)), "s.joblib").build(SPINE, 0, 0) == SIDES

    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    with pytest.raises(SplitError, match="a split file cannot be read") as found:
        split(tmp_path, pack(pickle.dumps({"train": [Evil()]})), "s.joblib").build(SPINE, 0, 0)
    assert "it names builtins.print; only plain lists of names are read" in str(found.value)


def test_a_decathlon_like_data_list(tmp_path):
    def entries(*names):
        return [{"image": f"/data/{n[:7]}/anat/{n}.nii.gz", "label": f"{n}_seg.nii.gz"} for n in names]

    content = {
        "name": "spine",
        "numTraining": 4,
        "labels": {"0": "background"},
        "training": entries(*SIDES["train"]),
        "validation": entries(*SIDES["validation"]),
        "test": entries(*SIDES["test"]),
    }
    assert split(tmp_path, content).build(SPINE, 0, 0) == SIDES


NNUNET = CaseIndex([Case(f"case_{i:03}", f"case_{i:03}", {}) for i in range(8)], LABELS)
FINAL = [
    {
        "train": [f"case_{i:03}" for i in range(6) if i % 3 != k],
        "val": [f"case_{i:03}" for i in range(6) if i % 3 == k],
    }
    for k in range(3)
]


class TestNnUnet:
    def test_a_test_list_beside_splits_final(self, tmp_path):
        made = split(tmp_path, FINAL, "splits_final.json", test=["case_006", "case_007"])
        assert made.folds() == 3
        sides = made.build(NNUNET, 1, 0)
        assert sides["validation"] == ("case_001", "case_004")
        assert sides["test"] == ("case_006", "case_007")
        (tmp_path / "test.txt").write_text("case_006\ncase_007\n")
        assert split(tmp_path, FINAL, test=tmp_path / "test.txt").build(NNUNET, 1, 0) == sides
        (tmp_path / "test.json").write_text('["case_006", "case_007"]')
        assert split(tmp_path, FINAL, test=tmp_path / "test.json").build(NNUNET, 1, 0) == sides

    def test_whom_no_fold_names_tests(self, tmp_path):
        sides = split(tmp_path, FINAL, others="test").build(NNUNET, 0, 0)
        assert sides["test"] == ("case_006", "case_007")

    def test_val_may_be_what_is_scored(self, tmp_path):
        few = NNUNET.select(lambda case: case.id < "case_006")
        sides = split(tmp_path, FINAL, val="test", validation=1).build(few, 0, 0)
        assert sides["test"] == ("case_000", "case_003")
        assert len(sides["validation"]) == 1
        assert len(sides["train"]) == 3
        assert {*sides["train"], *sides["validation"]} == {"case_001", "case_002", "case_004", "case_005"}

    def test_a_test_side_is_needed_and_only_one(self, tmp_path):
        with pytest.raises(SplitError, match="other sides than expected") as found:
            split(tmp_path, FINAL).build(NNUNET, 0, 0)
        assert "data.split.test: [..], or others: test; or val: test" in str(found.value)
        with pytest.raises(SplitError, match="a split file has a test side, and so has the experiment"):
            split(tmp_path, FOLD, test=["sub-d04"]).build(SPINE, 0, 0)


@pytest.mark.parametrize(
    ("content", "name", "text"),
    [
        (
            {"train": ["sub-a01", "sub-a01"], "val": ["sub-c03"], "test": ["sub-d04"]},
            "s.json",
            "lists a person or case twice",
        ),
        (
            {"train": ["sub-a01", "sub-a01_T1w"], "val": ["sub-c03"], "test": ["sub-d04"]},
            "s.json",
            "twice  sub-a01_T1w",
        ),
        (
            {"train": ["sub-a01"], "val": ["sub-a01", "sub-c03"], "test": ["sub-d04"]},
            "s.json",
            "1 person is on two sides",
        ),
        (
            {"train": ["sub-a01"], "val": [{"label": "x"}], "test": []},
            "s.json",
            "neither a name nor a mapping with `image`",
        ),
        ({"train": ["sub-a01"], "val": ["sub-z09"], "test": ["sub-d04"]}, "s.json", "does not have"),
        (b"a: [1\n", "s.yaml", "cannot be read"),
        (b"\x80\x04broken", "s.joblib", "cannot be read"),
        ({"train": ["sub-a01", "sub-b02"], "val": ["sub-c03"], "test": []}, "s.json", "no case for test"),
        ({"train": [], "val": ["sub-c03"], "valid": [], "test": []}, "s.json", "other sides than expected"),
    ],
)
def test_a_faulty_file_is_refused(tmp_path, content, name, text):
    with pytest.raises(SplitError) as found:
        split(tmp_path, content, name, others="leave_out").build(SPINE, 0, 0)
    assert text in str(found.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(SplitError, match="cannot be read") as found:
        FileSplit(path=tmp_path / "no.json").folds()
    assert "No such file" in str(found.value)
